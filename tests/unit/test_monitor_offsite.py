"""What a check says of offsite copies."""

import pytest
from stack_backup import catalog
from stack_backup.monitor import facts
from stack_backup.monitor import state as memory

from tests.world import CRON, HOUR, World

REMOTE = "s3:bucket/shop"


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Seven points of a week, all of them offsite since an hour."""
    monkeypatch.setattr(facts, "_AGAIN", 0.0)
    monkeypatch.setattr(memory, "_RUN", tmp_path / "run")
    world = World(tmp_path)
    world.well()
    world.more = {"offsite_remote": REMOTE}
    world.ids = sorted(catalog.read(world.backups, "shop").points)
    world.copied(REMOTE, world.ids, world.now - HOUR)
    return world


def samples(world):
    answer = world.check()
    found = {item["name"]: item["value"] for item in answer["metrics"] if item["name"].startswith("offsite")}
    assert all(f'stack_backup_{name}{{stack="shop"}}' in world.metrics.read_text() for name in found)
    return found


def test_all_is_there(world):
    assert world.bad() == ({}, "")
    (finding,) = (item for item in world.check()["findings"] if item["check"] == "offsite")
    assert finding["message"] == f"7 recovery points are at {REMOTE}, copied last 60 min ago"
    newest = facts.point_time(world.ids[-1])
    assert samples(world) == {
        "offsite_points": 7,
        "offsite_point_timestamp_seconds": newest,
        "offsite_last_success_timestamp_seconds": world.now - HOUR,
    }


def test_nobody_asks_where_there_is_no_remote(world):
    world.more = {}
    (world.backups / ".offsite" / "state.json").unlink()
    assert world.bad() == ({}, "")
    assert "offsite" not in {item["check"] for item in world.check()["findings"]}
    assert samples(world) == {}


def test_copies_that_stopped(world):
    assert world.bad(later=2 * HOUR, offsite_max_age_hours=4)[0] == {}
    bad, said = world.bad(later=4 * HOUR, offsite_max_age_hours=4)
    assert bad == {"offsite": 2}
    assert f"the last copy to {REMOTE} that ended well was 5 h ago, more than 4 h: see what job offsite says" in said


@pytest.mark.parametrize(("hours", "bad"), [(4, {}), (2, {"offsite": 2})])
def test_a_point_that_is_not_there(world, hours, bad):
    """It is three hours old."""
    world.copied(REMOTE, world.ids[:-1], world.now)
    found, said = world.bad(offsite_max_age_hours=hours)
    assert found == bad
    assert not bad or f"not at {REMOTE}, and older than 2 h: recovery point {world.ids[-1]}: " in said


def test_what_the_remotes_own_retention_removed_is_not_missed(world):
    world.copied(REMOTE, world.ids[2:], world.now, pruned=world.ids[:2])
    assert world.bad()[0] == {}
    world.copied(REMOTE, world.ids[2:], world.now)
    assert world.bad()[0] == {"offsite": 2}


def test_nothing_was_ever_copied(world):
    world.more = {"offsite_remote": "s3:other/shop"}  # what is known is of another remote
    bad, said = world.bad()
    assert bad == {"offsite": 2}
    assert "nothing was ever copied to s3:other/shop: see what job offsite says" in said
    assert samples(world) == {"offsite_points": 0}
    # A schedule that is an hour old.
    world.cron.write_text(f"{CRON}0 5 * * * root x run offsite\n")
    assert world.bad(later=HOUR)[0] == {}
    assert world.bad(later=27 * HOUR, max_age_hours=99, jobs={})[0] == {"offsite": 2}


def test_a_failed_copy_is_forgiven_for_a_later_one(world):
    world.record("offsite", world.now - 2 * HOUR, ok=False, error="NoSuchBucket")
    assert world.bad()[0] == {}
    world.copied(REMOTE, world.ids, world.now - 3 * HOUR)
    bad, said = world.bad()
    assert bad == {"job_offsite": 2} and "job offsite failed 2 h ago: NoSuchBucket" in said


def test_a_state_that_does_not_read(world):
    (world.backups / ".offsite" / "state.json").write_text('{"points": 7}')
    assert world.bad()[0] == {"offsite": 2}
