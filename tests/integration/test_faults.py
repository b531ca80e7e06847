"""Faults get one clear error, nothing is published, nothing is left."""

import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from conftest import PG, PROJECT, REDIS, job, sh, until
from stack_backup import catalog


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".lock")


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ({**PG, "service": "gone"}, "has no service gone: it has pg15"),
        ({**PG, "service": "stopped"}, "service stopped is exited, not running: docker compose up -d stopped"),
        ({**PG, "service": "scaled"}, "scaled to 2"),
        ({**PG, "service": None, "container": "no-such"}, "container no-such has no container"),
        ({**PG, "database": "nope"}, 'database "nope" does not exist'),
        ({**PG, "user": "nobody"}, 'role "nobody" does not exist'),
        ({**PG, "password_file": "/no/file"}, "/no/file can't be read in container"),
        ({**PG, "compression": "brotli"}, "pg_dump failed: .*brotli"),
        ({**REDIS, "password_file": None}, "NOAUTH .*set the store's password_file"),
        ({**REDIS, "username": "who"}, "NOAUTH|WRONGPASS"),
        ({**REDIS, "password_file": "/no/file"}, "No such file"),
        ({**REDIS, "service": "pg17"}, "no redis-cli in this container|/run/pw"),
    ],
)
def test_a_wrong_store_is_told_in_words(stack, tmp_path, store, message):
    error = stack.fail(tmp_path, [store])
    assert re.search(message, str(error)), str(error)
    assert files(tmp_path) == []


def test_a_store_that_fails_does_not_stop_the_others(stack, tmp_path):
    error = stack.fail(tmp_path, [{**PG, "database": "nope"}, REDIS])
    assert "is incomplete" in str(error)
    assert [store["ok"] for store in error.details["stores"]] == [False, True]
    assert len(files(tmp_path)) == 3  # the folder, the artifact, its manifest
    with pytest.raises(Exception, match="no complete recovery point"):
        stack.verify(tmp_path)


def test_no_project_no_backup_folder_no_space(stack, tmp_path):
    assert "is missing: create it, or mount" in str(stack.fail(tmp_path / "gone", [PG]))
    assert "project folder /gone is missing" in str(stack.fail(tmp_path, [PG], project_dir="/gone"))
    assert "not of the form" in str(stack.fail(tmp_path, [PG], id="../../x"))
    small = tmp_path / "small"
    small.mkdir()
    sh("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small))
    try:
        assert "bytes free, this recovery point may take" in str(stack.fail(small, [PG, REDIS]))
        assert files(small) == []
    finally:
        sh("umount", str(small))


def test_a_disk_that_fills_up_in_the_middle(stack, tmp_path, monkeypatch):
    monkeypatch.setattr("stack_backup.point._Point._check_space", lambda *_: None)
    small = tmp_path / "small"
    small.mkdir()
    sh("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small))
    try:
        for via in ("side", "exec"):
            assert "o space left" in str(stack.fail(small, [{**PG, "via": via}]))
            assert files(small) == []
    finally:
        sh("umount", str(small))


def test_the_same_id_twice(stack, tmp_path):
    stack.take(tmp_path, [REDIS], id="20260101-000000")
    before = files(tmp_path)
    assert "never overwritten" in str(stack.fail(tmp_path, [REDIS], id="20260101-000000"))
    assert files(tmp_path) == before
    assert stack.verify(tmp_path)["stores"][0]["ok"]


def test_a_flipped_byte_and_a_cut_are_found(stack, tmp_path):
    path = Path(stack.take(tmp_path, [PG])["stores"][0]["file"])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(Exception, match="is not what was written"):
        stack.verify(tmp_path)


def test_redis_that_can_not_save_is_not_asked_to(stack, tmp_path):
    name = f"{PROJECT}-readonly"
    sh(
        "docker",
        "run",
        "-d",
        "--name",
        name,
        "--user",
        "999",
        "--tmpfs",
        "/full:size=64k,uid=999",
        "redis:7.0",
        "--dir",
        "/full",
    )
    try:
        time.sleep(1)
        sh("docker", "exec", "-i", name, "redis-cli", "-x", "set", "big", stdin="x" * 100 + os.urandom(200_000).hex())
        store = {"name": "redis", "engine": "redis", "container": name}
        assert "Redis can't save: /full has" in str(stack.fail(tmp_path, [store]))
        assert "rdb_last_bgsave_status:ok" in sh("docker", "exec", name, "redis-cli", "info", "persistence")
        assert files(tmp_path) == []
    finally:
        sh("docker", "rm", "-fv", name)


def while_locked(stack, act, container=None):
    """Hold pg_dump up by a lock on a table, and act when it waits."""
    container = container or stack.name("pg17")
    psql = ["psql", "-XAtq", "-U", "owner", "-d", "shop"]
    lock = subprocess.Popen(
        ["docker", "exec", "-i", "-e", "PGPASSWORD=secret", container, *psql],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    lock.stdin.write(b"BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE;\n")
    lock.stdin.flush()
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'LOCK TABLE%'"

    def watch():
        for _ in range(200):
            if int(stack.psql(container, waiting)) > 0:
                act()
                return
            time.sleep(0.1)

    thread = threading.Thread(target=watch)
    thread.start()
    return lock, thread


def finish(lock, thread):
    thread.join()
    lock.stdin.close()
    lock.wait()


def test_pg_dump_that_dies_mid_way(stack, tmp_path):
    lock, thread = while_locked(stack, lambda: sh("docker", "rm", "-fv", *stack.sides()))
    try:
        error = stack.fail(tmp_path, [{**PG, "row_counts": False}])
    finally:
        finish(lock, thread)
    assert "pg_dump failed" in str(error)
    assert files(tmp_path) == []


def test_a_job_that_is_killed_leaves_nothing_running_and_no_backup(stack, tmp_path):
    process = job(stack.params(tmp_path, [{**PG, "row_counts": False}]))
    seen = []

    def kill():
        seen.append(str(stack.fail(tmp_path, [REDIS])))  # a second job at once
        process.kill()

    finish(*while_locked(stack, kill))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert "another job of this stack is running" in seen[0]
    assert until(lambda: not stack.sides())
    assert stack.sql("pg17", "select count(*) from pg_stat_activity where application_name like '%backup%'") == "0"
    assert [name for name in files(tmp_path) if name.endswith(".json")] == []
    with pytest.raises(Exception, match="no complete recovery point"):
        stack.verify(tmp_path)
    # The next run goes on, and what the killed one left is named until somebody removes it.
    assert stack.take(tmp_path, [PG])["complete"]
    told = catalog.info({"backup_dir": str(tmp_path), "stack": "test"})
    (partial,) = (tmp_path / "postgres").glob("*.partial")
    assert [(item["path"], item["problem"]) for item in told["problems"]] == [(str(partial), "half-written")]
    assert [point["complete"] for point in told["points"]] == [True]


def test_the_time_limit_ends_what_it_started(stack, tmp_path):
    lock, thread = while_locked(stack, lambda: None)
    try:
        error = stack.fail(tmp_path, [{**PG, "row_counts": False}], timeout=6)
    finally:
        finish(lock, thread)
    assert re.search("time limit|did not end within", str(error))
    assert files(tmp_path) == []
