"""Recovery points brought back from real remotes: what is here then is what was backed up, byte for byte."""

import json
import os
import shutil
import signal
import subprocess
import sys

import endpoints
import lying
import pytest
from conftest import PG, REDIS, ROOT, sh, until
from offsite_host import OffsiteHost, files
from stack_backup import arguments, catalog, prune
from stack_backup.artifact import Lock
from stack_backup.errors import BackupError, Locked
from stack_backup.offsite import fetch

from tests.world import point_id

pytestmark = pytest.mark.usefixtures("own_rclone")


class Pair:
    """A host that copied its points, and one that has nothing but the folder of its backups."""

    def __init__(self, folder, remote, image=None):
        self.remote = remote
        self.source = OffsiteHost(folder / "source", remote, folder.name)
        self.empty = OffsiteHost(folder / "empty", remote, folder.name, image)
        self.there = remote.folder and remote.folder / folder.name

    def fetch(self, check_mode=False, **given):
        options = {name: option.get("default") for name, option in arguments.OFFSITE_FETCH.items()}
        mine = {name: value for name, value in self.empty.params().items() if name in options}
        return fetch.fetch({**options, **mine, **given}, check_mode)

    def fail(self, **given):
        with pytest.raises(BackupError) as caught:
            self.fetch(**given)
        return str(caught.value)

    def here(self, within="."):
        """Files of the empty host that a catalog shows."""
        root = self.empty.backups / within
        return {name: digest for name, digest in files(root).items() if not name.startswith(".")}

    def left(self):
        return [str(path) for path in (self.empty.backups / ".offsite" / "fetch").glob("work-*")] + self.empty.left()


@pytest.fixture
def pair(tmp_path):
    """With a mounted disk for a remote: no server to ask, for what is no matter of the remote's kind."""
    with endpoints.local(tmp_path / "disk") as disk:
        pair = Pair(tmp_path, disk)
        yield pair
        assert pair.left() == []


@pytest.fixture
def cloud(tmp_path, s3):
    pair = Pair(tmp_path, s3)
    yield pair
    assert pair.left() == []


