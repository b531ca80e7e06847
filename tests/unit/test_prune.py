"""Pruning real folders: what goes, what is never touched, and what a crash leaves."""

import json
import os
import re
import shutil
import time
from datetime import datetime, timedelta, timezone

import pytest
from stack_backup import catalog, prune
from stack_backup.artifact import Lock, Partial, manifest_path
from stack_backup.errors import BackupError
from stack_backup.journal import Journal

ENGINES = {"postgres": "postgres", "redis": "redis"}
NOW = datetime.now(timezone.utc).replace(microsecond=0)


def ago(**span):
    return (NOW - timedelta(**span)).strftime("%Y%m%d-%H%M%S")


def publish(
    folder, point, *, stores=("postgres", "redis"), only=None, size=1000, purpose="backup", stack="s", tree=False
):
    """A recovery point of ``stores``, of which ``only`` these worked. Small, and as the engine writes it."""
    for store in only or stores:
        partial = Partial(folder, store, ENGINES[store], point)
        partial.create()
        if tree and store == "postgres":
            partial.artifact.mkdir()
            (partial.artifact / "toc.dat").write_bytes(b"t" * size)
        else:
            partial.artifact.write_bytes(b"x" * size)
        if store == "postgres":
            partial.globals.write_bytes(b"roles")
        sealed = partial.seal()
        manifest = {
            "format": 1,
            "stack": stack,
            "store": store,
            "engine": ENGINES[store],
            "point": {"id": point, "stores": list(stores), "purpose": purpose},
            "artifact": {"name": partial.artifact.name, **sealed[partial.artifact.name]},
            "pin": {"at": "x"},
            "seconds": {"total": 1.0},
        }
        if store == "postgres":
            manifest["globals"] = {"name": partial.globals.name, **sealed[partial.globals.name]}
        partial.publish(manifest)


def drilled(folder, point, ok=True):
    for store in ENGINES:
        path = catalog.verified_path(manifest_path(folder, store, point))
        path.write_text(json.dumps({"ok": ok, "seconds": 1}))


def run(folder, check_mode=False, **given):
    rules = {"keep_daily": 2} if not any(name.startswith("keep_") for name in given) else {}
    return prune.prune({"backup_dir": str(folder), "stack": "s", **rules, **given}, check_mode)


def ids(folder):
    return list(catalog.read(folder, "s").points)


def went(answer):
    return [item["id"] for item in answer["removed"]]


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() or path.is_symlink()} - {
        ".lock"
    }


def age(path, days):
    os.utime(path, (time.time() - days * 86400,) * 2, follow_symlinks=False)


@pytest.fixture
def history(tmp_path):
    """Six days, a point each day."""
    for days in range(6):
        publish(tmp_path, ago(days=days), tree=days == 4)
    return tmp_path


def test_what_goes_is_said_before_and_a_second_run_finds_nothing(history):
    before = files(history)
    told = run(history, check_mode=True)
    assert files(history) == before
    size = sum(path.stat().st_size for path in history.rglob("*") if path.is_file())
    assert told == run(history)
    assert told["changed"] and went(told) == [ago(days=days) for days in (5, 4, 3, 2)]
    assert ids(history) == [ago(days=1), ago(days=0)]
    assert catalog.read(history, "s").problems == []
    assert told["freed"] == size - sum(path.stat().st_size for path in history.rglob("*") if path.is_file())
    # Each point: two artifacts, two manifests, and the roles.
    assert len(files(history)) == 10
    again = run(history)
    assert (again["changed"], again["removed"], again["freed"]) == (False, [], 0)
    assert again["kept"] == told["kept"]


def test_the_diff_shows_every_point_with_its_reason(history):
    shown = prune.diff(run(history, check_mode=True))
    assert len(shown["before"].splitlines()) == 6 and len(shown["after"].splitlines()) == 2
    assert "no rule keeps it" in shown["before"] and f"newest, daily {NOW:%Y-%m-%d}" in shown["after"]


class Died(BaseException):
    pass


