"""The remote's own retention on real remotes: what went and what stays is asked of the remote's disk or API."""

import json
import shutil
import subprocess
import sys
from random import Random

import endpoints
import lying
import pytest
from conftest import ROOT, until
from offsite_host import OffsiteHost, files
from stack_backup import arguments, prune
from stack_backup.artifact import manifest_path, write_json
from stack_backup.catalog import verified_path
from stack_backup.errors import BackupError
from stack_backup.offsite import prune as offsite_prune

from tests.world import DAY, STORES, point_id

pytestmark = pytest.mark.usefixtures("own_rclone")


@pytest.fixture
def host(tmp_path, s3):
    return OffsiteHost(tmp_path, s3, tmp_path.name)


@pytest.fixture
def disk(tmp_path):
    """A host whose remote is a mounted disk: no server to ask, for what is no matter of the remote's kind."""
    with endpoints.local(tmp_path / "disk") as remote:
        yield OffsiteHost(tmp_path, remote, "x")


def lay_out(host):
    """All that is here, drills too, as if copied: also what a copy would leave out."""
    there = host.remote.folder / host.prefix
    shutil.copytree(
        host.backups, there, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".offsite", ".lock", "*.verified.json")
    )
    write_json(there / "stack-backup.json", {"format": 1, "stack": "shop"})
    return there


def params(host, spec=None, **given):
    spec = spec or arguments.OFFSITE_PRUNE
    mine = {name: value for name, value in host.params().items() if name in spec}
    return {**{name: option.get("default") for name, option in spec.items()}, **mine, **given}


def thin(host, check_mode=False, **given):
    return offsite_prune.prune(params(host, **(given or {"keep_last": 2})), check_mode)


def fail(host, **given):
    with pytest.raises(BackupError) as caught:
        thin(host, **given)
    return str(caught.value)


def ids(items):
    return [item["id"] for item in items]


def test_check_prune_check_prune(remote, tmp_path):
    host = OffsiteHost(tmp_path, remote, tmp_path.name)
    made = [host.folder_point(3), host.point(2), host.folder_point(1), host.point()]
    host.copy()
    here = files(host.backups)
    said = thin(host, check_mode=True)
    assert (ids(said["removed"]), ids(said["kept"]), said["refused"]) == (made[:2], made[2:], [])
    assert host.there() == host.here(*made) and host.state()["pruned"] == []
    sizes = {item["id"]: item["size"] for item in said["removed"]}
    assert sizes[made[1]] == sum(path.stat().st_size for path in host.backups.glob(f"*/*{made[1]}*"))
    assert prune.diff(said)["after"].count("\n") == 2 and prune.diff(said)["before"].count("\n") == 4

    assert thin(host) == said
    assert host.there() == host.here(*made[2:])
    assert {
        name: digest for name, digest in files(host.backups).items() if name in here and ".offsite" not in name
    } == {name: digest for name, digest in here.items() if ".offsite" not in name}
    assert host.state()["pruned"] == made[:2] and set(host.state()["points"]) == set(made[2:])
    for check_mode in (True, False):
        again = thin(host, check_mode)
        assert (again["changed"], again["removed"], ids(again["kept"])) == (False, [], made[2:])

    assert host.copy()["copied"] == [] and host.there() == host.here(*made[2:])  # not brought back every night
    for path in host.backups.glob(f"*/*{made[1]}*"):
        path.unlink()
    thin(host)
    assert host.state()["pruned"] == made[:1]  # what is not here any more need not be remembered
    assert host.left() == []


def test_it_is_off_unless_asked(tmp_path, s3):
    host = OffsiteHost(tmp_path, s3.having(endpoint="http://127.0.0.1:1"), "x")
    said = offsite_prune.prune(params(host))
    assert said["off"] and not said["changed"] and said["removed"] == []
    assert offsite_prune.prune(params(host, keep_within=""))["off"]
    assert "can't be reached" in fail(host, keep_daily=1, retries=1)


# --- by the same plan ----------------------------------------------------------------------------------------------------


def history(host, dice):
    """Points at odd times, some incomplete, drilled, small, damaged, of one store, or a restore's safety backup."""
    when = host.world.now - dice.choice([60, 3600, 80000])
    for _ in range(dice.randint(2, 14)):
        kind = dice.choice(["good"] * 6 + ["half", "safety", "redis", "small", "drilled", "failed", "cut"])
        stores = ["redis"] if kind in ("redis", "safety") else list(STORES)
        for store in ["redis"] if kind == "half" else stores:
            size = 100 if kind == "small" else dice.randint(900, 1100)
            purpose = {"purpose": "safety"} if kind == "safety" else {}
            artifact = host.world.publish(when, store, size, stores=stores, **purpose)
            if kind in ("drilled", "failed"):
                host.world.drill(artifact, when, kind == "drilled")
            if kind == "cut" and store == "redis":
                artifact.write_bytes(b"cut")
        when -= dice.choice([3600, 40000, DAY, DAY, 8 * DAY, 40 * DAY])
    if dice.randrange(3) == 0:
        host.world.journal("done", host.world.now - 3600)


