"""The ways to take an RDB, on servers as they are really set up, and the ways in which it fails."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from conftest import PROJECT, sh
from redis_server import NAME, STORE, Server, fail, take

NEEDS = {
    "bgsave": ["+ping", "+info", "+time", "+config|get", "+bgsave"],
    "save": ["+ping", "+info", "+time", "+config|get", "+save"],
    "stream": ["+ping", "+info", "+time", "+sync", "+replconf"],
}
NO_DELAY = ["--repl-diskless-sync-delay", "0"]


@pytest.fixture
def server():
    yield Server()
    Server.remove()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    ca = ["-subj", "/CN=ca", "-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt")]
    sh("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *ca)
    for name in ("server", "client"):
        key, request, cert = (str(folder / f"{name}.{suffix}") for suffix in ("key", "csr", "crt"))
        sh("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        by = ["-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key"), "-CAcreateserial", "-days", "2"]
        sh("openssl", "x509", "-req", "-in", request, *by, "-out", cert)
    for path in folder.iterdir():
        path.chmod(0o600)
        os.chown(path, 999, 999)
    folder.chmod(0o755)
    return folder


def boot_as_aof_base(image, file):
    """A server with the file as the base of its append-only file, as a restore puts it."""
    program = "valkey" if "valkey" in image else "redis"
    name = f"{PROJECT}-boot"
    script = f"mkdir a; printf 'file a.aof.1.base.rdb seq 1 type b\\n' >a/a.aof.manifest; cp /b a/a.aof.1.base.rdb; exec {program}-server --appendonly yes --appenddirname a --appendfilename a.aof"
    sh("docker", "run", "-d", "--name", name, "-v", f"{file}:/b:ro", "--entrypoint", "sh", image, "-c", script)
    try:
        for _ in range(50):
            answer = sh("docker", "exec", name, f"{program}-cli", "dbsize", check=False).strip()
            if answer.isdigit():
                return int(answer)
            if sh("docker", "inspect", "-f", "{{.State.Status}}", name).strip() == "exited":
                break
            time.sleep(0.1)
        raise AssertionError(sh("docker", "logs", name, merge=True))
    finally:
        sh("docker", "rm", "-fv", name)


@pytest.mark.parametrize("image", ["redis:7.0", "redis:8.0", "valkey/valkey:8"])
def test_a_stream_leaves_no_file_at_the_server_and_loads_as_an_aof_base(server, tmp_path, image):
    # A data folder that nobody but the server can read: docker cp and --volumes-from do not see a tmpfs.
    server.start("--tmpfs", "/hidden:uid=999", image, "--dir", "/hidden", "--save", "", *NO_DELAY)
    server.cli("eval", "for i = 1, 5000 do redis.call('set', 'k' .. i, ('x' .. i):rep(30)) end", "0")
    began = time.time()
    report = take(tmp_path, {**STORE, "method": "stream"})
    told = json.loads(next((tmp_path / "redis").glob("*.json")).read_text())
    assert told["counts"]["keys"] == 5000
    assert told["pin"]["fork_seen_by"] == "total_forks" and 0 < told["pin"]["within_ms"] < 1000
    pinned = sh("date", "-d", told["pin"]["at"], "+%s.%N")
    assert began < float(pinned) < time.time()
    assert sh("docker", "exec", NAME, "ls", "/hidden") == ""
    assert Path(report["file"]).read_bytes()[-9] == 0xFF  # the end of the RDB; only its checksum follows
    assert boot_as_aof_base(image, report["file"]) == 5000
    # The facts say so: with the mark left behind it the server would not start.
    with Path(report["file"]).open("ab") as file:
        file.write(b"0123456789" * 4)
    with pytest.raises(AssertionError):
        boot_as_aof_base(image, report["file"])


@pytest.mark.parametrize("method", ["bgsave", "save", "stream"])
def test_tls_and_an_acl_user_with_just_what_is_documented(tmp_path, certificates, server, method):
    tls = ["--port", "0", "--tls-port", "6379", "--tls-ca-cert-file", "/tls/ca.crt"]
    tls += ["--tls-cert-file", "/tls/server.crt", "--tls-key-file", "/tls/server.key"]
    (certificates / "users.acl").write_text(
        "user default off nopass ~* &* +@all\n"
        "user admin on >boss ~* &* +@all\n"
        f"user backup on >let-me-in resetkeys -@all {' '.join(NEEDS[method])}\n"
    )
    os.chown(certificates / "users.acl", 999, 999)
    (certificates / "secret").write_text("let-me-in\n")
    client = ["--tls", "--cacert", "/tls/ca.crt", "--cert", "/tls/client.crt", "--key", "/tls/client.key"]
    server = Server([*client, "--user", "admin", "--pass", "boss", "--no-auth-warning"])
    mount = ["-v", f"{certificates}:/tls"]
    server.start(*mount, "redis:7.0", *tls, "--aclfile", "/tls/users.acl", "--save", "", *NO_DELAY)
    server.cli("set", "a", "1")
    store = {**STORE, "method": method, "username": "backup", "password_file": "/tls/secret", "tls": True}
    store.update(cacert="/tls/ca.crt", cert="/tls/client.crt", key="/tls/client.key")
    report = take(tmp_path / "good", store)
    assert boot_as_aof_base("redis:7.0", report["file"]) == 1
    for permission in NEEDS[method]:
        server.cli("acl", "setuser", "backup", permission.replace("+", "-"))
        said = fail(tmp_path / "bad", store)
        assert "the ACL user needs +ping" in said and permission in said, (permission, said)
        server.cli("acl", "setuser", "backup", permission)
    if method == "stream":
        assert "set the store's tls: true" in fail(tmp_path / "bad", {**store, "tls": False})


def test_an_own_folder_and_name(server, tmp_path):
    server.start("redis:8.0", "--dir", "/tmp", "--dbfilename", "mine own.rdb", "--save", "")
    server.cli("set", "a", "1")
    report = take(tmp_path, STORE)
    assert report["via"]["used"] == "cp"  # /tmp is in no volume
    assert boot_as_aof_base("redis:8.0", report["file"]) == 1


@pytest.mark.parametrize("method", ["bgsave", "save"])
def test_a_save_that_really_fails_is_told_in_the_servers_words(server, tmp_path, monkeypatch, method):
    server.start("--user", "999", "--tmpfs", "/full:size=1m,uid=999", "redis:7.0", "--dir", "/full", "--save", "")
    for number in range(8):
        server.cli("-x", "set", f"big{number}", stdin=os.urandom(200_000).hex())
    # The disk fills up between our look at it and the save.
    monkeypatch.setattr("stack_backup.redis.dump.Source._can_save", lambda *_: None)
    said = fail(tmp_path, {**STORE, "method": method})
    assert "No space left on device" in said


def test_a_tmpfs_that_can_be_saved_to_but_not_read(server, tmp_path):
    server.start("--tmpfs", "/hidden:uid=999", "redis:7.0", "--dir", "/hidden", "--save", "")
    assert "set the store's method to stream" in fail(tmp_path, STORE)


def test_a_stream_that_dies_mid_way(server, tmp_path):
    """The child waits for a slow reader, so that there is a mid-way."""
    server.start("redis:7.0", "--save", "", *NO_DELAY, "--rdb-key-save-delay", "1000")
    server.cli("eval", "for i = 1, 20000 do redis.call('set', 'k' .. i, i) end", "0")
    killer = f"until docker exec {NAME} redis-cli info persistence | grep -q in_progress:1; do sleep 0.05; done; sleep 1; docker exec {NAME} redis-cli client kill type replica"
    with subprocess.Popen(["sh", "-c", killer], stdout=subprocess.DEVNULL):
        said = fail(tmp_path, {**STORE, "method": "stream"})
    assert "redis-cli --rdb failed" in said or "redis-check-rdb" in said