def die_at(monkeypatch, step):
    """The process ends at the ``step``th call that changes the disk, in place of it."""
    left = [step]

    def dying(real):
        def call(*args, **options):
            left[0] -= 1
            if not left[0]:
                raise Died
            return real(*args, **options)

        return call

    for name in ("rename", "unlink", "rmdir", "fsync"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))


def test_a_crash_at_each_step_leaves_no_half_point_and_the_next_run_ends_it(history, tmp_path_factory, monkeypatch):
    drilled(history, ago(days=5))
    whole = set(ids(history))
    step = 0
    while True:
        step += 1
        folder = tmp_path_factory.mktemp("crash")
        shutil.copytree(history, folder, dirs_exist_ok=True)
        with monkeypatch.context() as patch:
            die_at(patch, step)
            try:
                run(folder, keep_last=1)
                break
            except Died:
                pass
        found = catalog.read(folder, "s")
        good = {point for point in found.points if not found.fault(point)}
        assert all(set(found.points[point]) == set(ENGINES) for point in good), step
        assert {ago(days=0)} <= good <= whole
        run(folder, keep_last=1)
        assert len(files(folder)) == 12 and catalog.read(folder, "s").problems == [], step
        assert ids(folder) == [ago(days=5), ago(days=0)]  # the newest, and the only one that a drill restored
        assert not run(folder, keep_last=1)["changed"]
    assert step > 40


def test_the_newest_verified_point_stays(history):
    drilled(history, ago(days=5))
    drilled(history, ago(days=4))
    assert ago(days=4) not in went(run(history))
    assert ids(history) == [ago(days=4), ago(days=1), ago(days=0)]
    assert catalog.verified_path(manifest_path(history, "redis", ago(days=4))).exists()


def refused(folder, **given):
    before = files(folder)
    with pytest.raises(BackupError) as dry:
        run(folder, check_mode=True, **given)
    with pytest.raises(BackupError) as caught:
        run(folder, **given)
    assert files(folder) == before and str(caught.value) == str(dry.value)
    assert caught.value.details["removed"] == [] and not caught.value.details["changed"]
    return str(caught.value)


def test_an_incomplete_newest_point_stops_everything(history):
    manifest_path(history, "redis", ago(days=0)).unlink()
    said = refused(history)
    assert f"nothing was removed, because recovery point {ago(days=0)} is the newest of its stores" in said
    assert "incomplete, store redis is missing" in said and "-e retention_force=true" in said
    run(history, force=True)
    # What is not good counts for no day, and stays its own time.
    assert ids(history) == [ago(days=2), ago(days=1), ago(days=0)]


@pytest.mark.parametrize("damage", ["size", "gone", "manifest", "drill"])
def test_a_damaged_newest_point_stops_everything(history, damage):
    manifest = manifest_path(history, "redis", ago(days=0))
    artifact = manifest.with_suffix(".rdb")
    if damage == "size":
        artifact.write_bytes(b"x")
    elif damage == "gone":
        artifact.unlink()
    elif damage == "manifest":
        manifest.write_text("{")
    else:
        drilled(history, ago(days=0), ok=False)
    assert ago(days=0) in refused(history)


def test_a_point_of_which_only_an_unreadable_manifest_is_left_counts_as_the_newest(tmp_path):
    for days in range(4):
        publish(tmp_path, ago(days=days, minutes=5), stores=["redis"])
    publish(tmp_path, ago(minutes=1), stores=["redis"])
    manifest_path(tmp_path, "redis", ago(minutes=1)).write_text("")
    assert "can't be read" in refused(tmp_path)
    run(tmp_path, force=True)
    assert manifest_path(tmp_path, "redis", ago(minutes=1)).exists()  # it may not be ours


