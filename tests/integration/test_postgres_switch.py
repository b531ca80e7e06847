"""The exchange of databases on a real server: what it waits for, and what it tells at once."""

import time
from contextlib import contextmanager

import pytest
from conftest import sh
from stack_backup.containers import Docker
from stack_backup.errors import BackupError
from stack_backup.postgres import switch
from stack_backup.postgres.connection import Connection, Psql
from stack_backup.process import Deadline
from stack_backup.stores import parse_stores


@contextmanager
def connected(container, folder):
    docker = Docker(Deadline(120))
    (store,) = parse_stores([{"name": "postgres", "engine": "postgres", "container": container}])
    (found,) = docker.inspect([container])
    connection = Connection(docker, store, found, backup_dir=folder, folder=folder)
    connection.open(maintenance=True)
    try:
        yield connection
    finally:
        connection.close()


@pytest.fixture
def server(stack, lone, tmp_path):
    """A way in to a server with the databases live, side and old; their names, by what each holds."""

    def names():
        found = stack.psql(lone, "SELECT datname FROM pg_database WHERE datname IN ('live', 'side', 'old')").split()
        return {stack.psql(lone, "SELECT * FROM which", name) if name != "old" else "?": name for name in found}

    for name in ("live", "side"):
        stack.psql(lone, f"CREATE DATABASE {name}")
        stack.psql(lone, f"CREATE TABLE which AS SELECT '{name}' AS which", name)
    with connected(lone, tmp_path) as connection:
        yield connection, names
    for name in ("live", "side", "old"):
        stack.psql(lone, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_what_can_not_be_well_is_told_at_once(stack, lone, server):
    connection, names = server
    stack.psql(lone, "CREATE DATABASE old")
    began = time.monotonic()
    with pytest.raises(BackupError, match='database "old" already exists'):
        switch.exchange(connection, live="live", new="side", old="old")
    assert time.monotonic() - began < 10
    stack.psql(lone, "ALTER DATABASE live ALLOW_CONNECTIONS true; ALTER DATABASE side ALLOW_CONNECTIONS true")
    assert names() == {"live": "live", "side": "side", "?": "old"}
    with pytest.raises(BackupError, match='database "gone" does not exist'):
        switch.exchange(connection, live="live", new="gone", old=None)


def crash(stack, container):
    """End one backend by force: the server throws every session out, recovers, and is the same container."""
    pid = stack.psql(container, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")
    sh("docker", "exec", container, "sh", "-c", f"kill -9 {pid}")


def test_a_server_that_comes_back_is_waited_for(stack, lone, server):
    connection, names = server
    crash(stack, lone)
    switch.exchange(connection, live="live", new="side", old="old")
    assert names() == {"side": "live", "?": "old"}


def test_an_answer_that_is_lost_is_no_failure(server, monkeypatch):
    connection, names = server
    ask, lost = Psql.ask, []

    def lose(self, sql, at_most=60):
        """The session ends right after what it did."""
        if sql.endswith("COMMIT;") or sql.startswith("DROP"):
            lost.append(sql)
            sql += " SELECT pg_terminate_backend(pg_backend_pid());"
        return ask(self, sql, at_most)

    monkeypatch.setattr(Psql, "ask", lose)
    switch.exchange(connection, live="live", new="side", old="old")
    assert names() == {"side": "live", "?": "old"}
    switch.remove(connection, "old")
    assert names() == {"side": "live"}
    assert len(lost) == 2  # each was done once
