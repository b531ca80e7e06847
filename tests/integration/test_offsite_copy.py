"""Offsite copies on real remotes: what is there is what is here, asked of the remote's own disk or API."""

import shutil

import endpoints
import pytest
from conftest import PG, REDIS, sh
from offsite_host import OffsiteHost, files
from stack_backup import arguments
from stack_backup.artifact import Lock, write_json
from stack_backup.config import read
from stack_backup.errors import BackupError, Locked
from stack_backup.offsite import copy
from stack_backup.record import last
from stack_backup.runner import run
from stack_backup.validate import complete

pytestmark = pytest.mark.usefixtures("own_rclone")


@pytest.fixture(params=["host", "container"])
def either(request, tmp_path, s3):
    """A host whose rclone is its own, and one whose rclone is in a container."""
    host = OffsiteHost(
        tmp_path, s3, f"{request.param}-{tmp_path.name}", endpoints.IMAGE if request.param == "container" else None
    )
    yield host
    assert host.left() == []


def test_check_copy_check_copy(remote, tmp_path):
    host = OffsiteHost(tmp_path, remote, f"quartet-{tmp_path.name}")
    old, new = host.point(2), host.folder_point()
    host.world.publish(host.world.now - 86400, "redis")  # of a point whose Postgres failed
    host.world.publish(host.world.now - 4000, "redis", stores=["redis"], purpose="safety")
    before = files(host.backups)

    said = host.copy(check_mode=True)
    assert (said["missing"], said["there"], said["changed"]) == ([old, new], [], False)
    assert host.there() == {} and host.state()["points"] == {}

    said = host.copy()
    assert [point["id"] for point in said["copied"]] == [new, old] and said["changed"]
    assert (said["there"], said["newest"], said["problems"], said["notes"]) == ([old, new], new, [], [])
    there = host.there()
    assert there == host.here(old, new) and len(there) == 4 + 3 + 1 + 2
    assert set(host.state()["points"]) == {old, new} and host.state()["at"] > 0

    said = host.copy(check_mode=True)
    assert (said["missing"], said["there"], said["changed"]) == ([], [old, new], False)
    said = host.copy()
    assert (said["copied"], said["changed"], said["checked"]) == ([], False, [old])

    newer = host.point(-0.01)
    assert [point["id"] for point in host.copy()["copied"]] == [newer]
    assert host.there() == host.here(old, new, newer)
    kept = files(host.backups)
    assert {name: kept[name] for name in before} == before
    assert host.left() == []


def test_both_runners_copy_and_leave_nothing(either):
    old, new = either.point(1), either.folder_point()
    assert either.copy()["there"] == [old, new]
    assert either.there() == either.here(old, new)
    assert either.copy()["changed"] is False
    if either.image:
        filters = ["--filter", f"label=com.docker.compose.project={either.project}"]
        assert sh("docker", "ps", "--all", "--quiet", *filters) == ""
        assert sh("docker", "network", "ls", "--quiet", *filters) == ""


def test_encrypted_points_and_folders_of_a_real_stack(stack, s3, tmp_path):
    sh("age-keygen", "-o", str(tmp_path / "key"))
    recipient = sh("age-keygen", "-y", str(tmp_path / "key")).strip()
    host = OffsiteHost(tmp_path, s3, f"real-{tmp_path.name}")
    stores = [{**PG, "format": "directory"}, REDIS]
    stack.take(host.backups, stores, id="20260101-000000", stack="shop")
    stack.take(host.backups, [PG, REDIS], id="20260102-000000", stack="shop", age_recipients=[recipient])
    host.copy()
    there = host.there()
    assert there == host.here("20260101-000000", "20260102-000000")
    assert "postgres/postgres-20260101-000000.dump/toc.dat" in there
    assert {"postgres/postgres-20260102-000000.dump.age", "redis/redis-20260102-000000.rdb.age"} <= set(there)


