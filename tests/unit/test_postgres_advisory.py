"""Which programs have holes that are known."""

import pytest
from stack_backup.postgres.advisory import outdated
from world import World


@pytest.mark.parametrize("version", [140023, 150018, 160014, 170010, 170012, 180004, 190000])
def test_the_mended_ones_are_well(version):
    assert outdated(version, "postgres") == ""


@pytest.mark.parametrize(
    ("version", "holes", "cure"),
    [
        (170005, ["CVE-2025-8714", "CVE-2025-8715", "CVE-2026-6477"], "update it to 17.10 or later"),
        (170006, ["CVE-2026-6477"], "update it to 17.10 or later"),
        (160003, ["CVE-2024-7348", "CVE-2025-8714", "CVE-2025-8715", "CVE-2026-6477"], "update it to 16.14"),
        (180003, ["CVE-2026-6477"], "update it to 18.4"),
        (130023, ["CVE-2026-6477"], "move to a later one"),
        (110022, ["CVE-2024-7348", "CVE-2025-8714", "CVE-2025-8715", "CVE-2026-6477"], "move to a later one"),
        (0, ["CVE-2024-7348"], "of an unknown version"),
    ],
)
def test_the_others_are_told_with_the_cure(version, holes, cure):
    said = outdated(version, "postgres:17")
    assert ", ".join(holes) in said and cure in said and "postgres:17" in said
    assert said.count("CVE-") >= len(holes)


def test_the_check_tells_what_took_the_newest_point(tmp_path, monkeypatch):
    monkeypatch.setattr("stack_backup.monitor.facts._AGAIN", 0.0)
    world = World(tmp_path)
    world.well()
    assert "programs_postgres" not in {item["check"] for item in world.check()["findings"]}  # taken by an older version
    spoil(world, 170012)
    assert [item["status"] for item in world.check()["findings"] if item["check"] == "programs_postgres"] == [0]
    spoil(world, 170005)
    status, said = world.bad()
    assert status == {"programs_postgres": 1} and "postgres:17" in said and "update it to 17.10" in said


def spoil(world, version):
    import json

    manifest = sorted(path for path in (world.backups / "postgres").glob("*.json") if "verified" not in path.name)[-1]
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**told, "client_version": version, "source": {"image": "postgres:17"}}))
