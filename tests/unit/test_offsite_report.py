"""What the host's command says of offsite copies."""

import json

import pytest
from stack_backup import catalog, cli

from tests.world import HOUR, World

REMOTE = "s3:bucket/shop"


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Two points, the older one offsite since two hours, as one that is not here any more; what a command says."""
    world = World(tmp_path)
    for hours in (30, 3):
        world.point(world.now - hours * HOUR)
    monkeypatch.setenv("STACK_BACKUP_ETC", str(tmp_path))
    drill = ["backup_drill", {"stack": "shop", "backup_dir": str(world.backups)}]
    (tmp_path / "shop.json").write_text(json.dumps({"format": 1, "stack": "shop", "verify": [drill]}))

    def run(*args):
        cli.main(args)
        return capsys.readouterr().out.splitlines()

    run.world, run.points = world, sorted(catalog.read(world.backups, "shop").points)
    return run


def test_where_nothing_is_offsite(said):
    assert [line.split()[-7] for line in said("list")[1:]] == ["-", "-"]
    assert not any("newest recovery point at" in line for line in said("status"))


def test_since_when_a_point_is_offsite(said):
    said.world.copied(REMOTE, ["20200101-000000", said.points[0]], said.world.now - 2 * HOUR)
    _head, gone, first, second = said("list")
    assert gone.split()[0] == "20200101-000000" and gone.endswith("offsite     -         2 h 0 min ago")
    assert first.split()[0] == said.points[0] and "2 h 0 min ago  postgres" in first
    assert second.split()[0] == said.points[1] and "ago" not in second
    told = f"newest recovery point at {REMOTE}: {said.points[0]}, since 2 h 0 min ago; copied last 2 h 0 min ago"
    assert told in said("status")
    assert json.loads("".join(said("status", "--json")))["offsite"]["points"][said.points[0]]
    said.world.copied(REMOTE, [], 0.0)
    assert f"newest recovery point at {REMOTE}: none; no copy ended well yet" in said("status")
