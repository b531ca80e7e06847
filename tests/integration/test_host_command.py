"""The host's own command, installed, against real stores: what cron runs every night."""

import json
import os
import pty
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import PG, PROJECT, REDIS, until
from stack_backup import catalog
from stack_backup.artifact import Lock
from stack_backup.install import install


class Host:
    """A host of its own under a folder: the command, its configuration, its state."""

    def __init__(self, stack, root):
        self.root, self.backups = root, root / "backups"
        self.backups.mkdir()
        (root / "etc").mkdir()
        self.program = install(
            {"path": str(root / "opt"), "link": str(root / "bin" / "stack-backup"), "state": "present"}
        )["program"]
        common = {"stack": "test", "backup_dir": str(self.backups)}
        project = {**common, "project_dir": str(stack.folder), "project_name": PROJECT, "stores": [PG, REDIS]}
        smoke = [{"store": "postgres", "sql": "select count(*) from orders", "expect": 20000}]
        self.jobs = {
            "backup": [["recovery_point", project], ["stack_restore", {"action": "expire", **project}]],
            "verify": [["backup_drill", {**common, "smoke_queries": smoke}]],
        }
        self.write(self.jobs)
        # As under cron: no terminal, hardly an environment.
        self.env = {"PATH": os.environ["PATH"], "STACK_BACKUP_ETC": f"{root}/etc", "STACK_BACKUP_VAR": f"{root}/var"}

    def write(self, jobs):
        (self.root / "etc" / "test.json").write_text(json.dumps({"format": 1, "stack": "test", **jobs}))

    def __call__(self, *args):
        done = subprocess.run(
            [self.program, *args], env=self.env, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        return done.returncode, done.stdout, done.stderr

    def json(self, *args):
        return json.loads(self(*args, "--json")[1])

    def last(self, job):
        return json.loads((self.root / "var" / "test" / f"last-{job}.json").read_text())


@pytest.fixture
def host(stack, tmp_path):
    return Host(stack, tmp_path)


def test_a_night_without_ansible(stack, host):
    code, said, _ = host("status")
    assert code == 0 and said.count(" never ") == 2 and said.endswith("newest complete recovery point: none\n")
    code, said, err = host("run", "backup", "--log", str(host.root / "log"))
    assert (code, err) == (0, "")
    (point,) = catalog.read(host.backups, "test").points
    assert said.startswith("test: backup ok in ") and f"recovery point {point}: postgres " in said
    assert stack.verify(host.backups)["complete"]
    assert host.last("backup")["result"]["recovery_point"]["id"] == point
    log = (host.root / "log").read_text().splitlines()
    assert len(log) == 2 and f"recovery point {point}" in log[1]

    code, said, err = host("verify")
    assert (code, err) == (0, "") and f"recovery point {point} restores: " in said
    drilled = catalog.read(host.backups, "test").points[point]
    assert all(backup.verified["ok"] for backup in drilled.values())
    assert [point, "complete", "ok"] == [host("list")[1].splitlines()[1].split()[n] for n in (0, 3, 4)]
    told = host.json("status")
    assert (told["latest"], told["problems"]) == (point, [])
    assert {job: record["state"] for job, record in told["jobs"].items()} == {"backup": "ok", "verify": "ok"}
    assert host.json("list")["points"][0]["id"] == point


def test_a_night_that_fails(host):
    job = json.loads(json.dumps(host.jobs["backup"]))
    job[0][1]["stores"][0]["service"] = "gone"
    host.write({"backup": job})
    code, said, _ = host("run", "backup")
    assert code == 1 and said.startswith("test: backup FAILED in ") and "has no service gone" in said
    record = host.last("backup")
    assert not record["ok"] and "has no service gone" in record["error"]
    # The next step does not run after it; the store that could be saved is.
    assert list(record["result"]) == ["recovery_point"]
    assert [path.name for path in host.backups.iterdir() if path.name[0] != "."] == ["redis"]
    code, said, _ = host("status")
    assert code == 1 and "failed" in said and "newest complete recovery point: none" in said
    assert host("check")[0] == 3


def test_two_jobs_at_once(host):
    with Lock(host.backups):
        code, said, _ = host("run", "backup", "--wait", "0")
        assert code == 1 and f"another job of this stack is running (process {os.getpid()})" in said
        waiting = subprocess.Popen([host.program, "run", "backup"], env=host.env, stdout=subprocess.PIPE, text=True)
        assert until(lambda: host.last("backup")["pid"] == waiting.pid)
        assert waiting.poll() is None
    assert "recovery point" in waiting.communicate(timeout=60)[0]
    assert waiting.returncode == 0


def part(descriptor):
    try:
        return os.read(descriptor, 4096)
    except BlockingIOError:
        return b""


def on_a_terminal(host, wait=lambda: None):
    """A backup's status, what it said, and what its terminal showed."""
    primary, secondary = pty.openpty()
    try:
        done = subprocess.run(
            [host.program, "run", "backup"], env=host.env, stderr=secondary, stdout=subprocess.PIPE, text=True
        )
        wait()
        os.set_blocking(primary, False)
        shown = b"".join(iter(lambda: part(primary), b"")).decode()
    finally:
        os.close(primary)
        os.close(secondary)
    assert shown.endswith("\r\x1b[K")
    return done.returncode, done.stdout, shown


def test_a_terminal_sees_how_far_it_is(stack, host):
    stack.sql("pg17", "CREATE TABLE slow AS SELECT 1; CREATE VIEW held AS SELECT 1")
    try:
        # Another session's lock holds pg_dump up for long enough to be seen.
        lock = subprocess.Popen(
            ["docker", "exec", "-e", "PGPASSWORD=secret", stack.name("pg17"), "psql", "-U", "owner", "-d", "shop"]
            + ["-c", "BEGIN; LOCK TABLE slow; SELECT pg_sleep(2)"],
            stdout=subprocess.DEVNULL,
        )
        time.sleep(0.3)
        code, said, shown = on_a_terminal(host, lock.wait)
    finally:
        stack.sql("pg17", "DROP TABLE slow; DROP VIEW held")
    assert code == 0 and said.startswith("test: backup ok")
    assert "\rbackup 0:0" in shown.replace("\x1b[K", "") and "postgres stream" in shown
    assert "public." not in shown.split("postgres stream")[1]  # while it waits it dumps no table


@pytest.fixture
def heavy(stack):
    """A table whose data takes pg_dump some seconds, though it is small on disk."""
    grow = "INSERT INTO heavy SELECT x FROM heavy;"
    sql = "CREATE TABLE heavy (x text COMPRESSION lz4); INSERT INTO heavy SELECT repeat('x', 100000000);"
    stack.sql("pg17", sql + 3 * grow)
    yield
    stack.sql("pg17", "DROP TABLE heavy")


def test_a_terminal_sees_which_table_is_dumped(host, heavy):
    code, said, shown = on_a_terminal(host)
    assert code == 0, said
    assert "postgres stream public.heavy " in shown
    assert "dumping" not in shown and not re.search("postgres (?!stream )[a-z]+ public", shown)


def test_what_pg_dump_says_of_its_work_does_not_hide_its_error(stack, host, heavy):
    def cancel():
        ask = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'COPY public.heavy%'"
        return until(lambda: stack.sql("pg17", ask) == "1")

    with ThreadPoolExecutor(1) as pool:
        cancelled = pool.submit(cancel)
        code, said, shown = on_a_terminal(host)
        assert cancelled.result()
    assert code == 1 and "postgres stream public.heavy " in shown
    assert "pg_dump failed: pg_dump: error: " in said and "canceling statement due to user request" in said
    assert "dumping contents of" not in said and "reading" not in said