def test_nothing_is_written_twice_where_objects_are_locked(tmp_path):
    with endpoints.moto(lock=True) as remote:
        client = remote.client()
        retention = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
        rule = {"ObjectLockEnabled": "Enabled", "Rule": retention}
        client.put_object_lock_configuration(Bucket=remote.root, ObjectLockConfiguration=rule)
        host = OffsiteHost(tmp_path, remote, "locked")
        old = host.point(1)
        host.copy()
        new = host.point()
        host.copy(check_points=9)
        assert host.there() == host.here(old, new)
        versions = client.list_object_versions(Bucket=remote.root)
        assert len(versions["Versions"]) == len(host.there()) + 1 and "DeleteMarkers" not in versions
        for item in versions["Versions"]:
            head = client.head_object(Bucket=remote.root, Key=item["Key"])
            assert head["ObjectLockMode"] == "COMPLIANCE"


def test_a_remote_without_hashes_is_compared_by_content_as_far_as_allowed(tmp_path):
    with endpoints.local(tmp_path / "disk") as disk:
        secret = sh(endpoints.RCLONE, "obscure", "secret").strip()
        crypt = f"\n[crypt]\ntype = crypt\nremote = {disk.path()}\npassword = {secret}\n"
        crypt += "filename_encryption = off\ndirectory_name_encryption = false\n"
        host = OffsiteHost(tmp_path, disk, "x")
        params = {"remote": "crypt:x", "check_points": 5}

        class Both(endpoints.Remote):
            config = disk.config + crypt

        host.remote = Both(disk.name, disk.options, disk.root, disk.wrong, disk.folder)
        old = host.point(1)
        said = host.copy(**params)
        assert said["there"] == [old] and said["notes"] == []
        stored = next((disk.folder / "x" / "postgres").glob("*.dump.bin"))
        assert b"shop" not in stored.read_bytes() and stored.stat().st_size > 10000

        new = host.point()
        said = host.copy(**params, download_bytes=15000)
        assert said["there"] == [old, new]
        assert "were compared by size alone (offsite_download_bytes)" in said["notes"][0]

        data = bytearray(stored.read_bytes())
        data[200] ^= 1
        stored.write_bytes(data)
        with pytest.raises(BackupError, match="postgres-.*dump can't be compared: .*authenticate"):
            host.copy(**params)
        assert host.copy(**params, download_bytes=0)["notes"]  # what it says then is that it did not look


def test_the_host_runs_it_from_its_list_of_jobs(either, tmp_path, monkeypatch):
    point = either.point()
    params = {name: value for name, value in either.params().items() if value is not None}
    write_json(tmp_path / "shop.json", {"format": 1, "stack": "shop", "offsite": [["offsite_copy", params]]})
    monkeypatch.setenv("STACK_BACKUP_VAR", str(tmp_path))
    config = read(tmp_path / "shop.json")
    config.state_dir.mkdir(parents=True, exist_ok=True)
    record = run(config, "offsite", wait=0, warn=print)
    assert record["ok"], record
    assert "1 recovery points copied, 20.0 kB; 1 at " in " ".join(last(config, "offsite")["log"])
    assert either.there() == either.here(point)


def test_one_at_a_time_and_beside_a_backup(tmp_path, s3):
    host = OffsiteHost(tmp_path, s3, f"lock-{tmp_path.name}")
    host.point()
    with Lock(host.backups):  # a backup runs
        host.copy()
    with Lock(host.backups / ".offsite"), pytest.raises(Locked):
        host.copy()


def test_its_parameters_are_enough(tmp_path, s3):
    """The module's required parameters and nothing else, by its own defaults but for the runner."""
    host = OffsiteHost(tmp_path, s3, f"few-{tmp_path.name}")
    host.point()
    needed = ("stack", "backup_dir", "remote", "config_dir", "runner")
    params = complete(arguments.OFFSITE_COPY, {name: host.params()[name] for name in needed}, "x")
    assert copy.copy(params)["changed"]
    shutil.rmtree(host.backups / ".offsite")  # what is known of the remote is no more than a help
    assert copy.copy(params)["changed"] is False