def rules(dice):
    given = {
        f"keep_{name}": dice.choice([0, 0, 1, 3]) for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly")
    }
    given["keep_daily"] = given["keep_daily"] or 1
    return {**given, "keep_within": dice.choice([None, "48h"]), "force": dice.random() < 0.6, "timezone": "UTC"}


def planned(function, given):
    try:
        said = function(given, True)
        return {name: [(item["id"], item["why"]) for item in said[name]] for name in ("kept", "removed")}
    except BackupError as error:
        return str(error).replace("offsite_", "retention_")


def test_the_plan_is_that_of_the_backups_here(disk):
    seen = set()
    for seed in range(12):
        dice = Random(seed)
        shutil.rmtree(disk.backups)
        disk.backups.mkdir()
        history(disk, dice)
        shutil.rmtree(disk.remote.folder / disk.prefix, ignore_errors=True)
        lay_out(disk)
        given = rules(dice)
        here = planned(prune.prune, params(disk, arguments.BACKUP_PRUNE, **given))
        there = planned(offsite_prune.prune, params(disk, **given))
        assert here == there, seed
        seen.add(type(here).__name__ if isinstance(here, str) else bool(here["removed"]))
    assert seen == {"str", True, False}  # held, something goes, all stays


def test_a_newest_point_that_is_too_small_or_too_old_holds_all(disk):
    made = [disk.point(3), disk.point(2), disk.point(1), disk.point(size=10)]
    lay_out(disk)
    before = disk.there()
    said = fail(disk, keep_last=1)
    assert "has 10 bytes" in said and "(offsite_min_share)" in said and "-e offsite_force=true" in said
    for name in list(disk.there()):
        if made[3] in name:
            (disk.remote.folder / disk.prefix / name).unlink()
            before.pop(name)
    said = fail(disk, keep_last=1, max_age_hours=12.0)
    assert "more than offsite_max_age_hours (12h)" in said
    assert disk.there() == before and disk.state().get("pruned", []) == []
    assert ids(thin(disk, keep_last=1, max_age_hours=12.0, force=True)["removed"]) == made[:2]


def test_what_a_drill_restored_here_stays_there(disk):
    made = [disk.point(4), disk.point(3), disk.point(2), disk.point(1), disk.point()]
    lay_out(disk)
    for store in STORES:
        write_json(verified_path(manifest_path(disk.backups, store, made[1])), {"ok": True, "seconds": 1.0})
    said = thin(disk, keep_last=1)
    assert ids(said["kept"]) == [made[1], made[4]] and said["kept"][0]["why"] == "newest verified"
    assert disk.there() == disk.here(made[1], made[4])


# --- what is not a point -------------------------------------------------------------------------------------------------


