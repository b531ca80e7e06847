"""What is told of a stack's backups, against the files that there are."""

import json
import subprocess
import time

import pytest
from stack_backup import arguments, status
from stack_backup.catalog import verified_path
from stack_backup.monitor import facts

from tests.world import DAY, HOUR, World, point_id

REMOTE = "s3:bucket/shop"


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "_AGAIN", 0.0)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield World(tmp_path)
    monkeypatch.undo()
    time.tzset()


def look(world, **given):
    params = {name: option.get("default") for name, option in arguments.STACK_STATUS.items()}
    params.update(stack="shop", backup_dir=str(world.backups), state_dir=str(world.state))
    params.update(schedule_file=str(world.cron))
    told = status.look({**params, **given}, world.now)
    json.dumps(told)
    return told


def test_a_week(world):
    made = world.well()
    told = look(world)
    ids = sorted(artifact.name[9:24] for artifact in (stores["postgres"] for stores in made))
    assert [point["id"] for point in told["points"]] == ids
    assert told["totals"] == {"points": 7, "complete": 7, "bytes": 7 * 20000} and told["error"] == ""
    assert told["newest"] == told["points"][-1]
    newest = told["points"][-1]
    assert (newest["bytes"], newest["seconds"], newest["complete"], newest["fault"]) == (20000, 1.5, True, "")
    assert newest["keeps"].startswith("newest, daily")
    (drill,) = told["drills"]
    assert drill["id"] == ids[-2] and drill["ok"] and drill["at"] == int(world.now - 20 * HOUR)
    assert drill["seconds"] == 5.0  # both stores, one after the other
    assert sorted(told["next"]) == ["backup", "verify"]
    assert time.strftime("%H:%M", time.gmtime(told["next"]["backup"])) == "02:15"
    assert 0 < told["next"]["backup"] - world.now <= DAY
    assert sum(day["points"] for day in told["days"]) == 7 and told["months"] == []
    assert told["offsite"] is None
    assert told["disk"]["total"] >= told["disk"]["free"] > 0


def test_nothing_is_changed(world):
    world.well()
    before = {path: path.stat().st_mtime_ns for path in world.backups.parent.rglob("*")}
    look(world, offsite_remote=REMOTE)
    assert {path: path.stat().st_mtime_ns for path in world.backups.parent.rglob("*")} == before


def test_growth_against_the_seven_before(world):
    for day, size in ((9, 1), (8, 100), (7, 100), (6, 100), (5, 90), (4, 110), (3, 100), (2, 100), (1, 150)):
        world.point(world.now - day * DAY, size)
    assert look(world)["trend"] == {"usual": 200, "of": 7, "change": 0.5}


def test_a_point_of_one_store_is_not_held_against_whole_ones(world):
    world.point(world.now - 3 * DAY, 1000)
    world.publish(world.now - 2 * DAY, "redis", 10, stores=("redis",))
    world.point(world.now - DAY, 1100)
    told = look(world)
    assert told["trend"] == {"usual": 2000, "of": 1, "change": 0.1}
    world.publish(world.now - HOUR, "redis", 10, stores=("redis",))
    told = look(world)
    assert told["newest"]["bytes"] == 10 and told["trend"]["usual"] == 10


def test_a_point_of_the_future_is_not_the_newest(world):
    for when, size in ((-2 * DAY, 100), (-DAY, 200), (3 * DAY, 5)):
        world.point(world.now + when, size)
    told = look(world)
    assert told["newest"]["id"] == point_id(world.now - DAY)
    assert told["trend"] == {"usual": 200, "of": 1, "change": 1.0}
    assert told["points"][-1]["keeps"] == "it is of the future: the clock was set back"


def test_what_is_not_whole_is_told_with_why(world):
    world.well()
    world.publish(world.now - 2 * HOUR, "postgres", failed={"redis": "redis refused"})
    world.publish(world.now - HOUR, "postgres", purpose="safety")
    world.publish(world.now - HOUR, "redis", purpose="safety")
    (torn,) = world.backups.glob(f"redis/redis-{point_id(world.now - 3 * HOUR - DAY)}.rdb")
    torn.write_bytes(b"x")
    told = look(world)
    by_id = {point["id"]: point for point in told["points"]}
    assert by_id[point_id(world.now - 2 * HOUR)]["fault"] == "incomplete, redis refused"
    assert by_id[point_id(world.now - HOUR)]["safety"]
    assert by_id[point_id(world.now - 3 * HOUR - DAY)]["fault"] == "store redis is damaged"
    assert told["newest"]["id"] == point_id(world.now - 3 * HOUR)
    assert told["totals"]["points"] == 9 and told["totals"]["complete"] == 6
    assert sum(day["complete"] for day in told["days"]) == 6
    assert sum(day["points"] for day in told["days"]) == 8  # a safety backup is none of the calendar's


