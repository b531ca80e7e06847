"""Restores into real servers, told by the servers themselves: DEBUG DIGEST, TTLs, groups, pending entries."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import sh
from redis_server import NAME, STORE, Server, take
from stack_backup import catalog, redis
from stack_backup.containers import Docker
from stack_backup.errors import BackupError
from stack_backup.process import Deadline
from stack_backup.redis import files
from stack_backup.stores import parse_stores

ROOT = Path(__file__).resolve().parents[2]
ID = "20260102-030405"
DEBUG = ["--enable-debug-command", "yes"]
SPECIAL = r"""s "x"\n"""


@pytest.fixture
def server():
    yield Server()
    Server.remove()


def sides(folder):
    """Throw-away containers of a backup folder."""
    labels = sh("docker", "ps", "-a", "--filter", "label=stack-backup.dir", "--format", '{{.Label "stack-backup.dir"}}')
    return [label for label in labels.splitlines() if label.startswith(str(folder))]


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path):
    yield
    assert sides(tmp_path) == []


def fill(server):
    """Several databases, TTLs, groups with pending entries, names of every kind."""
    server.cli("mset", "a", "1", "b", "2")
    server.cli("set", "for-a-day", "x", "ex", "86400")
    server.cli("set", "for-a-moment", "x", "px", "300")
    server.cli("-n", "3", "hset", "h", "f", "v")
    server.cli("-n", "11", "set", "other", "x", "ex", "1000")
    for stream in ("orders", SPECIAL):
        for number in range(5):
            server.cli("xadd", stream, f"{number + 1}-1", "note", "ERR no error")
        server.cli("xgroup", "create", stream, "g 1", "0")
        server.cli("xreadgroup", "group", "g 1", "c1", "count", "3", "streams", stream, ">")
        server.cli("xack", stream, "g 1", "1-1")
    server.cli("xadd", "dead", "*", "k", "v")
    server.cli("eval", "for i = 1, 3000 do redis.call('set', 'k' .. i, i) end", "0")


def facts(server):
    """Everything that must be as it was."""
    for name in ("for-a-moment",):
        server.cli("exists", name)  # looked at, so that an expired one is gone for the digest too
    return (
        server.cli("debug", "digest"),
        server.cli("info", "keyspace").split("avg_ttl")[0],
        server.cli("xinfo", "groups", "orders"),
        server.cli("xpending", SPECIAL, "g 1"),
        server.cli("-n", "11", "expiretime", "other"),
        server.cli("expiretime", "for-a-day"),
    )


def spoil(server):
    server.cli("flushall")
    server.cli("set", "disaster", "struck")


def backup_of(folder, store=STORE):
    point = next(iter(catalog.read(folder, "test").points.values()))
    return point["redis"]


def target(backup_dir, store=STORE, seconds=120):
    docker = Docker(Deadline(seconds))
    folder = backup_dir / store["name"]
    return redis.Target(docker, parse_stores([store])[0], docker.inspect([NAME])[0], backup_dir, folder=folder, jobs=1)


def listing(folder="/data"):
    return sh("docker", "exec", NAME, "ls", "-A", folder).split()


def running():
    return sh("docker", "inspect", "-f", "{{.State.Status}} {{.HostConfig.RestartPolicy.Name}}", NAME).strip()


RESTART = ["--restart", "unless-stopped"]


@pytest.mark.parametrize("aof", ["yes", "no"])
@pytest.mark.parametrize("image", ["redis:7.0", "redis:8.0", "valkey/valkey:8"])
def test_the_restored_server_is_the_one_that_was_saved(server, tmp_path, image, aof):
    server.start(*RESTART, image, "--appendonly", aof, *DEBUG)
    fill(server)
    take(tmp_path, STORE)
    time.sleep(0.3)
    before = facts(server)
    owners = sh("docker", "exec", NAME, "sh", "-c", "stat -c '%U %a' /data/appendonlydir/* /data/dump.rdb", check=False)
    spoil(server)
    one = target(tmp_path)
    one.open()
    backup = backup_of(tmp_path)
    plan = one.plan(backup, ID, "side_by_side")
    json.dumps(plan)
    assert plan["replaces"] and plan["sessions"] == []
    state = json.loads(json.dumps(plan["state"]))
    report = one.prepare(backup, state)
    assert report["counts"]["streams"] == 3 and report["counts"]["pending"] == 4
    assert one.query("XLEN orders", state, live=False) == "5"
    assert one.query("EXISTS orders", state, live=True) == "0"
    assert server.cli("get", "disaster") == "struck"  # nothing was touched so far
    one.switch(state)
    one.check(backup, state)
    assert facts(server) == before
    assert one.query("GET a", state, live=True) == "1"
    assert running() == "running unless-stopped"
    if aof == "yes":
        # Still so after a restart, and it writes on into the same append-only file.
        server.cli("set", "after", "1")
        sh("docker", "restart", NAME)
        server.wait()
        assert server.cli("get", "after") == "1" and server.cli("get", "a") == "1"
        new = sh("docker", "exec", NAME, "sh", "-c", "stat -c '%U %a' /data/appendonlydir/*")
        assert set(new.split("\n")) <= set(owners.split("\n"))
    # And back again, also after all that: the disaster is what was there before.
    assert one.keep(state) == [f"the former data of store redis: /data/.stack-backup-{ID}/old in {NAME}"]
    one.back(state)
    assert server.cli("get", "disaster") == "struck" and server.cli("dbsize") == "1"
    assert not any(name.startswith(".stack") for name in listing())
    one.close()


def restore(folder, store=STORE):
    one = target(folder, store)
    try:
        one.open()
        backup = backup_of(folder)
        state = one.plan(backup, ID, "side_by_side")["state"]
        one.prepare(backup, state)
        one.switch(state)
        one.check(backup, state)
        return one, state
    finally:
        one.close()


def test_the_runbooks_restore_restores_nothing_and_ours_does(server, tmp_path):
    server.start("redis:7.0")
    server.cli("set", "a", "1")
    report = take(tmp_path, STORE)
    server.cli("set", "a", "2")
    sh("docker", "cp", report["file"], f"{NAME}:/data/dump.rdb")
    sh("docker", "restart", NAME)
    server.wait()
    assert server.cli("get", "a") == "2"  # the server saved over the copied file when it was stopped
    restore(tmp_path)
    assert server.cli("get", "a") == "1"


def test_own_names_a_password_and_an_acl_file(server, tmp_path):
    folder = tmp_path / "conf"
    folder.mkdir()
    needs = "+ping +info +time +config|get +bgsave +client|list +client|id +select +exists +xinfo|stream +xinfo|groups +save"
    (folder / "users.acl").write_text(
        f"user default off\nuser boss on >boss ~* &* +@all\nuser backup on >let-me-in ~* {needs}\n"
    )
    (folder / "secret").write_text("let-me-in\n")
    for path in [folder, *folder.iterdir()]:
        os.chown(path, 999, 999)
    server = Server(["--user", "boss", "--pass", "boss", "--no-auth-warning"])
    names = [
        "--dir",
        "/data/deep er",
        "--dbfilename",
        "mine.rdb",
        "--appenddirname",
        "the dir",
        "--appendfilename",
        "f.aof",
    ]
    sh("docker", "volume", "create", NAME)
    try:
        sh("docker", "run", "--rm", "-v", f"{NAME}:/data", "redis:7.0", "sh", "-c", "mkdir -m 700 '/data/deep er'")
        mounts = ["-v", f"{folder}:/conf:ro", "-v", f"{NAME}:/data"]
        server.start(
            *mounts, "redis:7.0", *names, "--aclfile", "/conf/users.acl", "--appendonly", "yes", "--save", "", *DEBUG
        )
        fill(server)
        store = {**STORE, "username": "backup", "password_file": "/conf/secret"}
        take(tmp_path, store)
        time.sleep(0.3)
        before = facts(server)
        spoil(server)
        one, state = restore(tmp_path, store)
        assert facts(server) == before
        assert listing("/data/deep er/the dir")[0].startswith("f.aof.1.base.rdb")
        one.drop(state)
        one.drop(state)
        assert sorted(listing("/data/deep er")) == sorted(["the", "dir"])
        # A permission that is missing is named.
        server.cli("acl", "setuser", "backup", "-xinfo")
        with pytest.raises(BackupError, match=r"XINFO STREAM.*the ACL user needs .*\+xinfo\|groups"):
            restore(tmp_path, store)
    finally:
        Server.remove()
        sh("docker", "volume", "rm", NAME)


def test_back_after_prepare_and_a_server_that_can_not_load(server, tmp_path):
    server.start(*RESTART, "redis:7.0", "--appendonly", "yes")
    server.cli("set", "a", "1")
    take(tmp_path, STORE)
    spoil(server)
    one = target(tmp_path)
    one.open()
    backup = backup_of(tmp_path)
    state = one.plan(backup, ID, "side_by_side")["state"]
    began = sh("docker", "inspect", "-f", "{{.State.StartedAt}}", NAME)
    one.prepare(backup, state)
    assert f".stack-backup-{ID}" in listing()
    target(tmp_path).back(state)  # as another process does that finds this one dead
    one.close()
    assert sh("docker", "inspect", "-f", "{{.State.StartedAt}}", NAME) == began
    assert not any(name.startswith(".stack") for name in listing())
    one.open()
    one.prepare(backup, state)
    base = f"/data/.stack-backup-{ID}/new/appendonlydir/appendonly.aof.1.base.rdb"
    sh("docker", "exec", NAME, "sh", "-c", f"printf broken | dd of={base} bs=1 seek=20 conv=notrunc")
    with pytest.raises(BackupError, match="ends instead of loading its data; its log says: .*[Cc]hecksum|RDB|rdb|AOF"):
        one.switch(state)
    one.back(state)
    one.close()
    assert server.cli("get", "disaster") == "struck"
    assert running() == "running unless-stopped"
    one.back(state)  # once more changes nothing
    one.close()
    assert server.cli("get", "disaster") == "struck"
    assert not any(name.startswith(".stack") for name in listing())


@pytest.mark.parametrize(("aof", "moves"), [("yes", 0), ("yes", 1), ("yes", 2), ("no", 1)])
def test_killed_between_two_moves(server, tmp_path, monkeypatch, aof, moves):
    server.start(*RESTART, "redis:7.0", "--appendonly", aof)
    server.cli("set", "a", "1")
    take(tmp_path, STORE)
    spoil(server)
    cut = f'left={moves}; mv() {{ [ $left -gt 0 ] || kill -9 $$; left=$((left - 1)); command mv "$@"; }}\n'
    monkeypatch.setattr(files, "SWITCH", cut + files.SWITCH)
    one = target(tmp_path)
    one.open()
    backup = backup_of(tmp_path)
    state = one.plan(backup, ID, "side_by_side")["state"]
    one.prepare(backup, state)
    with pytest.raises(BackupError, match="can't be exchanged"):
        one.switch(state)
    one.close()
    assert sh("docker", "inspect", "-f", "{{.State.Status}}", NAME).strip() == "exited"
    with pytest.raises(BackupError, match="only copy"):
        one.drop(state)
    target(tmp_path).back(state)
    assert server.cli("get", "disaster") == "struck" and server.cli("dbsize") == "1"


@pytest.mark.parametrize("step", ["prepare", "switch"])
def test_a_job_that_is_killed(server, tmp_path, step):
    """SIGKILL while the throw-away server runs, or while the live one is stopped; another process undoes it."""
    server.start(*RESTART, "redis:7.0", "--appendonly", "yes")
    server.cli("set", "a", "1")
    take(tmp_path, STORE)
    spoil(server)
    program = f"""