def test_a_small_newest_point_stops_everything_and_the_numbers_are_named(history):
    shutil.rmtree(history / "redis")
    for days in range(1, 6):
        publish_redis(history, ago(days=days), 1000 + days)
    publish_redis(history, ago(days=0), 100)
    said = refused(history)
    assert (
        f"store redis has 100 bytes in recovery point {ago(days=0)}, less than 0.5 (retention_min_share) of 1003"
        in said
    )
    assert run(history, min_share=0)["changed"]
    assert len(ids(history)) == 2


def publish_redis(folder, point, size):
    publish(folder, point, only=["redis"], size=size)


def test_old_backups_are_no_reason_to_remove_older_ones(tmp_path):
    for days in range(3, 7):
        publish(tmp_path, ago(days=days))
    assert re.search(r"is 72\.\d hours old, more than retention_max_age_hours \(26h\)", refused(tmp_path))
    assert len(went(run(tmp_path, max_age_hours=0))) == 2
    for path in (tmp_path / "redis", tmp_path / "postgres"):
        shutil.rmtree(path)
    assert "there is no good recovery point" in refused(tmp_path)


def test_incomplete_points_have_their_own_time(history):
    publish(history, ago(days=8), only=["postgres"])
    publish(history, ago(days=6, hours=12), only=["redis"])
    (manifest_path(history, "redis", ago(days=5)).with_suffix(".rdb")).write_bytes(b"")  # damaged, five days old
    answer = run(history)
    assert ago(days=8) in went(answer)
    assert {ago(days=6, hours=12), ago(days=5)} <= set(ids(history))
    answer = run(history, keep_daily=2, keep_incomplete="48h")
    assert went(answer) == [ago(days=6, hours=12), ago(days=5)]
    assert not list(history.glob(f"*/*{ago(days=5)}*"))


def test_a_dump_of_one_store_takes_no_whole_points_place(history):
    for days in (0, 1, 40):
        publish(history, ago(days=days, seconds=-1 if days else 1), stores=["redis"])
    run(history)
    assert {ago(days=0), ago(days=1)} <= set(ids(history))
    assert ago(days=40, seconds=-1) not in ids(history)


def test_safety_points_stay_while_their_restore_may_go_back(history):
    old, young = ago(days=9), ago(days=3, hours=1)
    publish(history, old, purpose="safety")
    publish(history, young, purpose="safety")
    journal = Journal.begin(history, id="20260101-000000", stack="s", point=ago(days=5), stores=[], safety_point=old)
    for phase in ("switching", "done"):
        journal.mark(phase)
        answer = run(history, check_mode=True)
        assert not {old, young, ago(days=5)} & set(went(answer)), phase
    journal.mark("dropped")
    assert {old, ago(days=5)} <= set(went(run(history)))
    assert ids(history) == [young, ago(days=1), ago(days=0)]
    (history / ".restore" / "20260101-000000.json").write_text("{")
    with pytest.raises(BackupError, match="journal .* can't be read"):
        run(history)


def test_points_of_the_future_are_kept_named_and_count_for_nothing(history):
    future = ago(days=-30)
    publish(history, future)
    publish(history, "20261399-256199")
    answer = run(history)
    why = {item["id"]: item["why"] for item in answer["kept"]}
    assert "of the future" in why[future] and "is no time" in why["20261399-256199"]
    assert sorted(why) == sorted([ago(days=1), ago(days=0), future, "20261399-256199"])


def test_leftovers_older_than_a_day_go_and_are_named(history):
    redis, postgres = history / "redis", history / "postgres"
    old, young = ago(days=3, hours=2), ago(hours=2)
    for point in (old, young):
        (redis / f"redis-{point}.partial").mkdir()
        (redis / f"redis-{point}.partial" / f"redis-{point}.rdb").write_bytes(b"abc")
        (postgres / f"postgres-{point}.partial").mkdir()
        (postgres / f"postgres-{point}.dump").mkdir()
        (postgres / f"postgres-{point}.dump" / "toc.dat").write_bytes(b"abc")
        (postgres / f"postgres-{point}.globals.sql").write_bytes(b"abc")
        (redis / f".redis-{point}.verified.json.new").write_bytes(b"{")
        (redis / f"redis-{point}.verified.json").write_bytes(b"{}")
    age(redis / f"redis-{young}.verified.json", 2)  # by its name it is of today
    newly = redis / f"redis-{ago(days=2, hours=2)}.rdb"
    newly.write_bytes(b"just copied here")
    for path in [*redis.glob(f"*{old}*"), *postgres.glob(f"*{old}*"), *redis.glob(f".redis*{old}*")]:
        age(path, 2)
    answer = run(history)
    assert len({item["path"] for item in answer["cleaned"]}) == 6
    assert all(old in item["path"] and item["why"] for item in answer["cleaned"])
    assert not [name for name in files(history) if old in name]
    assert len([item for item in answer["problems"] if young in item["path"]]) == 6 and newly.exists()


