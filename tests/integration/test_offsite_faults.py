"""Faults of offsite copies: one clear error in bounded time, no ok while nothing is there, and the next run completes."""

import contextlib
import json
import os
import re
import shutil
import signal
import threading
import time

import endpoints
import lying
import pytest
from conftest import sh, until
from offsite_host import OffsiteHost, files
from stack_backup.containers import Docker
from stack_backup.errors import BackupError
from stack_backup.offsite import rclone
from stack_backup.process import Deadline

pytestmark = pytest.mark.usefixtures("own_rclone")


@pytest.fixture(scope="module")
def sftp(tmp_path_factory):
    with endpoints.sftp(tmp_path_factory.mktemp("sftp")) as remote:
        yield remote


@pytest.fixture
def host(tmp_path, s3):
    host = OffsiteHost(tmp_path, s3, f"fault-{tmp_path.name}")
    yield host
    assert host.left() == []


@pytest.fixture
def liar(host):
    with lying.proxy(host.remote) as liar:
        liar.true, host.remote = host.remote, liar.remote
        yield liar


@pytest.fixture
def disk(tmp_path):
    """A host whose remote is a folder, as a mounted disk."""
    with endpoints.local(tmp_path / "disk") as remote:
        host = OffsiteHost(tmp_path, remote, "x")
        yield host
        assert host.left() == []


def fails(host, message, seconds=90, **given):
    """One error of these words, in time; nothing here was changed, and the run does not count as one that ended well."""
    before = {name: digest for name, digest in files(host.backups).items() if not name.startswith(".offsite")}
    at, began = host.state()["at"], time.monotonic()
    with pytest.raises(BackupError) as caught:
        host.copy(**given)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value) and time.monotonic() - began < seconds
    assert before == {name: digest for name, digest in files(host.backups).items() if not name.startswith(".offsite")}
    assert host.state()["at"] == at
    return caught.value


# --- what is wrong from the start ---------------------------------------------------------------------------------------


def test_wrong_keys(host, sftp):
    host.point()
    right, host.remote = host.remote, host.remote.having(**host.remote.wrong)
    fails(host, "refuses these keys.*SignatureDoesNotMatch")
    host.remote = sftp.having(**sftp.wrong)
    fails(host, "refuses these keys.*unable to authenticate")
    host.remote = right
    assert host.there() == {}


def test_a_configuration_that_is_wrong(host, monkeypatch):
    host.point()
    fails(host, "make the bucket, or mend offsite_remote", remote="s3:nowhere/x")
    fails(host, "no section of the name", remote="other:bucket/x")
    for remote in ("bucket/x", "", "-x", "s3,env_auth=true:bucket", ":s3:bucket", "s3:buc\nket"):
        fails(host, "is not an rclone path", remote=remote)
    fails(host, "sees it with offsite_runner: host", remote="/mnt/x", runner="container")
    fails(host, "compose.yml is missing or not readable: run playbooks/install.yml", runner="container")
    fails(host, "rclone.conf is missing or not readable: run playbooks/install.yml", config_dir=str(host.backups))
    fails(host, "is the prefix|raise offsite_timeout", timeout=0.01)
    monkeypatch.setenv("PATH", "/nowhere")
    fails(host, "rclone is not on this host's PATH: install it, or set offsite_runner: container")


def test_nothing_to_copy_is_no_ok_for_a_bucket_that_is_missing(host):
    fails(host, "make the bucket", remote="s3:nowhere/x")


def test_a_remote_that_can_not_be_reached_and_one_that_says_nothing(host, monkeypatch):
    host.point()
    host.remote = host.remote.having(endpoint="http://127.0.0.1:1")
    fails(host, "can't be reached from this host.*refused")
    fixed = [word.replace("60s", "1s") for word in rclone._FIXED]
    monkeypatch.setattr(rclone, "_FIXED", fixed)
    with endpoints.socket.create_server(("127.0.0.1", 0)) as silent:
        host.remote = host.remote.having(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        fails(host, "can't be reached from this host")
        fails(host, "raise offsite_timeout, or see what is slow", timeout=0.5)


def test_another_stacks_prefix_and_one_that_is_nobodys(host, tmp_path):
    point = host.point()
    other = OffsiteHost(tmp_path / "other", host.remote, host.prefix)
    folder = host.remote.folder / host.prefix
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"x")
    fails(host, "holds files and no stack-backup.json that says whose, e.g. .*holiday.jpg.*give a prefix that is empty")
    (folder / "holiday.jpg").unlink()
    host.copy()
    fails(other, "is the prefix of stack shop, not of other: give each stack a prefix", stack="other")
    (folder / "stack-backup.json").write_text("{}")
    fails(host, "stack-backup.json is not as this program writes it")
    (folder / "stack-backup.json").unlink()  # the stack's own points say whose it is
    host.copy()
    assert host.there() == host.here(point) and (folder / "stack-backup.json").exists()