def modes(folder):
    return {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*") if path.is_file()}


def test_check_fetch_check_fetch(remote, tmp_path):
    pair = Pair(tmp_path, remote)
    old, new = pair.source.point(1), pair.source.folder_point()
    pair.source.copy()

    said = pair.fetch(check_mode=True)
    assert (said["point"], said["dir"], said["changed"]) == (new, str(pair.empty.backups), True)
    assert [item["file"] for item in said["fetched"]] == [f"postgres/postgres-{new}.dump", f"redis/redis-{new}.rdb"]
    assert said["bytes"] == 15000 + 10000 and said["source_stack"] == "shop"
    assert pair.here() == {}

    told = pair.fetch()
    assert {**told, "seconds": 0} == {**said, "seconds": 0}
    assert pair.here() == pair.source.here(new) and len(pair.here()) == 3 + 1 + 1 + 1
    found = catalog.read(pair.empty.backups, "shop")
    assert found.choose("latest") == new and not found.fault(new) and found.problems == []
    for store in ("postgres", "redis"):
        assert (pair.empty.backups / store).stat().st_mode & 0o777 == 0o700
        assert modes(pair.empty.backups / store) == {"0o600"}
    assert (pair.empty.backups / "postgres" / f"postgres-{new}.dump").stat().st_mode & 0o777 == 0o700

    for check_mode in (True, False):
        said = pair.fetch(check_mode)
        assert (said["changed"], said["fetched"], said["bytes"]) == (False, [], 0)

    said = pair.fetch(point=old, only=["redis"])
    assert [item["file"] for item in said["fetched"]] == [f"redis/redis-{old}.rdb"]
    assert pair.here() == {**pair.source.here(new), **{k: v for k, v in pair.source.here(old).items() if "redis" in k}}
    assert pair.fetch(point=old)["bytes"] == 10000  # the other store
    assert pair.here() == pair.source.here(old, new)
    assert pair.left() == []


def test_rclone_in_a_container_fetches_too(tmp_path, s3):
    pair = Pair(tmp_path, s3, endpoints.IMAGE)
    new = pair.source.folder_point()
    pair.source.copy()
    pair.fetch()
    assert pair.here() == pair.source.here(new) and pair.left() == []
    assert {path.stat().st_uid for path in pair.empty.backups.rglob("*")} == {os.getuid()}


def test_real_backups_are_whole_after_the_way_there_and_back(stack, pair, tmp_path):
    sh("age-keygen", "-o", str(tmp_path / "key"))
    recipient = sh("age-keygen", "-y", str(tmp_path / "key")).strip()
    folder, sealed = "20260101-000000", "20260102-000000"
    stack.take(pair.source.backups, [{**PG, "format": "directory"}, REDIS], id=folder, stack="shop")
    stack.take(pair.source.backups, [PG, REDIS], id=sealed, stack="shop", age_recipients=[recipient])
    pair.source.copy()
    shutil.rmtree(pair.source.backups)
    key = {"age_identity_file": str(tmp_path / "key")}
    assert pair.fetch()["point"] == sealed
    said = stack.verify(pair.empty.backups, stack="shop", point=sealed, **key)
    assert said["complete"] and all(store["checked"]["structure"] for store in said["stores"])
    pair.fetch(point=folder)
    (pair.empty.backups / "redis" / f"redis-{sealed}.rdb.age").write_bytes(b"lost")
    beside = pair.fetch(point=sealed)["dir"]
    said = stack.verify(beside, stack="shop", point=sealed, **key)
    assert said["complete"] and all(store["checked"]["structure"] for store in said["stores"])
    # Without stack-backup: the programs that a person has.
    dump = pair.empty.backups / "postgres" / f"postgres-{folder}.dump"
    run = ["docker", "run", "--rm", "--volume", f"{dump}:/dump:ro", "--entrypoint", "pg_restore", "postgres:17"]
    assert "TABLE DATA public orders owner" in sh(*run, "-l", "/dump")
    assert sh(*run, "-f", "-", "-t", "orders", "/dump").count("\n") > 20000


# --- which point -------------------------------------------------------------------------------------------------------


def plant(pair, when, of, **point):
    """A newer backup at the remote that a copy would not have brought there."""
    host = OffsiteHost(pair.source.config.parent / f"plant-{point_id(when)}", pair.remote, "x")
    for store in of:
        host.world.publish(when, store, **point)
    shutil.copytree(host.backups, pair.there, dirs_exist_ok=True)
    return point_id(when)


def test_latest_is_the_newest_that_is_whole_and_tells_what_it_passed_over(pair):
    now = pair.source.world.now
    good, cut = pair.source.point(1), pair.source.point(0.5)
    pair.source.copy()
    (pair.there / "redis" / f"redis-{cut}.rdb").write_bytes(b"short")
    half = plant(pair, now - 3600, ["redis"])
    safety = plant(pair, now - 60, ["redis"], stores=["redis"], purpose="safety")
    (pair.there / "notes.txt").write_text("mine")
    said = pair.fetch()
    assert said["point"] == good and pair.here() == pair.source.here(good)
    notes = " | ".join(said["notes"])
    assert all(f"{point} is incomplete" in notes for point in (half, cut)) and f"redis-{cut}.rdb has 5 bytes" in notes
    assert pair.remote.path() in notes and "work-" not in notes

    said = pair.fail(point=cut)
    assert f"redis-{cut}.rdb has 5 bytes, its manifest says 10000" in said and "work-" not in said
    assert pair.fetch(point=cut, only=["postgres"])["bytes"] == 10000
    assert pair.fetch(point=safety)["bytes"] == 10000
    assert pair.fetch(point=half)["bytes"] == 10000
    assert "lacks the store postgres (it has redis)" in pair.fail(point=half, only=["postgres"])
    assert "there is no recovery point 20200101-000000: newest are" in pair.fail(point="20200101-000000")


def test_a_remote_without_a_point(pair):
    assert "is empty: mend offsite_remote" in pair.fail()
    pair.there.mkdir()
    (pair.there / "notes.txt").write_text("mine")
    assert "has no stack-backup.json, which says whose it is" in pair.fail()
    (pair.there / "notes.txt").unlink()
    point = pair.source.point()
    pair.source.copy()
    (pair.there / "redis" / f"redis-{point}.rdb").write_bytes(b"short")
    said = pair.fail()
    assert "there is no complete recovery point" in said and "has 5 bytes" in said and "work-" not in said
    assert pair.here() == {}


def test_wrong_keys_and_a_remote_that_is_away(cloud):
    cloud.empty.remote = cloud.remote.having(secret_access_key="wrong")
    assert "refuses these keys" in cloud.fail(retries=1)
    cloud.empty.remote = cloud.remote.having(endpoint="http://127.0.0.1:1")
    assert "can't be reached from this host" in cloud.fail(retries=1)
    assert cloud.here() == {}


# --- what is here ------------------------------------------------------------------------------------------------------


def flip(path):
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


def other_manifest(path):
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "seconds": {"total": 9.0}}))