def test_a_drill_that_failed_or_was_of_one_store(world):
    made = world.well()
    world.drill(made[0]["postgres"], world.now - HOUR, ok=False, error="no such role")
    world.drill(made[1]["redis"], world.now - 2 * HOUR)
    verified_path(made[1]["redis"].with_suffix(".json")).write_text(
        json.dumps({"ok": True, "at": "2026-11-01T00:00:00Z", "seconds": 9, "checked": {"seconds": {"total": 7.25}}})
    )
    told = look(world)
    drills = {drill["id"]: drill for drill in told["drills"]}
    failed, some = drills[told["points"][0]["id"]], drills[told["points"][1]["id"]]
    assert not failed["ok"] and failed["error"] == "postgres: no such role"
    assert some["stores"] == ["redis"] and some["missing"] == ["postgres"]
    assert (some["seconds"], some["restore_seconds"]) == (9.0, 7.2)


def test_a_drills_result_of_odd_content(world):
    made = world.well()
    verified_path(made[3]["redis"].with_suffix(".json")).write_text(
        json.dumps({"ok": True, "at": 7, "seconds": "long", "checked": []})
    )
    assert len(look(world)["drills"]) == 2


def test_offsite(world):
    made = world.well()
    ids = sorted(artifact.name[9:24] for artifact in (stores["postgres"] for stores in made))
    world.copied(REMOTE, [*ids[1:5], "20250101-020000"], world.now - HOUR, pruned=ids[:1])
    told = look(world, offsite_remote=REMOTE)
    assert told["offsite"] == {
        "remote": REMOTE,
        "at": int(world.now - HOUR),
        "points": 5,
        "newest": ids[4],
        "lacking": 2,
        "only_there": 1,
    }
    assert [point["offsite"] is not None for point in told["points"]] == [False, *[True] * 4, False, False]
    assert look(world, offsite_remote="s3:other")["offsite"]["at"] is None


def test_the_older_ones_are_told_by_month(world):
    for day in range(0, 400, 8):
        world.point(world.now - HOUR - day * DAY, 100)
    world.publish(world.now - 300 * DAY, "redis", stores=("redis",), purpose="safety")
    told = look(world, points=10)
    assert len(told["points"]) == 10 and told["totals"]["points"] == 51
    assert sum(day["points"] for day in told["days"]) + sum(month["points"] for month in told["months"]) == 50
    assert max(month["month"] for month in told["months"]) <= min(day["day"] for day in told["days"])[:6]
    assert {(month["bytes"], month["seconds"]) for month in told["months"]} == {(200, 1.5)}


def test_what_goes_when(world):
    world.well()
    world.cron.write_text("15 2 * * * root x run backup\n15 3 * * * root x run prune\n")
    told = look(world, keep_daily=3, keep_weekly=0, keep_monthly=0, preview_days=10)
    retention = told["retention"]
    assert not retention["supposed"] and retention["prunes"] == 10 and retention["held"] == ""
    assert sum(item["points"] for item in retention["goes"]) == 6  # all but the one that a drill restored
    first = retention["goes"][0]
    assert first["bytes"] == 20000 * first["points"] and first["why"] == ["no rule keeps it"]
    gone = {point["id"]: point["goes"] for point in told["points"]}
    assert gone[first["ids"][0]] == first["at"] and gone[told["drills"][0]["id"]] is None
    assert look(world, keep_daily=0, keep_weekly=0, keep_monthly=0)["retention"]["error"].startswith(
        "every retention_keep"
    )


def test_no_folder_no_schedule(world):
    world.cron.unlink()
    told = look(world, backup_dir="/nowhere")
    assert "/nowhere is missing" in told["error"]
    assert (told["newest"], told["retention"], told["next"], told["points"]) == (None, None, {}, [])
    told = look(world)
    assert told["error"] == "" and told["newest"] is None and told["retention"]["supposed"]


def test_points_that_nobody_signed_are_told_as_such(world, tmp_path):
    world.well()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    told = look(world, allowed_signers=[(tmp_path / "key.pub").read_text().strip()])
    assert told["newest"] is None and told["totals"]["complete"] == 0
    assert (
        all("is not signed by who may sign" in point["fault"] for point in told["points"]) and len(told["points"]) == 7
    )


def test_restores_and_their_downtime(world):
    world.well()
    world.journal("done", world.now - HOUR)
    world.journal("preparing", world.now - 2 * HOUR)
    assert look(world)["restores"] == [{"id": point_id(world.now - HOUR), "point": "20261120-020000", "downtime": 4.25}]


def test_a_journal_that_does_not_read_leaves_the_rest(world):
    world.well()
    world.journal("done", world.now - HOUR)
    next((world.backups / ".restore").iterdir()).write_text("{")
    told = look(world)
    assert told["totals"]["points"] == 7 and "can't be read" in told["retention"]["error"]
    assert {point["keeps"] for point in told["points"]} == {""}