# --- what is wrong with the remote ----------------------------------------------------------------------------------


def data(method, path):
    return method == "PUT" and "/postgres/" in path and ".json" not in path


def manifest(method, path):
    return method == "PUT" and "/postgres/" in path and ".json" in path


@pytest.mark.parametrize("what", [data, manifest])
def test_a_remote_that_says_yes_and_drops_it(host, liar, what):
    point = host.point()
    liar.fault, liar.when = lying.drop, what
    error = fails(host, "does not hold what it was given: ")
    assert error.details["there"] == [] and error.details["missing"] == [point]
    assert not any("postgres" in name and ".json" in name for name in host.there())
    liar.fault = lying.honest
    liar.dropped.clear()
    assert host.copy()["there"] == [point]
    assert host.there() == host.here(point)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-1] + b"~"), "dump differs"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "dump differs"),
        (lambda file: file.unlink(), "dump is not there"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_remote_that_keeps_something_else(host, liar, spoil, told, late):
    """The disk under the server is changed right after the upload; or after rclone has looked at it once."""
    point = host.point()

    def spoils(exchange):
        if not late:
            exchange.pass_on()
        spoil(next((host.remote.folder / host.prefix / "postgres").glob("*.dump")))
        time.sleep(0.3)
        if late:
            exchange.pass_on()
        liar.fault = lying.honest

    def first_listing(method, path):
        return "list-type" in path and any(data(*request) for request in liar.seen)

    liar.fault, liar.when = spoils, first_listing if late else data
    if late:  # else rclone sees it by itself, and tries again
        error = fails(host, f"does not hold what was copied: .*{told}")
        assert error.details["there"] == []
        assert not any(".json" in name for name in host.there())
    assert host.copy()["there"] == [point]  # what no manifest tells of is replaced
    assert host.there() == host.here(point)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (507, "QuotaExceeded", "the remote is full, or its quota is used up"),
        (403, "QuotaExceeded", "the remote is full, or its quota is used up"),
        (403, "RequestTimeTooSkewed", "clock is wrong"),
        (403, "AccessDenied", "refuses these keys, or what they may do"),
        (400, "ExpiredToken", "refuses these keys"),
    ],
)
def test_a_remote_that_refuses_to_keep(host, liar, status, code, message):
    point = host.point()
    liar.fault, liar.when = lying.refuse(status, code), data
    fails(host, f"{message}.*{code}")
    liar.fault = lying.honest
    host.copy()
    assert host.there() == host.here(point)


def test_a_connection_that_is_cut_in_the_middle(host, liar):
    old, new = host.point(1), host.point()
    liar.fault, liar.when = lying.cut, lambda method, path: data(method, path) and old in path
    error = fails(host, "")
    assert error.details["there"] == [] or error.details["there"] == [new]
    liar.fault = lying.honest
    assert host.copy()["there"] == [old, new]
    assert host.there() == host.here(old, new)


def test_manifests_that_come_altered_are_no_points(host, liar):
    host.point()
    host.copy()
    shutil.rmtree(host.backups / ".offsite" / "manifests")
    liar.fault = lying.alter
    liar.when = lambda method, path: method == "GET" and "/postgres/" in path
    with pytest.raises(BackupError):
        host.copy()


def test_what_was_altered_cut_or_removed_at_the_remote_is_found_and_not_replaced(disk):
    old, new = disk.point(1), disk.point()
    disk.copy()
    folder = disk.remote.folder / "x" / "postgres"
    good = (folder / f"postgres-{old}.dump").read_bytes()

    (folder / f"postgres-{old}.dump").write_bytes(good[:-5])
    for _ in range(2):
        error = fails(disk, f"postgres-{old}.dump has 9995 bytes, its manifest says 10000.*remove them there")
        assert error.details["there"] == [new]
    assert (folder / f"postgres-{old}.dump").read_bytes() == good[:-5]

    (folder / f"postgres-{old}.dump").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    told = 0
    for _ in range(2):  # one point a run, what was compared longest ago first
        try:
            disk.copy()
        except BackupError as error:
            told += 1
            assert f"postgres-{old}.dump differs" in str(error)
    assert told

    (folder / f"postgres-{old}.dump").unlink()
    assert disk.copy()["there"] == [old, new]
    (folder / f"postgres-{old}.json").unlink()
    assert disk.copy()["there"] == [old, new]
    assert disk.there() == disk.here(old, new)


