"""Every fault that a check is there for, made on purpose; and that all is quiet when all is well."""

import json
import os
import subprocess
from contextlib import contextmanager

import pytest
from stack_backup.monitor import facts
from stack_backup.monitor import state as memory

from tests.world import DAY, HOUR, World, point_id

ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root mounts")


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(facts, "_AGAIN", 0.0)
    monkeypatch.setattr(memory, "_RUN", tmp_path / "run")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def never_ran(world, _made):
    (world.state / "last-backup.json").unlink()


def failed(world, _made):
    world.record("backup", world.now - HOUR, ok=False, error="store postgres: no space left: free some")


def never_ended(world, _made):
    world.record("backup", world.now - HOUR, ended=False)


def stopped_running(world, _made):
    world.record("verify", world.now - 9 * DAY)


def unreadable_record(world, _made):
    (world.state / "last-backup.json").write_text('{"job"')


def truncated(_world, made):
    with made[2]["postgres"].open("r+b") as file:
        file.truncate(9000)


def newest_is_gone(_world, made):
    made[-1]["redis"].unlink()


def flipped(_world, made):
    data = bytearray(made[3]["redis"].read_bytes())
    data[5000] ^= 1
    made[3]["redis"].write_bytes(data)


def shrunk(world, _made):
    world.publish(world.now - HOUR, "postgres", 1000)
    world.publish(world.now - HOUR, "redis")


def drilled_long_ago(world, made):
    for artifact in made[-2].values():
        world.drill(artifact, world.now - 9 * DAY)


def drill_failed(world, made):
    world.drill(made[-1]["postgres"], world.now - HOUR, ok=False, error="postgres: 3 rows are missing")


def never_drilled(world, made):
    for artifact in made[-2].values():
        artifact.with_suffix(".verified.json").unlink()
    world.point(world.now - 9 * DAY)


def incomplete(world, _made):
    world.publish(world.now - HOUR, "redis", failed={"postgres": "store postgres: no route to host"})


def half_written(world, _made):
    left = world.backups / "redis" / f"redis-{point_id(world.now - 5 * HOUR)}.partial"
    left.mkdir()
    world.now += 2 * HOUR


def of_the_future(world, _made):
    world.point(world.now + 40 * DAY)


def interrupted_restore(world, _made):
    world.journal("switching", world.now - HOUR)


def unreadable_journal(world, _made):
    (world.backups / ".restore").mkdir()
    (world.backups / ".restore" / "20261120-020000.json").write_text("{")


def no_folder(world, _made):
    world.backups.rename(world.backups.with_name("away"))


def open_folder(world, _made):
    (world.backups / "redis").chmod(0o770)


def open_dump(world, made):
    made[-1]["redis"].parent.chmod(0o755)
    made[-1]["redis"].chmod(0o644)


FAULTS = [
    (never_ran, {"job_backup": 2}, "job backup never ran, though it is scheduled for 30 d: see that cron runs"),
    (failed, {"job_backup": 2}, "job backup failed 60 min ago: store postgres: no space left: free some"),
    (never_ended, {"job_backup": 2}, "started 60 min ago and never ended"),
    (stopped_running, {"job_verify": 2}, "job verify ran last 9 d ago, more than 8 d"),
    (unreadable_record, {"job_backup": 3}, "last-backup.json can't be read"),
    (truncated, {"catalog": 2}, "has 9000 bytes, its manifest says 10000"),
    (newest_is_gone, {"catalog": 2, "incomplete": 2, "point": 2}, "is missing beside its manifest"),
    (flipped, {"digest": 2}, "is not what was written: its sha256 is"),
    (shrunk, {"size_postgres": 2}, "the newest backup of postgres has 1.0 kB, its predecessors had 10.0 kB"),
    (drilled_long_ago, {"drill": 1}, "the last drill was 9 d ago, more than 8 d: run playbooks/verify.yml"),
    (drill_failed, {"drill": 2}, "the last drill failed: postgres: postgres: 3 rows are missing"),
    (never_drilled, {"drill": 1}, "no backup of postgres, redis was ever drilled"),
    (incomplete, {"incomplete": 2}, "lacks postgres: store postgres: no route to host"),
    (half_written, {"leftovers": 1}, "left by a backup that did not end"),
    (of_the_future, {"clock": 2}, "of the future: recovery point"),
    (interrupted_restore, {"restore": 2}, "was interrupted in phase switching: take it back with"),
    (unreadable_journal, {"restore": 2}, "then move the file away"),
    (open_folder, {"access": 1}, "/backups/redis has mode 0770: chmod go-rwx"),
    (open_dump, {"access": 1}, ".rdb has mode 0644: chmod go-rwx"),
    (no_folder, {"folder": 2}, "is missing: create it, or mount its disk"),
]