SPOILED = {
    "flipped": (flip, "redis/redis-{}.rdb", "has the sha256"),
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        "redis/redis-{}.rdb",
        "has 9995 bytes, not 10000",
    ),
    "a part of a folder": (flip, "postgres/postgres-{}.dump/toc.dat", "has the sha256"),
    "linked": (
        lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
        "redis/redis-{}.rdb",
        "is a symbolic link",
    ),
    "another": (other_manifest, "redis/redis-{}.json", "tells of another backup"),
    "half-written": (lambda path: path.mkdir(), "redis/redis-{}.partial", "is there too"),
    "half-removed": (
        lambda path: path.with_name(path.name[1:].removesuffix(".removed")).rename(path),
        "redis/.redis-{}.json.removed",
        "is there too",
    ),
}


@pytest.mark.parametrize("how", SPOILED)
def test_what_is_here_and_differs_stays_and_the_point_is_fetched_beside_it(pair, how):
    spoil, name, said = SPOILED[how]
    point = pair.source.folder_point()
    pair.source.copy()
    pair.fetch()
    spoil(pair.empty.backups / name.format(point))
    before = pair.here()
    for check_mode in (True, False):
        told = pair.fetch(check_mode)
        assert told["dir"] == str(pair.empty.backups / ".from" / "shop") and told["changed"]
        assert said in told["notes"][-1] and "stays as it is" in told["notes"][-1]
        # What is good here is not fetched again.
        spoiled = how in ("flipped", "truncated", "a part of a folder", "linked")
        assert [item["file"] for item in told["fetched"]] == ["/".join(name.format(point).split("/")[:2])] * spoiled
    assert pair.here() == before
    assert pair.here(".from/shop") == pair.source.here(point)
    found = catalog.read(pair.empty.backups / ".from" / "shop", "shop")
    assert found.choose("latest") == point and found.problems == []
    assert modes(pair.empty.backups / ".from") == {"0o600"}
    again = pair.fetch()
    assert (again["changed"], again["fetched"], again["dir"]) == (False, [], told["dir"])


def test_what_is_here_and_good_is_completed_in_its_place(pair):
    """As a fetch leaves it that was killed while it placed its files."""
    point = pair.source.folder_point()
    pair.source.copy()
    pair.fetch()
    for name in (f"redis/redis-{point}.json", f"postgres/postgres-{point}.json", f"redis/redis-{point}.rdb"):
        (pair.empty.backups / name).unlink()
    said = pair.fetch()
    assert [item["file"] for item in said["fetched"]] == [f"redis/redis-{point}.rdb"]
    assert said["dir"] == str(pair.empty.backups) and pair.here() == pair.source.here(point)
    (pair.empty.backups / f"redis/redis-{point}.json").unlink()
    said = pair.fetch()
    assert (said["changed"], said["bytes"]) == (True, 0) and pair.here() == pair.source.here(point)


