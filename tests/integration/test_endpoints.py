"""The remotes of the other tests keep their own promises: what is copied there is there, wrong keys are refused."""

import hashlib
import json
from dataclasses import replace

import endpoints
import pytest
from conftest import sh

DATA = bytes(range(256)) * 5000


@pytest.fixture(scope="module", params=["s3", "moto", "gcs", "sftp", "local"])
def remote(request, tmp_path_factory):
    folder = {"folder": tmp_path_factory.mktemp("remote")} if request.param in ("s3", "sftp", "local") else {}
    with getattr(endpoints, request.param)(**folder) as remote:
        yield remote


@pytest.fixture
def source(tmp_path):
    (tmp_path / "a.dump").write_bytes(DATA)
    return tmp_path


def ran(remote, *args):
    result = remote.rclone(*args)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_what_is_copied_is_listed_with_its_hash_and_read_back(remote, source):
    ran(remote, "copy", "--immutable", source, remote.path("there/postgres"))
    (entry,) = json.loads(ran(remote, "lsjson", "--hash", "-R", "--files-only", remote.path("there")))
    assert (entry["Path"], entry["Size"]) == ("postgres/a.dump", len(DATA))
    assert entry["Hashes"]["md5"] == hashlib.md5(DATA).hexdigest()
    ran(remote, "copy", remote.path("there/postgres"), source / "back")
    assert (source / "back" / "a.dump").read_bytes() == DATA
    if remote.folder:
        assert (remote.folder / "there/postgres/a.dump").read_bytes() == DATA


@pytest.mark.parametrize(
    ("remote", "words"), [("s3", "SignatureDoesNotMatch"), ("sftp", "unable to authenticate")], indirect=["remote"]
)
def test_wrong_credentials_are_refused(remote, source, words):
    wrong = remote.having(**remote.wrong)
    # Without the slash rclone asks for an object of that name, and takes S3's 403 for "is a file not a directory".
    for args in (("lsf", wrong.path()), ("copy", source, wrong.path("refused/"))):
        result = wrong.rclone(*args)
        assert result.returncode != 0 and words in result.stderr
    assert not (remote.folder / "refused").exists()


def test_a_missing_bucket_is_an_error_and_a_missing_folder_is_made(remote, source):
    missing = replace(remote, root=f"{remote.root}-missing")
    result = missing.rclone("copy", source, missing.path("x"))
    assert (result.returncode == 0) == (remote.name in ("sftp", "disk"))
    if result.returncode:
        assert "bucket" in result.stderr


def test_a_server_that_pretends_to_be_ours_is_not_talked_to(tmp_path):
    with endpoints.sftp(tmp_path) as remote:
        other = remote.options["host_keys"][:-4] + "AAAA"
        result = remote.having(host_keys=other).rclone("lsf", remote.path())
        assert result.returncode != 0 and "host key" in result.stderr


def test_versions_and_locks_keep_what_is_deleted(source):
    with endpoints.moto(lock=True) as remote:
        client = remote.client()
        rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
        lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        client.put_object_lock_configuration(Bucket=endpoints.BUCKET, ObjectLockConfiguration=lock)
        ran(remote, "copy", source, remote.path("x"))
        ran(remote, "deletefile", remote.path("x/a.dump"))
        (version,) = client.list_object_versions(Bucket=endpoints.BUCKET)["Versions"]
        with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
            client.delete_object(Bucket=endpoints.BUCKET, Key="x/a.dump", VersionId=version["VersionId"])


@pytest.mark.parametrize("remote", ["s3"], indirect=True)
def test_the_image_copies_as_any_user_with_a_mounted_configuration(remote, source):
    config = source / "rclone.conf"
    config.write_text(remote.config)
    source.chmod(0o755)
    run = ["docker", "run", "--rm", "--network", "host", "--user", "65534", "--read-only"]
    mounts = ["--volume", f"{config}:/run/secrets/rclone_conf:ro", "--volume", f"{source}:/backups:ro"]
    command = ["--config", "/run/secrets/rclone_conf", "copy", "/backups/a.dump", remote.path("image/")]
    sh(*run, *mounts, endpoints.IMAGE, *command)
    assert (remote.folder / "image/a.dump").read_bytes() == DATA
    assert sh(*run, endpoints.IMAGE, "version").splitlines()[0] == f"rclone v{endpoints.IMAGE.partition(':')[2]}"