def test_all_is_well(world):
    world.well()
    answer = world.check()
    assert [item for item in answer["findings"] if item["status"]] == []
    names = {"point", "job_backup", "job_prune", "job_verify", "catalog", "digest", "drill", "disk", "access"}
    assert {item["check"] for item in answer["findings"]} == names | {"size_postgres", "size_redis"}
    assert (answer["status"], answer["changed"], answer["alerted"]) == (0, False, {})
    (digest,) = [item["message"] for item in answer["findings"] if item["check"] == "digest"]
    assert "files were as written when read" in digest


def test_what_only_looks_says_that_nothing_was_read(world):
    world.well()
    (digest,) = [item["message"] for item in world.check(check_mode=True)["findings"] if item["check"] == "digest"]
    assert digest.startswith("no file was read again yet")


@pytest.mark.parametrize(("spoil", "expected", "message"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_a_fault_is_caught_and_only_it(world, spoil, expected, message):
    spoil(world, world.well())
    bad, said = world.bad()
    assert bad == expected, said
    assert message in said


def test_a_secret_that_others_can_read(world, tmp_path):
    world.well()
    secret = tmp_path / "secret"
    secret.write_text("x")
    email = {"to": ["a@example.com"], "password_file": str(secret)}
    for mode, told in ((0o640, 1), (0o600, 0)):
        secret.chmod(mode)
        found = [item for item in world.check(email=email, check_mode=True)["findings"] if item["check"] == "access"]
        assert [item["status"] for item in found] == [told], found
    assert str(secret) not in found[0]["message"]


def test_what_nobody_gets_to_may_be_open(world):
    """A folder that is closed keeps its files, whatever their modes: a restore by cp may have changed these."""
    made = world.well()
    made[-1]["redis"].chmod(0o644)
    assert world.bad()[0] == {}


def test_nothing_was_ever_backed_up(world):
    world.cron.unlink()
    bad, said = world.bad()
    assert bad == {"point": 2}
    assert "there is no complete recovery point: run playbooks/backup.yml" in said


def test_backups_that_silently_stopped(world):
    world.well()
    assert world.bad(later=22 * HOUR)[0] == {}
    bad, said = world.bad(later=24 * HOUR)
    assert bad == {"point": 2, "job_backup": 2}
    assert "is 27 h old, more than 26 h" in said
    # A point that a wrong clock dated into the future does not hide it.
    world.point(world.now + 40 * DAY)
    assert world.bad(later=24 * HOUR)[0] == {"point": 2, "job_backup": 2, "clock": 2}


def test_a_job_at_work_is_no_fault(world):
    world.well()
    world.record("backup", world.now - HOUR, ended=False, pid=os.getpid())
    (world.backups / ".lock").write_text(f"{os.getpid()}\n")
    world.journal("preparing", world.now - HOUR)
    assert world.bad()[0] == {}
    assert world.bad(later=8 * HOUR)[0] == {"job_backup": 2, "restore": 2}


def test_a_failed_job_is_forgiven_for_a_later_point(world):
    world.well()
    failed(world, None)
    assert world.bad()[0] == {"job_backup": 2}
    world.point(world.now - 60)
    assert world.bad()[0] == {}


def test_a_safety_backup_is_none_of_the_nightly_ones(world):
    world.well()
    world.publish(world.now - HOUR, "postgres", 100, stores=("postgres",), purpose="safety")
    assert world.bad()[0] == {}


@contextmanager
def mounted(folder, *options):
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", *options, str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@ROOT
def test_a_disk_that_is_nearly_full(world):
    with mounted(world.backups, "-t", "tmpfs", "-o", "size=400m,mode=700", "tmpfs"):
        world.well()
        assert world.bad()[0] == {}
        assert world.bad(min_free_share=0.999999)[0] == {"disk": 1}
        with (world.backups / ".filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 200 * 1024 * 1024)
        bad, said = world.bad()
        assert bad == {"disk": 2}
        assert "the backups' disk has 209.5 MB of 419.4 MB free, the next recovery point may take 268.5 MB" in said


def test_a_disk_that_will_be_full(world):
    world.well()
    assert world.bad()[0] == {}
    free = os.statvfs(world.backups)
    daily = free.f_bavail * free.f_frsize / 3
    history = [[world.now - day * DAY, int(daily * (9 - day))] for day in reversed(range(9))]
    (world.state / "monitor-check.json").write_text(json.dumps({"history": history}))
    bad, said = world.bad()
    assert bad == {"disk": 1}
    assert "at the pace of late is full in 3" in said or "at the pace of late is full in 2.9" in said


@ROOT
def test_a_state_folder_that_is_only_read(world):
    world.well()
    world.check()
    with mounted(world.state, "--bind", "-o", "ro", str(world.state)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(world.state)], check=True)
        bad, said = world.bad()
        assert bad == {"state": 1}
        assert "can't be written (Read-only file system)" in said
    assert world.bad()[0] == {}


def test_no_state_folder_is_made(world):
    world.state.rmdir()
    world.cron.unlink()
    world.point(world.now - HOUR)
    assert world.bad()[0] == {}
    assert world.state.stat().st_mode & 0o777 == 0o700


def test_an_error_of_its_own_is_told_and_stops_nothing(world, monkeypatch):
    world.well()
    (world.state / "monitor-check.json").write_text('{"digests": 7, "history": "x"}')
    bad, said = world.bad()
    assert bad == {"sample": 3}, said
    assert "ended in an error: AttributeError" in said
    assert world.bad()[0] == {}  # what it can't use it forgets
    assert world.bad(jobs={"backup": "often"})[0] == {"jobs": 3}
    monkeypatch.setattr("stack_backup.monitor.run.gather", lambda *_: 1 / 0)
    assert world.bad()[0] == {"facts": 3}


def test_check_mode_writes_nothing(world):
    world.well()
    assert world.check(check_mode=True)["status"] == 0
    assert sorted(path.name for path in world.state.iterdir()) == ["last-backup.json", "last-verify.json"]
    assert not world.metrics.exists()


def read_at(world):
    return {path.rsplit("/", 1)[1]: entry["at"] for path, entry in world.remembered("check")["digests"].items()}


def test_the_sample_is_bounded_comes_around_and_takes_new_ones_first(world):
    made = world.well()
    for turn in range(7):  # 14 files of 10 kB, two at a time, the newest first
        world.check(later=turn, digest_bytes=20000)
        assert len(read_at(world)) == 2 * (turn + 1)
        assert made[6 - turn]["redis"].name in read_at(world)
    world.check(later=7, digest_bytes=20000)
    again = [name for name, at in read_at(world).items() if at == world.now + 7]
    assert sorted(again) == sorted(path.name for path in made[6].values())
    flipped(world, made)
    for turn in range(8, 13):
        new = world.point(world.now - 60 + turn)
        assert world.bad(later=turn, digest_bytes=20000)[0] == {}  # new ones come first, and keep it busy
        assert new["redis"].name in read_at(world)
    for turn in range(13, 17):
        world.check(later=turn, digest_bytes=20000)
    assert world.bad(later=17, digest_bytes=20000)[0] == {"digest": 2}
    made[3]["redis"].unlink()
    made[3]["redis"].with_suffix(".json").unlink()
    assert world.bad(later=18)[0] == {}


def test_a_file_larger_than_the_sample_gets_its_turn(world):
    made = world.publish(world.now - HOUR, "postgres", 50000, stores=("postgres",))
    made.write_bytes(b"x" * 50000)
    world.cron.unlink()
    assert [bool(world.bad(later=turn, digest_bytes=20000)[0]) for turn in range(3)] == [False, False, True]


def test_a_new_time_zone(world, monkeypatch, tmp_path):
    """A nightly job ran three hours ago; by the new zone's clock the next one comes up to a day after the change."""
    for name in ("LOCALTIME", "CRON"):
        monkeypatch.setattr(facts, name, tmp_path / name)
    world.well()
    (tmp_path / "CRON").write_text("1")
    assert world.bad(1.0)[0] == {}
    (tmp_path / "LOCALTIME").symlink_to("/usr/share/zoneinfo/Asia/Tokyo")  # its own time counts, not its target's
    bad, said = world.bad(1.0)
    assert bad == {"zone": 1} and "s ago and cron goes by the old one" in said
    (tmp_path / "CRON").write_text("2")
    assert world.bad(1.0)[0] == {}
    # The point is as old as it is; that the job is late is said a period after cron knew the zone.
    assert world.bad(25.9 * HOUR)[0] == {"point": 2}
    assert world.bad(26.1 * HOUR)[0] == {"point": 2, "job_backup": 2}


def test_a_time_zone_of_long_ago_excuses_nothing(world, monkeypatch, tmp_path):
    monkeypatch.setattr(facts, "LOCALTIME", tmp_path / "LOCALTIME")
    (tmp_path / "LOCALTIME").write_text("")
    world.now += 9 * DAY
    world.well()
    assert world.bad(24 * HOUR)[0] == {"point": 2, "job_backup": 2}