def test_a_disk_without_room(pair):
    pair.source.point(size=3_000_000)
    pair.source.copy()
    sh("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(pair.empty.backups))
    try:
        said = pair.fail()
        assert "bytes free, this fetch needs 73108864: free some" in said
        assert pair.here() == {}
    finally:
        sh("umount", str(pair.empty.backups))


# --- another stack's ---------------------------------------------------------------------------------------------------


def test_another_stacks_points_are_taken_only_when_meant_and_stay_apart(pair, tmp_path):
    point = pair.source.folder_point()
    pair.source.copy()
    mine = pair.empty.point(3)
    before = pair.here()
    said = pair.fail(stack="staging")
    assert "these recovery points are of stack shop, this is stack staging" in said
    assert "-e restore_as_stack=staging" in said
    assert "this is stack staging" in pair.fail(stack="staging", as_stack="shop")
    assert pair.here() == before and not (pair.empty.backups / ".from").exists()

    told = pair.fetch(stack="staging", as_stack="staging")
    assert (told["point"], told["source_stack"]) == (point, "shop")
    assert told["dir"] == str(pair.empty.backups / ".from" / "shop")
    assert pair.here(".from/shop") == pair.source.here(point) and pair.here() == before
    assert list(catalog.read(pair.empty.backups).points) == [mine]
    prune.prune({"backup_dir": str(pair.empty.backups), "stack": "shop", "keep_last": 1, "max_age_hours": 0.0})
    assert pair.fetch(stack="staging", as_stack="staging")["changed"] is False
    newer = pair.source.point(-0.01)
    pair.source.copy()
    assert pair.fetch(stack="staging", as_stack="staging")["point"] == newer
    assert pair.here(".from/shop") == pair.source.here(newer)  # one point at a time
    assert pair.fetch()["dir"] == str(pair.empty.backups)  # the stack's own again
    assert not (pair.empty.backups / ".from").exists()


@pytest.mark.parametrize("name", ["../../etc", "..", ".hidden", "a/b", "a\nb", "/etc"])
def test_a_remotes_word_for_a_stack_makes_no_path(pair, name):
    pair.source.point()
    pair.source.copy()
    (pair.there / "stack-backup.json").write_text(json.dumps({"format": 1, "stack": name}))
    said = pair.fail(as_stack="shop")
    assert "can't be a folder's name" in said, said
    assert pair.here() == {} and not (pair.empty.backups / ".from").exists()


def test_a_manifest_that_names_files_elsewhere_brings_nothing(pair):
    point = pair.source.folder_point()
    pair.source.copy()
    manifest = pair.there / "postgres" / f"postgres-{point}.json"
    data = json.loads(manifest.read_text())
    data["artifact"]["files"]["../../../../escaped"] = data["artifact"]["files"].pop("toc.dat")
    manifest.write_text(json.dumps(data))
    assert "the manifest can't be read" in pair.fail(point=point)
    assert pair.here() == {}


# --- faults ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def liar(cloud):
    """The proxy between the empty host and its remote."""
    with lying.proxy(cloud.remote) as liar:
        cloud.empty.remote = liar.remote
        yield liar


def gets(liar, part):
    return [path for method, path in liar.seen if method == "GET" and part in path]


def test_what_was_cut_off_is_completed_by_the_next_fetch(cloud, liar):
    point = cloud.source.point()
    cloud.source.copy()
    liar.fault, liar.when = lying.cut, lambda method, path: method == "GET" and ".dump" in path
    said = cloud.fail(retries=1)
    assert "offsite_remote" in said and cloud.here() == {}
    liar.fault, liar.seen = lying.honest, []
    cloud.fetch()
    assert cloud.here() == cloud.source.here(point)
    assert gets(liar, ".dump") and not gets(liar, ".rdb")  # that one had arrived


def test_a_fetch_that_was_killed_is_completed_by_the_next_one(pair):
    point = pair.source.point(size=2_000_000)
    pair.source.copy()
    params = {**pair.empty.params(), "point": "latest", "only": [], "as_stack": None, "bwlimit": "500k", "transfers": 1}
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'module_utils')!r})\n"
    program += f"from stack_backup.offsite import fetch\nfetch.fetch({params!r})"
    job = subprocess.Popen([sys.executable, "-c", program])
    arriving = pair.empty.backups / ".offsite" / "fetch" / "arriving"
    assert until(lambda: any(path.stat().st_size for path in arriving.rglob("*-*.*") if path.is_file()))
    job.send_signal(signal.SIGKILL)
    job.wait(20)
    assert until(lambda: not pair.empty.processes()), pair.empty.processes()
    assert pair.here() == {} and catalog.read(pair.empty.backups, "shop").points == {}
    pair.fetch()
    assert pair.here() == pair.source.here(point)
    assert not arriving.exists()