def test_points_that_vanished_and_a_disk_that_is_not_mounted(disk):
    points = [disk.point(day) for day in (2, 1, 0)]
    disk.copy()
    for name in list((disk.remote.folder / "x").glob(f"*/*{points[0]}*")):
        name.unlink()
    for name in list(disk.backups.glob(f"*/*{points[0]}*")):
        name.unlink()
    said = disk.copy()
    assert f"1 recovery points are gone from the remote, and not by stack-backup: {points[0]}" in said["notes"][0]
    shutil.move(disk.remote.folder / "x", disk.remote.folder / "away")
    for empty in (False, True):
        if empty:
            (disk.remote.folder / "x").mkdir()
        fails(disk, "is empty, and held 2 recovery points: is its disk mounted")
        assert len(disk.state()["points"]) == 2
    assert disk.there() == {}


def test_a_disk_that_is_full(disk, tmp_path):
    small = disk.remote.folder / "x"
    small.mkdir()
    sh("mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small))
    try:
        old, new = disk.point(1, size=150000), disk.point()
        error = fails(disk, "the remote is full, or its quota is used up.*space")
        assert old not in error.details["there"]
        assert not [name for name in disk.there() if name.endswith(".partial")]
        sh("mount", "-o", "remount,size=5m", str(small))
        disk.copy()
        assert disk.there() == disk.here(old, new)
    finally:
        sh("umount", str(small))


@pytest.mark.parametrize("left", ["cut", "altered"])
def test_what_a_copy_left_that_did_not_end_is_replaced(disk, left):
    point = disk.point()
    here = (disk.backups / "postgres" / f"postgres-{point}.dump").read_bytes()
    folder = disk.remote.folder / "x" / "postgres"
    folder.mkdir(parents=True)
    (folder / f"postgres-{point}.dump").write_bytes(here[:100] if left == "cut" else bytes(len(here)))
    (folder / f"postgres-{point}.dump.0123abcd.partial").write_bytes(here[:100])
    (folder.parent / "stack-backup.json.0123abcd.partial").write_bytes(b"{")
    assert disk.copy(check_mode=True)["missing"] == [point] and len(list(folder.iterdir())) == 2
    said = disk.copy()
    assert said["there"] == [point] and said["problems"] == []
    assert disk.there() == disk.here(point)


def test_names_of_any_kind_at_the_remote(tmp_path):
    with endpoints.moto() as remote:
        host = OffsiteHost(tmp_path, remote, "x")
        old, client = host.point(1), remote.client()
        host.copy()
        around = files(tmp_path)
        evil = f"postgres/postgres-{old[:-1]}"
        keys = [
            *("../evil", "/etc/evil", "//evil", "postgres/../../evil", ".hidden", "a\nb", "a\tb", "postgres"),
            *(f"{'n' * 700}/x", "deep/er/and/deep/er", "file", "file/within", "spaß/ü", "sp ace/ x ", "*", "?[a]"),
            *(f"{'n' * 220}/{'n' * 220}-{old}.json", f"postgres/postgres-{old}.dump/within", f"{evil}0.json"),
            *(
                f"postgres/postgres-{old}.json/within",
                "stack-backup.json/within",
                "-v/-v-20190101-000000.json",
                "x\\y/z",
            ),
        ]
        for key in keys:
            with contextlib.suppress(client.exceptions.ClientError):  # moto has no room for some
                client.put_object(Bucket=remote.root, Key=f"x/{key}", Body=b"evil")
        made = [old]
        for named in ({"toc.dat": {"size": 4}, "../../../evil": {"size": 4}}, ["evil"], "evil"):
            point = "20200101-000000"
            artifact = {"name": f"postgres-{point}.dump", "size": 8, "sha256": "x", "files": named}
            told = {"format": 1, "stack": "shop", "store": "postgres", "engine": "postgres", "artifact": artifact}
            told.update(point={"id": point, "stores": ["postgres"]}, pin={"at": "x"}, seconds={"total": 1})
            body = json.dumps(told).encode()
            client.put_object(Bucket=remote.root, Key=f"x/postgres/postgres-{point}.json", Body=body)
            client.put_object(Bucket=remote.root, Key=f"x/postgres/postgres-{point}.dump/toc.dat", Body=b"evil")
            client.put_object(Bucket=remote.root, Key=f"x/postgres/postgres-{point}.dump/evil", Body=b"evil")
            made.append(host.point(1 - 0.01 * len(made)))
            with pytest.raises(BackupError) as caught:
                host.copy()
            told = caught.value.details
            assert told["there"] == made
            assert len(told["problems"]) > 10
            shutil.rmtree(host.backups / ".offsite" / "manifests")
        there = host.there()
        assert host.here(*made).items() <= there.items()
        now = {name: digest for name, digest in files(tmp_path).items() if name in around and ".offsite" not in name}
        assert now == {name: digest for name, digest in around.items() if ".offsite" not in name}


# --- what ends in the middle ------------------------------------------------------------------------------------------


def test_a_point_that_is_pruned_while_it_is_copied(host, liar):
    old, new = host.point(1), host.point()

    def prune(exchange):
        for path in list(host.backups.glob(f"*/*{old}*")):
            path.unlink()
        exchange.pass_on()

    liar.fault, liar.when = prune, lambda method, path: method == "PUT" and new in path
    expected = host.here(new)
    said = host.copy()
    assert said["there"] == [new] and [point["id"] for point in said["copied"]] == [new]
    assert said["notes"] == [f"recovery point {old} was pruned here while it was copied"]
    there = host.there()
    assert expected.items() <= there.items()
    assert not any(old in name and name.endswith(".json") for name in there)


def _partly(host):
    """Wait until rclone is in the middle of a transfer."""
    return until(lambda: any(" copy " in line and "/mark " not in line for _, line in host.processes()), 60)


@pytest.mark.parametrize("kind", ["s3", "container", "sftp", "disk"])
@pytest.mark.parametrize("victim", ["job", "rclone", "terminate"])
def test_killed_in_the_middle(request, tmp_path, kind, victim):
    if kind == "container" and victim == "rclone":
        pytest.skip("the same rclone")
    if kind == "disk":
        (tmp_path / "disk" / "bucket").mkdir(parents=True)
    remote = {"s3": "s3", "container": "s3", "sftp": "sftp"}.get(kind)
    with endpoints.local(tmp_path / "disk") as local:
        remote = request.getfixturevalue(remote) if remote else local
        host = OffsiteHost(tmp_path, remote, f"kill-{tmp_path.name}", endpoints.IMAGE if kind == "container" else None)
        old, new = host.point(1, size=30_000_000), host.point(size=1000)
        job = host.start(bwlimit="1M")
        try:
            assert until(
                lambda: host.processes() and (host.remote.folder / host.prefix / "stack-backup.json").exists(), 90
            )
            assert _partly(host)
            time.sleep(1.5)
            assert job.poll() is None, job.stderr.read()
            if victim == "rclone":
                programs = [pid for pid, line in host.processes() if line.startswith("rclone ")]
                os.kill(programs[0], signal.SIGKILL)
                assert "rclone was killed" in job.communicate(timeout=60)[1]
            else:
                os.kill(job.pid, signal.SIGKILL if victim == "job" else signal.SIGTERM)
                job.wait(30)
            assert until(lambda: not host.processes(), 30), host.processes()
            assert not host.image or until(lambda: not host.containers(), 30)
        finally:
            job.kill()
        assert not any(old in name and name.endswith(".json") for name in host.there())
        assert host.copy()["there"] == [old, new]
        assert host.there() == host.here(old, new)
        assert host.left() == []


def test_nothing_secret_is_on_a_command_line_or_in_an_environment(tmp_path, s3):
    host = OffsiteHost(tmp_path, s3, f"secret-{tmp_path.name}", endpoints.IMAGE)
    host.point(size=10_000_000)
    seen = []

    def watch():
        while not done.is_set():
            for container in host.containers():
                seen.append(sh("docker", "inspect", container, check=False))
            seen.extend(line for _, line in host.processes())

    done = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        host.copy()
    finally:
        done.set()
        watcher.join()
    assert any("RepoTags" in text or '"Config"' in text for text in seen)
    assert not any(endpoints.SECRET in text for text in seen)


def test_a_backup_beside_it_leaves_its_container_alone(tmp_path, s3):
    host = OffsiteHost(tmp_path, s3, f"beside-{tmp_path.name}", endpoints.IMAGE)
    point = host.point(size=8_000_000)
    job = host.start(bwlimit="2M")
    assert until(host.containers, 60)
    assert Docker(Deadline(30)).remove_leftovers(str(host.backups)) == []
    assert job.wait(120) == 0, job.stderr.read()
    assert host.there() == host.here(point)