def test_dumps_of_other_programs_that_are_named_as_ours_stay(history):
    """The manual procedure puts its own where ours are, under the same names: backups/redis/redis-YYYYMMDD-HHMMSS.rdb."""
    point = ago(days=30)
    theirs = [history / "redis" / f"redis-{point}.rdb", history / "postgres" / f"postgres-{point}.dump"]
    for path in (*theirs, theirs[1].with_suffix(".globals.sql")):
        path.write_bytes(b"precious")
        age(path, 30)
    answer = run(history)
    assert answer["cleaned"] == [] and all(path.read_bytes() == b"precious" for path in theirs)
    assert {item["path"] for item in answer["problems"]} >= {str(path) for path in theirs}


def restored(folder, point, phase, days, **more):
    journal = Journal.begin(folder, id=point, stack="s", point="p", stores=[])
    journal.mark(phase, ended_at=time.time() - days * 86400, **more)
    return journal.path.name


def test_journals_of_restores_that_ended_go_and_others_stay(history):
    folder = history / ".restore"
    gone = [
        restored(history, ago(days=9), "dropped", 8, downtime_seconds=3.0),
        restored(history, ago(days=8), "returned", 2),
    ]
    stay = [
        restored(history, ago(days=7), "dropped", 6, downtime_seconds=2.0),  # the last downtime that is known
        restored(history, ago(days=6), "done", 5, kept=["old data"]),
        restored(history, ago(days=5), "switching", 4),
        restored(history, ago(days=1), "returned", 0.9),
        restored(history, ago(days=4), "planned", 4),
    ]
    for name, days in (("old", 2), ("young", 0)):
        (folder / f".{name}.json.new").write_text("{")
        age(folder / f".{name}.json.new", days)
    (folder / "notes.txt").write_text("mine")
    told = run(history, check_mode=True)
    assert len(list(folder.iterdir())) == 10
    assert told == run(history)
    assert {item["path"] for item in told["cleaned"]} == {str(folder / name) for name in (*gone, ".old.json.new")}
    assert told["cleaned"][0]["why"] == "the journal of a restore that was dropped" and told["cleaned"][0]["size"]
    assert {path.name for path in folder.iterdir()} == {*stay, ".young.json.new", "notes.txt"}
    assert run(history)["cleaned"] == []


def test_what_is_not_ours_is_not_touched(history, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "precious").write_text("x")
    redis, old = history / "redis", ago(days=20)
    (history / "notes").mkdir()
    (history / "linked").symlink_to(outside)
    (outside / f"linked-{old}.rdb").write_text("x")
    (redis / "notes.txt").write_text("x")
    (redis / f"redis-{old}.txt").write_text("x")
    (redis / f"postgres-{old}.rdb").write_text("x")
    (redis / f"redis-{ago(days=5)}.txt").write_text("x")  # beside a backup that goes
    (redis / f"redis-{old}.rdb").symlink_to(outside / "precious")
    (redis / f"redis-{ago(days=21)}.partial").symlink_to(outside)
    (redis / f"redis-{ago(days=22)}.json").symlink_to(outside / "precious")
    publish(history, ago(days=30), stack="other")
    manifest = manifest_path(history, "redis", ago(days=4))
    manifest.write_text("not json")
    kept = {name for name in files(history) if old in name or "txt" in name or ago(days=30) in name or "linked" in name}
    kept |= {f"redis/{manifest.name}", f"redis/redis-{ago(days=4)}.rdb", f"redis/redis-{ago(days=22)}.json"}
    for path in redis.iterdir():
        age(path, 5)
    answer = run(history, keep_daily=2, keep_incomplete="1h")
    assert went(answer) == [ago(days=5), ago(days=3), ago(days=2)] and answer["cleaned"] == []
    assert kept <= files(history) | {f"linked/linked-{old}.rdb"}
    assert {path.name for path in outside.iterdir()} == {"precious", f"linked-{old}.rdb"}
    assert (redis / f"redis-{ago(days=21)}.partial").is_symlink()
    assert ago(days=4) in ids(history)  # all its stores stay, not only the one that can't be read


