"""offsite_info against S3 servers: moto (versions, object lock) and rclone's own (checks keys, knows no settings)."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace

import botocore.httpsession
import endpoints
import pytest
import yaml
from ansible.module_utils.stack_backup.errors import BackupError
from ansible.module_utils.stack_backup.monitor.facts import point_time
from ansible.module_utils.stack_backup_bucket import bucket as bucket_module
from ansible.module_utils.stack_backup_bucket import look
from conftest import PG, REDIS, ROOT

from tests.receivers import certificate, http

OLD, NEW = (time.strftime("%Y%m%d-%H0000", time.gmtime(time.time() - hours * 3600)) for hours in (3, 2))
PREFIX = "production/test"
NOW = point_time(NEW) + 3600


@pytest.fixture(autouse=True)
def no_settings_of_the_caller(monkeypatch):
    for name in ("AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def backups(stack, tmp_path_factory):
    """Two real points, the newer one with a dump that is a folder, and whose they are."""
    folder = tmp_path_factory.mktemp("backups")
    stack.take(folder, [PG, REDIS], id=OLD)
    stack.take(folder, [{**PG, "format": "directory"}, REDIS], id=NEW)
    (folder / ".lock").unlink()
    (folder / "stack-backup.json").write_text('{"format": 1, "stack": "test"}')
    return folder


@pytest.fixture(scope="module")
def moto():
    with endpoints.moto() as remote:
        yield remote


@pytest.fixture(scope="module")
def locked():
    with endpoints.moto(lock=True) as remote:
        retention = {"Mode": "COMPLIANCE", "Days": 30}
        remote.client().put_object_lock_configuration(
            Bucket=endpoints.BUCKET,
            ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}},
        )
        yield remote


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with endpoints.s3(tmp_path_factory.mktemp("remote")) as remote:
        yield remote


@pytest.fixture
def prefix(request):
    """Of this test alone."""
    return f"{request.node.name.replace('[', '-').rstrip(']')}/test"


def put(remote, folder, prefix, *options):
    result = remote.rclone("copy", folder, remote.path(prefix), *options)
    assert result.returncode == 0, result.stderr


def params(remote, prefix=PREFIX, **given):
    keys = {name: remote.options[f"{name}_id" if name == "access_key" else "secret_access_key"] for name in
            ("access_key", "secret_key")}  # fmt: skip
    told = {"stack": "test", "bucket": endpoints.BUCKET, "prefix": prefix, "endpoint_url": remote.options["endpoint"]}
    return {**told, "region": "us-east-1", **keys, "download": "none", "max_age_hours": 26.0, "timeout": 120.0, **given}


def seen(remote, prefix, **given):
    return look(params(remote, prefix, **given), NOW)


def by_id(told):
    return {point["id"]: point for point in told["points"]}


def statuses(told):
    return {item["check"]: item["status"] for item in told["findings"]}


def said(told):
    return " | ".join(item["message"] for item in told["findings"])


def test_a_bucket_without_lock(moto, backups, prefix):
    put(moto, backups, prefix)
    told = seen(moto, prefix)
    assert [(point["id"], point["whole"]) for point in told["points"]] == [(OLD, True), (NEW, True)]
    assert (told["newest"], told["owner"], told["problems"]) == (NEW, "test", [])
    postgres = by_id(told)[NEW]["stores"][0]
    dump, roles = postgres["files"]
    assert dump["objects"] == len(list((backups / "postgres" / f"postgres-{NEW}.dump").iterdir())) > 1
    assert roles["name"] == f"postgres/postgres-{NEW}.globals.sql"
    sizes = [path.stat().st_size for path in backups.rglob(f"*{OLD}*") if path.suffix != ".json"]
    assert by_id(told)[OLD]["size"] == sum(sizes)
    assert told["compared"] == "size only"  # rclone leaves an MD5, the manifest has none
    settings = {"versioning": "off", "object_lock": "off", "default_retention": "none", "encryption": "none"}
    assert told["bucket"] == {**settings, "public_access": "not blocked", "policy": "none"}
    warned = {name for name, status in statuses(told).items() if status}
    assert warned == {"offsite_versioning", "offsite_lock", "offsite_access", "offsite_encryption"}
    assert told["status"] == 1 and f"{NEW}, is 60 min old; 2 of 2 are whole; size only" in said(told)


def test_a_bucket_with_lock(locked, backups, prefix):
    put(locked, backups, prefix)
    client = locked.client()
    client.put_public_access_block(
        Bucket=endpoints.BUCKET,
        PublicAccessBlockConfiguration=dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
        ),
    )
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    client.put_bucket_encryption(Bucket=endpoints.BUCKET, ServerSideEncryptionConfiguration={"Rules": [rule]})
    told = seen(locked, prefix, download="newest")
    settings = {"versioning": "enabled", "object_lock": "on", "default_retention": "COMPLIANCE 30 days"}
    assert told["bucket"] == {**settings, "public_access": "blocked", "policy": "none", "encryption": "AES256"}
    until = told["retention"]["until"]
    assert told["retention"]["mode"] == "COMPLIANCE"
    days = (time.mktime(time.strptime(until, "%Y-%m-%dT%H:%M:%SZ")) - time.mktime(time.gmtime())) / 86400
    assert 29.9 < days < 30.1
    assert told["status"] == 0, said(told)
    compared = {file["compared"] for store in by_id(told)[NEW]["stores"] for file in store["files"]}
    assert compared == {"sha256 by download"} and by_id(told)[OLD]["stores"][0]["files"][0]["compared"] == "size only"


def test_a_locked_bucket_whose_objects_are_not(locked, backups, prefix):
    """moto knows no GetObjectRetention, as other endpoints do not."""
    locked.client().create_bucket(Bucket="bare", ObjectLockEnabledForBucket=True)
    bare = replace(locked, root="bare")
    put(bare, backups, prefix)
    told = seen(bare, prefix, bucket="bare")
    assert told["bucket"]["default_retention"] == "none" and told["retention"]["until"] is None
    assert told["retention"]["mode"].startswith("unknown: ") and told["status"] < 2


def test_the_checksum_that_the_bucket_keeps(moto, backups, prefix):
    client = moto.client()
    for path in backups.rglob("*"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(backups)}"
            client.put_object(Bucket=endpoints.BUCKET, Key=key, Body=path.read_bytes(), ChecksumAlgorithm="SHA256")
    assert seen(moto, prefix)["compared"] == "sha256 that the bucket keeps"
    changed = backups / "redis" / f"redis-{NEW}.rdb"
    body = bytes(reversed(changed.read_bytes()))
    key = f"{prefix}/redis/{changed.name}"
    client.put_object(Bucket=endpoints.BUCKET, Key=key, Body=body, ChecksumAlgorithm="SHA256")
    told = seen(moto, prefix)
    assert told["newest"] == OLD and "its sha256 is" in by_id(told)[NEW]["fault"] and told["status"] == 2


@pytest.fixture
def copied(served, backups, prefix):
    """A copy to spoil, on the disk of the server."""
    folder = served.folder / prefix
    shutil.copytree(backups, folder)
    return folder


def toc(folder):
    return folder / "postgres" / f"postgres-{NEW}.dump" / "toc.dat"


def test_a_server_that_knows_no_settings(served, copied, prefix):
    told = seen(served, prefix, download="all")
    assert told["newest"] == NEW and told["problems"] == [] and told["compared"] == "sha256 by download"
    assert told["bucket"]["object_lock"] == "unknown: the endpoint does not tell"
    assert told["retention"] == {"mode": None, "until": None} and told["status"] <= 1


def move_a_byte(file):
    """From one file of a folder to another: their sum stays."""
    other = next(path for path in sorted(file.parent.iterdir()) if path != file)
    other.write_bytes(other.read_bytes() + file.read_bytes()[-1:])
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("spoil", "problem", "words"),
    [
        (lambda it: (it / "redis" / f"redis-{NEW}.rdb").write_bytes(b"REDIS"), "damaged", "has 5 bytes"),
        (lambda it: (it / "redis" / f"redis-{NEW}.rdb").unlink(), "orphaned", "is missing"),
        (lambda it: toc(it).write_bytes(toc(it).read_bytes()[:-9]), "damaged", "bytes, its manifest says"),
        (lambda it: toc(it).rename(toc(it).with_name("other")), "damaged", "is missing"),
        (lambda it: move_a_byte(toc(it)), "damaged", "bytes, its manifest says"),
        (lambda it: (it / "redis" / f"redis-{NEW}.json").write_text("{"), "damaged", "can't be read"),
        (lambda it: shutil.rmtree(toc(it).parent), "orphaned", "is missing"),
    ],
    ids=["cut", "gone", "cut-in-folder", "renamed-in-folder", "same-sum", "manifest", "folder-gone"],
)
def test_a_spoilt_newest_point_is_named_and_does_not_count(served, copied, prefix, spoil, problem, words):
    spoil(copied)
    told = seen(served, prefix)
    assert told["newest"] == OLD and told["status"] == 2
    assert not by_id(told)[NEW]["whole"] and by_id(told)[NEW]["fault"]
    assert any(item["problem"] == problem and words in item["message"] for item in told["problems"])
    assert all(item["key"].startswith(f"s3://{endpoints.BUCKET}/{prefix}/") for item in told["problems"])


def test_a_store_that_is_missing_altogether(served, copied, prefix):
    shutil.rmtree(copied / "redis")
    told = seen(served, prefix)
    assert told["newest"] is None and "redis is missing" in by_id(told)[NEW]["fault"]
    assert statuses(told)["offsite_point"] == 2


def test_a_flipped_byte_is_seen_by_download_alone(served, copied, prefix):
    data = bytearray(toc(copied).read_bytes())
    data[-1] ^= 1
    toc(copied).write_bytes(data)
    assert seen(served, prefix)["newest"] == NEW
    told = seen(served, prefix, download="newest")
    assert told["newest"] == OLD and told["compared"] == "sha256 by download"  # the next one is compared in its place
    assert "toc.dat: its sha256 is" in by_id(told)[NEW]["fault"] and told["status"] == 2


def test_a_copy_that_did_not_end_is_no_alarm(served, copied, prefix):
    for store in ("redis", "postgres"):
        (copied / store / f"{store}-{NEW}.json").unlink()
    told = seen(served, prefix)
    assert list(by_id(told)) == [OLD] and statuses(told)["offsite_objects"] == 0
    assert "of copies that did not end" in said(told)


def test_foreign_files_and_another_stacks(served, copied, prefix):
    (copied / "readme.txt").write_text("mine")
    (copied / ".hidden").mkdir()
    (copied / ".hidden" / "x").write_text("mine")
    (copied / "redis" / "a" / "b").mkdir(parents=True)
    (copied / "redis" / "a" / "b" / "c").write_text("mine")
    manifest = copied / "redis" / f"redis-{OLD}.json"
    manifest.write_text(manifest.read_text().replace('"stack": "test"', '"stack": "other"'))
    (copied / "stack-backup.json").write_text('{"format": 1, "stack": "other"}')
    told = seen(served, prefix)
    foreign = {item["key"].rpartition(f"{prefix}/")[2] for item in told["problems"] if item["problem"] == "foreign"}
    names = {"readme.txt", ".hidden/x", "redis/a/b/c", f"redis/redis-{OLD}.json", "stack-backup.json"}
    assert foreign == names and told["owner"] == "other"
    assert told["newest"] == NEW and not by_id(told)[OLD]["whole"]
    assert statuses(told)["offsite_foreign"] == 1 and "stack other, not test" in json.dumps(told["problems"])


def test_an_empty_prefix_and_an_old_point(served, copied, prefix):
    assert "there is no whole recovery point" in said(seen(served, f"{prefix}/nothing"))
    assert statuses(look(params(served, prefix), NOW + 30 * 3600))["offsite_point"] == 2


def refused(given):
    began = time.monotonic()
    with pytest.raises(BackupError) as caught:
        look(given)
    assert time.monotonic() - began < 60
    assert str(given["secret_key"]) not in str(caught.value)
    return str(caught.value)


def test_what_keeps_it_from_looking_is_told_with_its_cure(served, tmp_path, monkeypatch):
    assert "offsite_info_secret_key)" in refused(params(served, secret_key="not-the-secret"))
    assert "InvalidAccessKeyId" in refused(params(served, access_key="somebody"))
    assert "no such bucket" in refused(params(served, bucket="missing"))
    assert "belong together" in refused(params(served, secret_key=None))
    assert "profile" in refused(params(served, profile="none-of-mine"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "NoCredentialsError" in refused(params(served, access_key=None, secret_key=None))


def test_an_endpoint_that_is_none(served, tmp_path, monkeypatch):
    monkeypatch.setattr(bucket_module, "_CONNECT_SECONDS", 1)
    monkeypatch.setattr(bucket_module, "_READ_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert "offsite_info_endpoint_url" in refused(params(served, endpoint_url=address))
    assert "offsite_info_endpoint_url" in refused(params(served, endpoint_url=address))
    assert "Invalid endpoint" in refused(params(served, endpoint_url="no address"))
    with http(certificate(tmp_path)) as server:
        assert "offsite_info_ca_bundle" in refused(params(served, endpoint_url=server.url))
        told = look(params(served, endpoint_url=server.url, ca_bundle=str(tmp_path / "cert.pem")))
        assert told["newest"] is None and told["bucket"]["public_access"].startswith("unknown")


def test_the_time_limit(served, copied, prefix):
    assert "offsite_info_timeout" in refused(params(served, prefix, timeout=0.0))


def test_many_points_are_a_listing_and_their_manifests(served, copied, prefix, monkeypatch):
    shutil.rmtree(copied / "postgres")
    told = json.loads((copied / "redis" / f"redis-{NEW}.json").read_text())
    told["point"]["stores"] = ["redis"]
    names = [f"2025{month:02}{day:02}-020000" for month in range(1, 9) for day in range(1, 26)]
    for name in names:
        (copied / "redis" / f"redis-{name}.json").write_text(json.dumps(told).replace(NEW, name))
        shutil.copy(copied / "redis" / f"redis-{NEW}.rdb", copied / "redis" / f"redis-{name}.rdb")
    sent, send = [], botocore.httpsession.URLLib3Session.send
    monkeypatch.setattr(
        botocore.httpsession.URLLib3Session,
        "send",
        lambda self, request: (sent.append(request.url), send(self, request))[1],
    )
    told = seen(served, prefix)
    assert sum(point["whole"] for point in told["points"]) == len(names) == 200
    manifests, listing, heads, settings = len(names) + 2, 1, 3, 5
    assert len(sent) <= manifests + listing + heads + settings


def status(inventory, tmp_path, *args):
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    argv = ["ansible-playbook", "-i", str(tmp_path / "hosts.yml"), "playbooks/status.yml", *args]
    env = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    result = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    return result.returncode, " ".join((result.stdout + result.stderr).split())


def test_status_shows_the_host_and_its_bucket(served, copied, backups, prefix, tmp_path):
    given = params(served, prefix)
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "stack_name": "test",
        "stack_project_dir": str(tmp_path),
        "stack_backup_dir": str(backups),
        "stack_stores": [PG, REDIS],
        "monitor_max_age_hours": 1e6,
        "offsite_remote": f"s3:{endpoints.BUCKET}/{prefix}",
        **{f"offsite_info_{name}": given[name] for name in ("bucket", "endpoint_url", "access_key", "secret_key")},
    }
    inventory = {"stacks": {"hosts": {"here": host, "there": {**host, "offsite_info_bucket": ""}}}}
    code, said = status(inventory, tmp_path)
    found, table = said.split("PLAY [Tell of all of them")
    parts = re.findall(r"\b(?:here|there): (?:ok|[A-Z]+) .*?(?= here: | there: | PLAY )", f"{found} PLAY ")
    there, here = sorted(parts, key=lambda part: part.startswith("here: "))
    assert f"ok offsite_point: the newest whole recovery point at s3://{endpoints.BUCKET}/{prefix}/, {NEW}" in here
    assert "offsite_access: public access is unknown" in here and "there: " in there and "offsite_point" not in there
    assert code == 0 and "2 stacks: 1 warning, 1 ok" in table, said
    # What the bucket has is told of a host that is gone, too.
    inventory["stacks"]["hosts"]["gone"] = {
        **host,
        "ansible_connection": "ssh",
        "ansible_host": "localhost",
        "ansible_port": 1,
    }
    code, said = status(inventory, tmp_path, "-e", f"status_json={tmp_path}/all.json")
    assert code == 2 and "gone (test) unreachable" in said, said
    told = {item["host"]: item for item in json.loads((tmp_path / "all.json").read_text())["stacks"]}
    (newest,) = (item for item in told["gone"]["findings"] if item["check"] == "offsite_point")
    assert NEW in newest["message"] and told["gone"]["verdict"] == "unreachable"
    del inventory["stacks"]["hosts"]["gone"]
    shutil.rmtree(copied / "redis")
    code, said = status(inventory, tmp_path)
    assert code == 2 and "CRITICAL offsite_point: there is no whole recovery point" in said
    host["offsite_info_secret_key"] = "not-the-secret"
    code, said = status({"stacks": {"hosts": {"here": host}}}, tmp_path)
    assert code == 2 and "here: UNKNOWN" in said and "SignatureDoesNotMatch" in said
    assert "ok point: the newest complete recovery point" in said and "not-the-secret" not in said