@pytest.mark.parametrize("fault", ["altered there", "altered on its way"])
def test_what_is_not_as_it_was_backed_up_is_refused(cloud, liar, fault):
    point = cloud.source.point()
    cloud.source.copy()
    data = next((cloud.there / "postgres").glob("*.dump"))
    good = data.read_bytes()
    if fault == "altered there":
        flip(data)
    else:
        liar.fault, liar.when = lying.alter, lambda method, path: method == "GET" and ".dump" in path
    said = cloud.fail(retries=1)
    assert "is not what was backed up" in said or "corrupted on transfer" in said, said
    assert cloud.here() == {}
    data.write_bytes(good)
    liar.fault = lying.honest
    cloud.fetch()
    assert cloud.here() == cloud.source.here(point)


def test_a_point_that_is_removed_while_it_is_fetched(cloud, liar):
    cloud.source.point()
    cloud.source.copy()

    def remove(exchange):
        for path in cloud.there.rglob("*.dump"):
            path.unlink()
        exchange.pass_on()

    for method in ("HEAD", "GET"):  # before rclone knows the object, and after
        liar.fault, liar.when = remove, lambda asked, path, method=method: asked == method and ".dump" in path
        said = cloud.fail(retries=1)
        assert "was removed, or changed, while it was fetched; nothing was placed" in said, said
        assert cloud.here() == {}
        shutil.copytree(cloud.source.backups / "postgres", cloud.there / "postgres", dirs_exist_ok=True)


def test_a_backup_that_runs_keeps_it_from_placing_and_not_from_fetching(cloud, liar):
    point = cloud.source.point()
    cloud.source.copy()
    with Lock(cloud.empty.backups):
        with pytest.raises(Locked):
            cloud.fetch()
        assert cloud.here() == {}
    liar.seen = []
    cloud.fetch()
    assert cloud.here() == cloud.source.here(point)
    assert not gets(liar, ".dump") and not gets(liar, ".rdb")


def test_a_copy_that_runs_for_hours_keeps_nobody_from_a_restore(pair):
    point = pair.source.point()
    pair.source.copy()
    (pair.empty.backups / ".offsite").mkdir()
    with Lock(pair.empty.backups / ".offsite"):
        assert pair.fetch()["point"] == point


def test_what_root_fetched_belongs_to_the_owner_of_the_backups(pair):
    """Who runs the scheduled jobs goes on from there."""
    pair.source.point(days=1)
    pair.source.copy()
    os.chown(pair.empty.backups, 1234, 1234)
    pair.fetch()
    pair.empty.copy()
    owners = {str(path): path.lstat().st_uid for path in pair.empty.backups.rglob("*")}
    assert len(owners) > 10 and set(owners.values()) == {1234}, owners