def test_what_copies_left_goes_after_a_day_and_what_is_foreign_never(disk):
    made = [disk.point(3), disk.point()]
    there = lay_out(disk)
    old, coming, young = (point_id(disk.world.now - days * DAY) for days in (2, 1.5, 0.5))
    disk.point(1.5)
    for name in (old, coming, young):
        (there / "redis" / f"redis-{name}.rdb").write_bytes(b"cut")
    (there / "postgres" / f"postgres-{old}.dump").mkdir()
    (there / "postgres" / f"postgres-{old}.dump" / "toc.dat").write_bytes(b"cut")
    foreign = [there / "notes.txt", there / "redis" / "mine.rdb", there / "other" / f"redis-{old}.rdb"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    for check_mode in (True, False):
        said = thin(disk, check_mode)
        assert sorted(item["path"] for item in said["cleaned"]) == [
            f"postgres/postgres-{old}.dump/toc.dat",
            f"redis/redis-{old}.rdb",
        ]
        assert said["changed"] and said["removed"] == []
    rest = set(disk.there()) - set(disk.here(*made))
    assert rest == {str(path.relative_to(there)) for path in foreign} | {
        f"redis/redis-{name}.rdb" for name in (coming, young)
    }
    assert {item["path"] for item in said["problems"] if item["problem"] == "foreign"} == {
        f"{disk.remote.path('x')}/{path.relative_to(there)}" for path in foreign
    }


def test_a_prefix_that_is_not_the_stacks_is_left_alone(disk):
    for days in (3, 2, 0):
        disk.point(days)
    there = lay_out(disk)
    before = disk.there()
    (there / "stack-backup.json").unlink()
    assert "has no stack-backup.json, which says whose it is: nothing is removed" in fail(disk, keep_last=1)
    (there / "stack-backup.json").write_text(json.dumps({"format": 1, "stack": "other"}))
    assert "is the prefix of stack other, not of shop" in fail(disk, keep_last=1)
    assert disk.there() == before


# --- refusals and faults -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [".json", ".rdb"])
def test_what_the_remote_refuses_is_told_and_no_failure(host, s3, what):
    made = [host.point(3), host.point(2), host.point(1), host.point()]
    lay_out(host)
    with lying.proxy(s3) as liar:
        host.remote = liar.remote
        liar.fault = lying.refuse(403, "AccessDenied")
        liar.when = lambda method, path: method == "DELETE" and f"redis-{made[0]}{what}" in path
        said = thin(host, keep_last=2, retries=1)
        assert ids(said["removed"]) == [made[1]] and ids(said["refused"]) == [made[0]]
        assert f"redis/redis-{made[0]}{what} is there still: " in said["refused"][0]["why"]
        assert "the remote refuses these keys, or what they may do" in said["refused"][0]["why"]
        rest = set(host.there()) - set(host.here(*made[2:]))
        if what == ".json":  # its files stay with it
            assert rest == set(host.here(made[0])) - {f"postgres/postgres-{made[0]}.json"}
        else:
            assert rest == {f"redis/redis-{made[0]}.rdb"}
        assert host.state()["pruned"] == made[:2]
        assert host.copy()["copied"] == []
        liar.when = lambda _method, _path: False
        thin(host, keep_last=2, keep_incomplete="1d")
    assert host.there() == host.here(*made[2:])


def test_without_a_permission_nothing_goes_and_nothing_breaks(host, s3):
    made = [host.point(3), host.point(2), host.point()]
    lay_out(host)
    before = host.there()
    with lying.proxy(s3) as liar:
        host.remote = liar.remote
        liar.fault, liar.when = lying.refuse(403, "AccessDenied"), lambda method, _path: method == "DELETE"
        said = thin(host, keep_last=1, retries=1)
    assert not said["changed"] and ids(said["refused"]) == made[:2] and said["freed"] == 0
    assert host.there() == before and host.state()["pruned"] == []


def test_in_a_bucket_with_locks_a_removal_hides_and_the_versions_stay(tmp_path):
    with endpoints.moto(lock=True) as remote:
        client = remote.client()
        rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
        lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        client.put_object_lock_configuration(Bucket=remote.root, ObjectLockConfiguration=lock)
        host = OffsiteHost(tmp_path, remote, "x")
        old, new = host.point(1), host.point()
        host.copy()
        versions = client.list_object_versions(Bucket=remote.root)["Versions"]
        said = thin(host, keep_last=1)
        assert ids(said["removed"]) == [old] and said["refused"] == []
        assert host.there() == host.here(new)
        after = client.list_object_versions(Bucket=remote.root)
        assert [item["VersionId"] for item in after["Versions"]] == [item["VersionId"] for item in versions]
        assert {item["Key"] for item in after["DeleteMarkers"]} == {f"x/{name}" for name in host.here(old)}
        assert host.copy()["copied"] == [] and thin(host, keep_last=1)["changed"] is False


def test_a_removal_that_was_killed_is_ended_by_the_next(host, s3):
    made = [host.point(5), host.point(4), host.point()]
    lay_out(host)
    with lying.proxy(s3) as liar:
        host.remote = liar.remote
        liar.fault = lying.slow(60)
        liar.when = lambda method, path: method == "DELETE" and not path.partition("?")[0].endswith(".json")
        program = f"import sys; sys.path.insert(0, {str(ROOT / 'module_utils')!r})\n"
        program += f"from stack_backup.offsite import prune as offsite_prune\noffsite_prune.prune({params(host, keep_last=1)!r})"
        job = subprocess.Popen([sys.executable, "-c", program])
        assert until(lambda: any(method == "DELETE" and ".rdb" in path for method, path in liar.seen), 60)
        job.kill()
        job.wait(20)
    assert until(lambda: not host.processes())
    left = host.there()
    assert not [name for name in left if name.endswith(".json") and made[2] not in name]
    assert host.state()["pruned"] == made[:2]
    host.remote = s3
    assert host.copy()["copied"] == []
    said = thin(host, keep_last=1)
    assert len(said["cleaned"]) == 4 and host.there() == host.here(made[2])
