"""Fills a new database from a backup, and proves that what came out is what went in."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

from ..catalog import Backup
from ..errors import BackupError, Unsound
from ..process import Result
from . import roles
from .check import newer
from .connection import Connection
from .dump import COUNTS, TABLES
from .names import identifier, literal
from .properties import PROPERTIES, create, differences, finish

__all__ = ["Fill"]

# A role's statement holds its password's hash, which is not to get into the server's log.
_QUIET = """SELECT count(set_config(name, value, false)) FROM (VALUES ('log_statement', 'none'),
 ('log_min_error_statement', 'panic'), ('log_min_duration_statement', '-1')) AS quiet (name, value);"""
_SERVER = """SELECT jsonb_build_object('roles', (SELECT jsonb_agg(rolname) FROM pg_roles),
 'extensions', (SELECT jsonb_agg(name) FROM pg_available_extensions),
 'tablespaces', (SELECT jsonb_object_agg(spcname, pg_tablespace_location(oid)) FROM pg_tablespace));"""


class Fill:
    """One backup on its way into a database ``name`` of its own: check, roles, create, load, prove.

    ``tablespaces``: put things where they were; otherwise everything goes where the server keeps its data.
    """

    def __init__(
        self, connection: Connection, backup: Backup, name: str, *, jobs: int, tablespaces: bool = True
    ) -> None:
        self._connection, self._backup, self._name = connection, backup, name
        self._jobs, self._tablespaces = jobs, tablespaces
        self._database: dict[str, Any] = backup.manifest["database"]
        self.seconds: dict[str, float] = {}

    def server(self) -> dict[str, Any]:
        """The server's ``roles``, available ``extensions``, and ``tablespaces`` with their folders."""
        found: dict[str, Any] = json.loads(self._connection.held.ask(_SERVER)[0])
        return found

    def check(self, server: dict[str, Any]) -> None:
        """Raise BackupError, with the cure, for what this server can't take. Changes nothing."""
        store = self._backup.store
        refused = newer(self._backup, self._connection.version // 10000)
        if refused:
            raise BackupError(refused)
        lacking = sorted(set(self._database["extensions"]) - set(server["extensions"]))
        if lacking:
            raise BackupError(
                f"store {store}: the server has no extension {', '.join(lacking)}, which the backup needs: "
                "use an image that has it"
            )
        needed = {self._database["tablespace"], *self._database.get("tablespaces", [])}
        lacking = sorted(needed - set(server["tablespaces"])) if self._tablespaces else []
        if lacking:
            raise BackupError(
                f"store {store}: the server has no tablespace {', '.join(lacking)}, which the backup needs: "
                "create it first (CREATE TABLESPACE … LOCATION …)"
            )
        if not self._connection.mounts and self._backup.manifest["artifact"]["format"] == "directory":
            raise BackupError(
                f"store {store}: a backup of format: directory needs the side container, "
                f"which could not be used: {self._connection.why}"
            )

    def missing(self, server: dict[str, Any]) -> tuple[list[str], list[roles.Statement]]:
        """The roles that the server lacks, and what makes them."""
        text = self._backup.globals(self._connection.deadline)
        if text is not None:
            return roles.missing(text, set(server["roles"]))
        # An adopted dump came without them: what it needs is known, what they were is not.
        needed = (self._backup.manifest.get("adopted") or {}).get("roles", [])
        bare = [name for name in needed if name not in server["roles"]]
        return bare, [roles.Statement(f"CREATE ROLE {identifier(name)}", (name,)) for name in bare]

    def _timed(self, step: str, work: Callable[[], Any]) -> Any:
        began = time.monotonic()
        try:
            return work()
        finally:
            self.seconds[step] = round(time.monotonic() - began, 3)

    def make_roles(self) -> list[str]:
        """Create the roles that are missing, all or none; returns their names. Those that are there stay as they are."""
        names, statements = self.missing(self.server())
        if names:
            with self._connection.session(self._connection.home) as psql:
                # Terse: an error must not quote the statement.
                psql.ask(f"\\set VERBOSITY terse\n{_QUIET if self._connection.superuser else ''} BEGIN;")
                for statement in statements:
                    psql.ask(statement.text())
                psql.ask("COMMIT;")
        return names

    def create(self) -> int:
        """Create the database, empty; nobody else gets in while it is filled. Returns its oid."""
        made = create(
            self._database,
            self._name,
            self._connection.version,
            hold=self._connection.superuser,
            tablespace=self._tablespaces,
        )
        with self._connection.session(self._connection.home) as psql:
            psql.ask(made, at_most=None)
            return int(psql.ask(f"SELECT oid FROM pg_database WHERE datname = {literal(self._name)};")[0])

    def load(self) -> None:
        """pg_restore."""
        self._timed("pg_restore", self._load)

    def _load(self) -> None:
        backup, connection = self._backup, self._connection
        # Not durable until the first commit that waits: at the latest the switch is one. An event trigger comes before
        # materialized views are filled: one that keeps a log would add to the data.
        target = connection.conninfo(
            self._name, "synchronous_commit=off", "default_transaction_read_only=off", *connection.silent
        )
        # With row security off, pg_restore's default, a materialized view over a table that forces it on its owner
        # can't be filled. A superuser's COPY is not subject to it; anybody else's fails rather than filters.
        program = ["pg_restore", "--no-password", "--exit-on-error", "--enable-row-security", f"--dbname={target}"]
        if not self._tablespaces:
            program.append("--no-tablespaces")
        mounted = None if backup.encrypted else connection.mounted(backup.artifact)
        if mounted:
            self._must(connection.run([*program, f"--jobs={self._jobs}", mounted]))
            return
        # Several jobs need a file that they can seek in: from a stream there is one.
        with backup.stream(connection.deadline) if backup.encrypted else backup.artifact.open("rb") as feed:
            self._must(connection.run(program, feed=feed))

    def _must(self, result: Result) -> None:
        if result.code:
            # The first one: what follows are its details, the statement, and workers that were ended for it.
            errors = [line for line in result.err.splitlines() if " error: " in line]
            raise result.fault(f"store {self._backup.store}: pg_restore failed: {(errors or [result.reason()])[0]}")

    def _analyze(self) -> None:
        # Not vacuumdb --analyze-only: it leaves out partitioned tables, whose statistics are their own.
        with self._connection.session(self._name) as psql:
            psql.ask("ANALYZE;", at_most=None)

    def prove(self) -> dict[str, Any]:
        """Give the database its properties; compare them and every table's rows with the manifest's; ANALYZE beside."""
        with ThreadPoolExecutor(1) as pool:
            analyzed = pool.submit(self._timed, "analyze", self._analyze)
            proven = dict(self._timed("prove", self._prove))
            analyzed.result()
        return proven

    def _prove(self) -> dict[str, Any]:
        with self._connection.session(self._connection.home) as psql:
            for statement in finish(self._database, self._name):
                psql.ask(statement)
        expected = self._backup.manifest["counts"]
        with self._connection.session(self._name) as psql:
            found = json.loads(psql.ask(PROPERTIES)[0])
            tables = int(psql.ask(f"SELECT count(*) {TABLES};")[0])
            rows = dict(json.loads(line) for line in psql.ask(COUNTS, at_most=None)) if expected["rows"] else {}
        told = differences(self._database, found)
        if tables != expected["tables"]:
            told.append(f"it has {tables} tables, was saved with {expected['tables']}")
        for table, count in (expected["rows"] or {}).items():
            if rows.get(table) != count:
                told.append(f"table {table} has {rows.get(table, 'no')} rows, was saved with {count}")
        if told:
            raise Unsound(f"store {self._backup.store}: the restored database is not what was saved: {'; '.join(told)}")
        return {
            "counts": {
                "tables": expected["tables"],
                "rows": sum(rows.values()) if rows else None,
                "large_objects": found["large_objects"],
            },
            "subscriptions": found["subscriptions"],
            "extensions": found["extensions"],
        }