import sys, json, os, signal
sys.path[:0] = [{str(ROOT / "module_utils")!r}, {str(Path(__file__).parent)!r}]
import test_redis_restore as t
from pathlib import Path
from stack_backup.redis.server import Server
folder = Path({str(tmp_path)!r})
one = t.target(folder); one.open(); backup = t.backup_of(folder)
state = one.plan(backup, t.ID, "side_by_side")["state"]
(folder / "state").write_text(json.dumps(state))
one.prepare(backup, state)
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if {step!r} == "prepare": die()
Server.start = die
one.switch(state)
"""
    job = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert job.returncode == -signal.SIGKILL, job.stderr
    for _ in range(100):
        if not sides(tmp_path):
            break
        time.sleep(0.05)
    assert sides(tmp_path) == []
    state = json.loads((tmp_path / "state").read_text())
    one = target(tmp_path)
    if step == "switch":
        with pytest.raises(BackupError, match=f"is exited, not running: docker start {NAME}"):
            one.open()
    one.back(state)
    one.close()
    assert server.cli("get", "disaster") == "struck" and server.cli("dbsize") == "1"


def test_the_check_finds_what_is_not_as_it_was_saved(server, tmp_path):
    server.start("redis:7.0", "--appendonly", "yes")
    fill(server)
    take(tmp_path, STORE)
    one, state = restore(tmp_path)
    backup = backup_of(tmp_path)
    one.open()
    one.check(backup, state)
    server.cli("xack", "orders", "g 1", "2-1")
    server.cli("del", "for-a-day", "dead", "k1")
    with pytest.raises(BackupError) as caught:
        one.check(backup, state)
    said = str(caught.value)
    assert "database 0 has 3003 keys that do not expire, the backup 3005" in said
    assert '"orders" in database 0 is another stream' in said
    assert '"dead" in database 0 is gone' in said and '"for-a-day" in database 0 is gone' in said
    # Only keys that were due may be gone: those that expire are no hole through which an empty server would pass.
    server.cli("flushall")
    with pytest.raises(BackupError, match='"other" in database 11 is gone'):
        one.check(backup, {**state, "facts": {**state["facts"], "streams": []}})
    one.close()


def test_what_is_refused_before_anything_is_touched(server, tmp_path):
    server.start("redis:8.0")
    server.cli("set", "a", "1")
    take(tmp_path / "new", STORE)
    Server.remove()
    cases = {
        r"replica of 127.0.0.1:7777: restore into that one": ["redis:7.0", "--replicaof", "127.0.0.1 7777"],
        r"runs in cluster mode": ["redis:7.0", "--cluster-enabled", "yes"],
        r"Redis 7.0.* can't load this backup: it is of RDB version 12, saved by Redis 8.0": ["redis:7.0"],
        r"in no writable volume": ["redis:8.0", "--dir", "/tmp"],
        r"the data folder /small has \d+ bytes free, the restore needs": ["redis:8.0", "--dir", "/small"],
        r"maxmemory is": ["redis:8.0", "--maxmemory", "100kb"],
    }
    small = tmp_path / "small"
    small.mkdir()
    sh("mount", "-t", "tmpfs", "-o", "size=1m,uid=999", "tmpfs", str(small))
    try:
        for message, args in cases.items():
            server.start("-v", f"{small}:/small", *args)
            before = sh("docker", "diff", NAME), listing(), sh("docker", "inspect", "-f", "{{.State.StartedAt}}", NAME)
            one = target(tmp_path / "new")
            try:
                with pytest.raises(BackupError, match=message):
                    one.open()
                    one.plan(backup_of(tmp_path / "new"), ID, "side_by_side")
            finally:
                one.close()
            after = sh("docker", "diff", NAME), listing(), sh("docker", "inspect", "-f", "{{.State.StartedAt}}", NAME)
            assert before == after
            Server.remove()
    finally:
        Server.remove()
        sh("umount", str(small))
    server.start("redis:8.0")
    sh("docker", "pause", NAME)
    with pytest.raises(BackupError, match=f"is paused, not running: docker unpause {NAME}"):
        target(tmp_path / "new").open()
    sh("docker", "unpause", NAME)


def test_a_setting_that_does_not_survive_the_restart(server, tmp_path):
    """The append-only file was turned on while the server ran: it would come back without."""
    server.start("redis:7.0")
    server.cli("config", "set", "appendonly", "yes")
    server.cli("set", "a", "1")
    take(tmp_path, STORE)
    spoil(server)
    one = target(tmp_path)
    one.open()
    backup = backup_of(tmp_path)
    state = one.plan(backup, ID, "side_by_side")["state"]
    one.prepare(backup, state)
    one.switch(state)
    with pytest.raises(BackupError, match="append-only file was on and is not any more"):
        one.check(backup, state)
    one.back(state)
    one.close()
    assert server.cli("get", "disaster") == "struck"


def test_a_server_that_saves_nothing_by_itself_keeps_its_old_data_too(server, tmp_path):
    server.start("redis:7.0", "--save", "")
    server.cli("set", "a", "1")
    take(tmp_path, STORE)
    spoil(server)
    one, state = restore(tmp_path)
    assert server.cli("get", "a") == "1"
    one.back(state)
    one.close()
    assert server.cli("get", "disaster") == "struck"


def test_clients_are_named(server, tmp_path):
    server.start("redis:7.0")
    server.cli("set", "a", "1")
    one = target(tmp_path)
    one.open()
    with subprocess.Popen(["docker", "exec", "-i", NAME, "redis-cli"], stdin=subprocess.PIPE) as client:
        client.stdin.write(b"client setname app\n")
        client.stdin.flush()
        for _ in range(50):
            if any("'app'" in item for item in one.clients()):
                break
            time.sleep(0.05)
        assert [item.split(":")[0] for item in one.clients()] == ["client 'app' as default from 127.0.0.1"]
        client.stdin.close()
    one.close()


@pytest.mark.parametrize("image", ["redis:7.0", "redis:8.0", "valkey/valkey:8"])
def test_a_drill(server, tmp_path, image):
    server.start(image)
    fill(server)
    take(tmp_path, STORE)
    docker = Docker(Deadline(60))
    queries = [{"store": "redis", "command": "XLEN orders", "expect": "5"}, {"store": "other", "command": "BOOM"}]
    report = redis.drill(docker, image, backup_of(tmp_path), tmp_path, memory="256m", queries=queries)
    assert report["counts"]["databases"]["11"] == {"keys": 1, "expires": 1}
    assert report["counts"]["pending"] == 4
    assert report["smoke"] == [{"query": "XLEN orders", "answer": "5"}]
    with pytest.raises(BackupError, match="does it need more memory than 6m"):
        redis.drill(docker, image, backup_of(tmp_path), tmp_path, memory="6m", queries=[])
    with pytest.raises(BackupError, match="answered '5', expected '6'"):
        redis.drill(
            docker, image, backup_of(tmp_path), tmp_path, memory="256m", queries=[{**queries[0], "expect": "6"}]
        )
    with pytest.raises(BackupError, match="ERR unknown command"):
        redis.drill(
            docker,
            image,
            backup_of(tmp_path),
            tmp_path,
            memory="256m",
            queries=[{"store": "redis", "command": "XLN a"}],
        )
