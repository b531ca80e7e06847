"""Other sessions' locks: a backup waits for none of them long, and saves nothing as empty that they emptied."""

import json
import subprocess
import threading

import pytest
from conftest import PG, sh, until
from stack_backup import point
from stack_backup.errors import BackupError
from stack_backup.postgres.dump import Source

DATABASE = "locks"
STORE = {**PG, "database": DATABASE}


class Holder:
    """A session that holds its locks until it is told to go on."""

    def __init__(self, container, sql):
        psql = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "owner", "-d", DATABASE]
        argv = ["docker", "exec", "-i", "-e", "PGPASSWORD=secret", "-e", "PGAPPNAME=the batch", container, *psql]
        self._proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.tell(sql)

    def tell(self, sql):
        self._proc.stdin.write(f"{sql}\n")
        self._proc.stdin.flush()

    def end(self):
        self._proc.communicate()


class Taking:
    """A recovery point that is taken beside the test."""

    def __init__(self, stack, backups, *stores, **options):
        self.report = self.error = None
        self._thread = threading.Thread(target=self._take, args=(stack, backups, stores, options))
        self._thread.start()

    def _take(self, stack, backups, stores, options):
        try:
            self.report = stack.take(backups, list(stores), **options)
        except BackupError as error:
            self.error = error

    def end(self):
        self._thread.join(120)
        return self.report


@pytest.fixture
def database(stack, monkeypatch):
    """A database with a table of one row, and what asks it."""
    monkeypatch.setattr(point, "_PAUSES", (1.0,))
    stack.sql("pg17", f"create database {DATABASE}")

    def ask(sql):
        return stack.sql("pg17", sql, DATABASE)

    ask("create table jobs (x text); insert into jobs values ('before')")
    try:
        yield ask
    finally:
        stack.sql("pg17", f"drop database {DATABASE} with (force)")


def waits(ask, mode):
    lock = f"select count(*) > 0 from pg_locks where not granted and mode = '{mode}'"
    return until(lambda: ask(lock) == "t", 15)


def saved(stack, report, table="jobs"):
    """The rows of a table in the archive that was written."""
    artifact = report["stores"][0]["file"]
    mount = ["-v", f"{artifact}:/a:ro", "--entrypoint", "pg_restore", "postgres:17"]
    text = sh("docker", "run", "--rm", *mount, "--data-only", f"--table={table}", "-f", "-", "/a")
    return text.split("FROM stdin;\n", 1)[1].split("\\.", 1)[0].split()


@pytest.mark.parametrize(
    "store", [STORE, {**STORE, "via": "exec"}, {**STORE, "format": "directory"}], ids=["side", "exec", "directory"]
)
def test_a_table_that_is_emptied_as_the_backup_begins_is_not_saved_as_empty(stack, tmp_path, database, store):
    """A job empties and fills a table in one transaction: pg_dump, whose snapshot is older, waits for it, and sees nothing."""
    batch = Holder(stack.name("pg17"), "begin; truncate jobs; insert into jobs values ('after');")
    assert until(lambda: database("select count(*) > 0 from pg_locks where mode = 'AccessExclusiveLock'") == "t")
    taking = Taking(stack, tmp_path, store)
    assert waits(database, "AccessShareLock")
    batch.tell("commit;")
    batch.end()
    report = taking.end()
    assert report, taking.error
    assert ["jobs was emptied or rewritten" in text.replace("public.", "") for text in report["retried"]] == [True]
    assert saved(stack, report) == ["after"]
    assert [path.name for path in tmp_path.glob("postgres/*.json")] == [f"postgres-{report['id']}.json"]


def test_a_lock_is_waited_for_so_long_and_its_holder_named(stack, tmp_path, database):
    batch = Holder(stack.name("pg17"), "begin; lock table jobs;")
    assert until(lambda: database("select count(*) > 0 from pg_locks where mode = 'AccessExclusiveLock'") == "t")
    taking = Taking(stack, tmp_path, {**STORE, "lock_timeout": 0.5})
    taking.end()
    assert taking.report is None and not list(tmp_path.glob("postgres/*"))
    said = str(taking.error)
    assert (
        "pg_dump waited 0.5 s (lock_timeout) for a table" in said
        and "of owner (the batch), idle in transaction" in said
    )
    batch.tell("commit;")
    batch.end()
    report = Taking(stack, tmp_path, STORE).end()
    assert report["retried"] == [] and saved(stack, report) == ["before"]


def test_it_is_tried_again_when_the_lock_is_gone(stack, tmp_path, database):
    batch = Holder(stack.name("pg17"), "begin; lock table jobs;")
    assert until(lambda: database("select count(*) > 0 from pg_locks where mode = 'AccessExclusiveLock'") == "t")
    taking = Taking(stack, tmp_path, {**STORE, "lock_timeout": 1})
    assert waits(database, "AccessShareLock")
    batch.tell("select pg_sleep(1.2); commit;")
    batch.end()
    report = taking.end()
    assert len(report["retried"]) == 1 and saved(stack, report) == ["before"]
    manifest = json.loads((tmp_path / "postgres" / f"postgres-{report['id']}.json").read_text())
    assert manifest["counts"]["rows"] == {"public.jobs": 1}


def test_what_waits_for_the_dump_is_never_counted_as_empty(stack, tmp_path, database, monkeypatch):
    """A change of a table that waits for pg_dump goes before our count of it, which must not hold the job up either."""
    database("create table a_first (x int); insert into a_first values (1), (2)")
    changes, locked = [], Source._locked

    def change_comes(source):
        sh("pkill", "-STOP", "-f", f"^pg_dump .*{DATABASE}")
        changes.append(Holder(stack.name("pg17"), "begin; truncate jobs; select pg_sleep(3); commit;"))
        assert waits(database, "AccessExclusiveLock")
        locked(source)
        threading.Timer(1, sh, ["pkill", "-CONT", "-f", f"^pg_dump .*{DATABASE}"]).start()

    monkeypatch.setattr(Source, "_locked", change_comes)
    taking = Taking(stack, tmp_path, {**STORE, "lock_timeout": 0.3})
    report = taking.end()
    assert report and report["retried"] == [], taking.error
    changes[0].end()
    assert saved(stack, report) == ["before"] and database("select count(*) from jobs") == "0"
    manifest = json.loads((tmp_path / "postgres" / f"postgres-{report['id']}.json").read_text())
    assert manifest["counts"] == {"tables": 2, "rows": {"public.a_first": 2}}


def test_a_lock_timeout_of_nothing_is_refused(stack, tmp_path):
    assert "lock_timeout must be more than 0 seconds" in str(stack.fail(tmp_path, [{**STORE, "lock_timeout": 0}]))
