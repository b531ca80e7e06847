"""The front door: ansible-playbook playbooks/prune.yml, on ninety days of points."""

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml
from stack_backup import catalog
from stack_backup.artifact import Partial

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime.now(timezone.utc)
DAYS = [NOW - timedelta(days=day) for day in range(90)]


def publish(folder, store, at, size=1000):
    point = f"{at:%Y%m%d-%H%M%S}"
    partial = Partial(folder, store, store, point)
    partial.create()
    partial.artifact.write_bytes(b"x" * size)
    artifact = {"name": partial.artifact.name, **partial.seal()[partial.artifact.name]}
    manifest = {"format": 1, "stack": "test", "store": store, "engine": store, "artifact": artifact}
    manifest.update(point={"id": point, "stores": ["postgres", "redis"]}, pin={"at": "x"}, seconds={"total": 1.0})
    partial.publish(manifest)


@pytest.fixture
def backups(tmp_path):
    folder = tmp_path / "backups"
    folder.mkdir(mode=0o700)
    for at in DAYS:
        for store in ("postgres", "redis"):
            publish(folder, store, at)
    return folder


def prune(backups, *args):
    inventory = {
        "stacks": {
            "hosts": {"test": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}},
            "vars": {
                "stack_backup_dir": str(backups),
                "stack_stores": [{"name": "redis", "engine": "redis", "container": "none"}],
            },
        }
    }
    hosts = backups.parent / "hosts.yml"
    hosts.write_text(yaml.safe_dump(inventory))
    argv = ["ansible-playbook", "-i", str(hosts), "playbooks/prune.yml", *args]
    env = {**os.environ, "ANSIBLE_HOME": str(backups.parent / "ansible"), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    result = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


def expected():
    """The policy of the defaults, by hand: the newest of seven days, four ISO weeks, three months."""
    names = {f"{at:%Y%m%d-%H%M%S}" for at in DAYS[:7]}
    for form, count in (("%G-W%V", 4), ("%Y-%m", 3)):
        newest = {}
        for at in DAYS:
            newest.setdefault(at.strftime(form), f"{at:%Y%m%d-%H%M%S}")
        names |= set(list(newest.values())[:count])
    return sorted(names)


def names(backups):
    return sorted(path.name for path in backups.glob("*/*"))


def test_ninety_days_are_pruned_as_the_check_said_and_then_no_more(backups):
    before = names(backups)
    stay = expected()
    go = sorted({f"{at:%Y%m%d-%H%M%S}" for at in DAYS} - set(stay))

    code, said = prune(backups, "--check", "--diff")
    assert code == 0 and names(backups) == before, said
    lines = said.splitlines()
    assert [line[1:].split()[0] for line in lines if line.startswith("-20")] == go
    assert not [line for line in lines if line.startswith("+20")]
    assert f"{len(go)} of 90 recovery points would be removed" in said and "no rule keeps it" in said
    assert "changed=1" in said

    code, said = prune(backups)
    assert code == 0 and f"{len(go)} of 90 recovery points removed" in said, said
    assert all(f"keep     {name} " in said for name in stay) and all(f"remove   {name} " in said for name in go)
    assert names(backups) == sorted(
        f"{store}-{name}{suffix}"
        for name in stay
        for store, kind in (("postgres", ".dump"), ("redis", ".rdb"))
        for suffix in (kind, ".json")
    )
    assert sorted(catalog.read(backups, "test").points) == stay

    code, said = prune(backups)
    assert code == 0 and "changed=0" in said and "0 of" in said, said


def test_a_newest_point_that_is_too_small_fails_the_run_and_removes_nothing(backups):
    newest = backups / "redis" / f"redis-{DAYS[0]:%Y%m%d-%H%M%S}.rdb"
    manifest = newest.with_suffix(".json")
    data = json.loads(manifest.read_text())
    data["artifact"]["size"] = 100
    manifest.write_text(json.dumps(data))
    newest.write_bytes(b"x" * 100)
    before = names(backups)
    code, said = prune(backups)
    assert code == 2 and names(backups) == before
    assert "has 100 bytes" in said and "the median of the 7 before it" in said and "retention_force=true" in said
    code, said = prune(backups, "-e", "retention_force=true")
    assert code == 0 and len(names(backups)) < len(before), said


@pytest.mark.parametrize(
    "given, said",
    [
        ({"retention_keep_daily": -1}, "retention_keep_daily is -1"),
        ({"retention_keep_daily": "seven"}, "retention_keep_daily"),
        ({f"retention_keep_{rule}": 0 for rule in ("daily", "weekly", "monthly")}, "every retention_keep_* is 0"),
        (
            {"retention_keep_dayly": 30},
            "retention_keep_dayly is no variable of this project: did you mean retention_keep_daily?",
        ),
    ],
)
def test_a_policy_that_is_none_is_refused(backups, given, said):
    before = names(backups)
    code, answer = prune(backups, "-e", json.dumps(given))
    assert code == 2 and said in answer, answer
    assert names(backups) == before