def test_a_folder_exchanged_under_way_leads_nowhere_else(history, tmp_path_factory, monkeypatch):
    outside = tmp_path_factory.mktemp("outside")
    shutil.copytree(history / "redis", outside / "redis")
    apply = prune._Removal.apply

    def exchange(self, root):
        if not (history / "redis").is_symlink():
            (history / "redis").rename(history / ".moved")
            (history / "redis").symlink_to(outside / "redis")
        apply(self, root)

    monkeypatch.setattr(prune._Removal, "apply", exchange)
    before = files(outside)
    with pytest.raises(BackupError, match="can't be removed: "):
        run(history)
    assert files(outside) == before


def test_one_point_of_a_link_inside_an_artifact_is_not_followed(history, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "toc.dat").write_text("x")
    tree = manifest_path(history, "postgres", ago(days=4)).with_suffix(".dump")
    (tree / "link").symlink_to(outside)
    assert ago(days=4) in went(run(history, keep_daily=2, keep_incomplete="1h"))
    assert (outside / "toc.dat").exists() and not tree.exists()


def test_what_can_not_be_removed_is_named_and_what_went_is_told(history, monkeypatch):
    real = os.unlink

    def refusing(path, *args, **options):
        if ago(days=4) in str(path):
            raise PermissionError(13, "Permission denied")
        real(path, *args, **options)

    monkeypatch.setattr(os, "unlink", refusing)
    with pytest.raises(
        BackupError, match=f"{ago(days=4)} can't be removed: Permission denied: mend the owner"
    ) as caught:
        run(history)
    assert [item["id"] for item in caught.value.details["removed"]] == [ago(days=5)]
    assert caught.value.details["changed"]


def test_no_two_jobs_at_once_and_no_policy_that_keeps_nothing(history):
    with Lock(history), pytest.raises(BackupError, match="another job of this stack"):
        run(history)
    before = files(history)
    for given, said in [
        ({"keep_daily": 0, "keep_last": 0}, "every retention_keep_.* is 0"),
        ({"keep_daily": -1}, "retention_keep_daily is -1: give how many"),
        ({"keep_daily": True}, "retention_keep_daily is True"),
        ({"keep_daily": "7"}, "retention_keep_daily is '7'"),
        ({"keep_within": "2 days"}, "retention_keep_within is '2 days': give hours, days or weeks"),
        ({"keep_within": "0h"}, "retention_keep_within"),
        ({"keep_incomplete": "-1d"}, "retention_keep_incomplete"),
        ({"keep_safety": "1y"}, "retention_keep_safety"),
        ({"timezone": "Mars/Olympus"}, "retention_timezone is 'Mars/Olympus'"),
        ({"timezone": "../../etc/passwd"}, "retention_timezone"),
        ({"min_share": 1.5}, "retention_min_share is 1.5: give a number from 0"),
        ({"min_share": float("nan")}, "retention_min_share is nan"),
        ({"max_age_hours": -1}, "retention_max_age_hours is -1"),
    ]:
        with pytest.raises(BackupError, match=said):
            run(history, **{"keep_daily": 7, **given})
    assert files(history) == before
