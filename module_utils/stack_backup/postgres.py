"""Postgres: pin by an exported snapshot, stream by the server's own pg_dump, check by pg_restore."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any, Optional, Sequence

from .artifact import Partial
from .containers import LIFELINE, MOUNT, Container, Docker, SideContainer
from .errors import BackupError
from .process import Result, Session, run
from .stores import Store, host_secret

__all__ = ["Source", "check"]

# The password comes as the first line of standard input: not in argv, not in what `docker inspect` shows.
_PASSWORD = "IFS= read -r PGPASSWORD; export PGPASSWORD; "  # noqa: S105
# Names of later servers are simply absent on older ones.
_NO_TIMEOUTS = """SELECT count(set_config(name, '0', false)) FROM pg_settings WHERE name IN
 ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout');"""
_PROPERTIES = """SELECT json_build_object(
 'name', d.datname, 'owner', pg_get_userbyid(d.datdba), 'encoding', pg_encoding_to_char(d.encoding),
 'tablespace', (SELECT spcname FROM pg_tablespace t WHERE t.oid = d.dattablespace),
 'comment', shobj_description(d.oid, 'pg_database'), 'acl', d.datacl::text[], 'catalog', to_jsonb(d) - 'datacl',
 'settings', (SELECT coalesce(json_agg(json_build_object('role', nullif(s.setrole, 0)::regrole::text, 'config', s.setconfig)), '[]')
              FROM pg_db_role_setting s WHERE s.setdatabase = d.oid),
 'extensions', (SELECT coalesce(json_object_agg(extname, extversion), '{}') FROM pg_extension),
 'large_objects', (SELECT count(*) FROM pg_largeobject_metadata),
 'size', pg_database_size(d.oid))
FROM pg_database d WHERE d.datname = current_database();"""
_TABLES = """FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')"""
_COUNTS = (
    "SELECT format('SELECT json_build_array(%L, count(*)) FROM ONLY %I.%I', format('%I.%I', n.nspname, c.relname), n.nspname, c.relname) "
    + _TABLES
    + r" ORDER BY c.oid \gexec"
)


def conninfo(**settings: Optional[str]) -> str:
    """A libpq connection string in which every name stands for itself.

    Source: PostgreSQL manual, 34.1.1 "Connection Strings", keyword/value form.
    """
    quoted = ((key, value.replace("\\", "\\\\").replace("'", "\\'")) for key, value in settings.items() if value)
    return " ".join(f"{key}='{value}'" for key, value in quoted)


class Source:
    """One database as the source of one backup: open, pin, stream, describe, close."""

    def __init__(self, docker: Docker, store: Store, container: Container, backup_dir: Path, partial: Partial) -> None:
        self._docker, self._store, self._container = docker, store, container
        self._partial = partial
        self.pin_order = 1  # after Redis: a message is then seen again rather than lost
        self.pinned_at = 0.0
        self.size = 0
        self._side = SideContainer(
            docker,
            image=container.image_id,
            backup_dir=str(backup_dir),
            store=store.name,
            network=f"container:{container.id}",
            folder=partial.folder,
        )
        self.via, self._why = "side", ""
        self._session: Optional[Session] = None
        self._password = self._user = self._database = self._snapshot = ""
        self._version = 0
        self._properties: dict[str, Any] = {}
        self._tables = 0
        self._counts: dict[str, int] = {}
        self._compression = ""
        self._globals_passwords = True

    def _given(self, name: str) -> str:
        """What the container itself was given, by the variable or by the file that NAME_FILE names."""
        env = self._container.env
        if env.get(name):
            return env[name]
        if env.get(f"{name}_FILE"):
            return self._read(env[f"{name}_FILE"])
        return ""

    def _read(self, path: str) -> str:
        result = self._docker.exec(self._container.id, ["cat", "--", path])
        if result.code:
            raise BackupError(
                f"store {self._store.name}: {path} can't be read in container {self._container.name}: {result.reason()}"
            )
        return result.out.rstrip("\r\n")

    def open(self) -> None:
        """Connect, and learn what the server is. Raises BackupError with the server's own words."""
        store = self._store
        self._user = store.user or self._given("POSTGRES_USER") or "postgres"
        self._database = store.database or self._given("POSTGRES_DB") or self._user
        if store.host_password_file:
            self._password = host_secret(store)
        else:
            self._password = (
                self._read(store.password_file) if store.password_file else self._given("POSTGRES_PASSWORD")
            )
        try:
            if store.via == "exec":
                raise BackupError("the inventory says via: exec")
            self._connect()
        except BackupError as error:
            if store.via == "side":
                raise BackupError(f"store {store.name}: {error}") from None
            self.close()
            self.via, self._why = "exec", str(error)
            try:
                self._connect()
            except BackupError as second:
                raise BackupError(
                    f"store {store.name}, {store.where}, database {self._database!r}, role {self._user!r}: {second}"
                ) from None
        if store.format == "directory" and self.via == "exec":
            raise BackupError(
                f"store {store.name}: format: directory needs the side container, which could not be used: {self._why}"
            )

    def _conninfo(self) -> str:
        host = "127.0.0.1" if self.via == "side" else None
        port = str(self._store.port) if self._store.port else None
        return conninfo(host=host, port=port, user=self._user, dbname=self._database, application_name="stack-backup")

    def _connect(self) -> None:
        psql = ["psql", "-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-d", self._conninfo()]
        program = ["sh", "-c", _PASSWORD + 'exec "$@"', "sh", *psql]
        if self.via == "side":
            self._session = self._side.session(program)
        else:
            argv = self._docker.exec_argv(self._container.id, program, interactive=True)
            self._session = Session(argv, deadline=self._docker.deadline)
        self._session.send(f"{self._password}\n")
        self._ask(_NO_TIMEOUTS + " SET row_security = off; SET search_path = pg_catalog;")
        answer = self._ask("SELECT current_setting('server_version_num'), pg_database_size(current_database());")
        self._version, self.size = (int(part) for part in answer[0].split("|"))

    def _ask(self, sql: str, at_most: float = 60) -> list[str]:
        self._tell(sql)
        return self._told(at_most)

    def _tell(self, sql: str) -> None:
        self._marker = f"--{secrets.token_hex(8)}"
        if self._session is None:
            raise BackupError("not connected")
        self._session.send(f"{sql}\n\\echo {self._marker}\n")

    def _told(self, at_most: Optional[float] = None) -> list[str]:
        lines: list[str] = []
        while self._session is not None:
            line = self._session.line(at_most)
            if line == self._marker:
                break
            lines.append(line)
        return lines

    def ready(self) -> None:
        """Nothing to wait for."""

    def pin(self) -> None:
        """Export a snapshot; it holds as long as the session is open."""
        answer = self._ask("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT pg_export_snapshot();", at_most=10)
        self.pinned_at = time.time()
        self._snapshot = answer[0]

    def stream(self) -> None:
        """Dump the pinned snapshot and the globals into the partial folder; prove that the archive reads."""
        self._properties = json.loads(self._ask(_PROPERTIES)[0])
        self._tables = int(self._ask(f"SELECT count(*) {_TABLES};")[0])
        # psql counts in the same snapshot while pg_dump runs; the answers wait in the pipe.
        self._tell(_COUNTS if self._store.row_counts else "")
        self._dump()
        self._counts = dict(json.loads(line) for line in self._told())
        self._dump_globals()
        self._check_listing()

    def _run(self, program: Sequence[str], target: Path) -> Result:
        """Run a program that writes ``target``: through the mounted folder, or through its output."""
        stdin = f"{self._password}\n"
        if self.via == "side":
            program = [*program, f"--file={MOUNT}/{target.name}"]
            argv = self._docker.exec_argv(
                self._side.name, ["sh", "-c", _PASSWORD + 'exec "$@"', "sh", *program], interactive=True
            )
            return run(argv, deadline=self._docker.deadline, stdin=stdin)
        argv = self._docker.exec_argv(
            self._container.id, ["sh", "-c", _PASSWORD + LIFELINE, "sh", *program], interactive=True
        )
        try:
            with target.open("wb") as file:
                return run(argv, deadline=self._docker.deadline, stdin=stdin, hold_stdin=True, out=file)
        except OSError as error:
            raise self._partial.explain(error) from None

    def _dump(self) -> None:
        best = ["zstd:1", "lz4:1", "gzip:1"] if self._version >= 160000 else ["1"]
        choices = [self._store.compression] if self._store.compression else best
        for choice in choices:
            program = [
                "pg_dump",
                "--no-password",
                f"--format={self._store.format}",
                f"--compress={choice}",
                "--no-sync",
            ]
            program += [f"--snapshot={self._snapshot}", f"--dbname={self._conninfo()}"]
            if self._store.format == "directory":
                program.append(f"--jobs={self._store.jobs}")
            result = self._run(program, self._partial.artifact)
            self._compression = f"gzip:{choice}" if choice.isdigit() else choice
            if not (result.code and "compress" in result.err and "support" in result.err):
                break
        if result.code:
            raise BackupError(f"store {self._store.name}: pg_dump failed: {_space(result)}")

    def _dump_globals(self) -> None:
        program = ["pg_dumpall", "--no-password", "--globals-only", "--no-sync", f"--dbname={self._conninfo()}"]
        result = self._run(program, self._partial.globals)
        if result.code and "permission denied" in result.err:
            # Only a superuser reads pg_authid: the roles then come without their passwords.
            self._globals_passwords = False
            result = self._run([*program, "--no-role-passwords"], self._partial.globals)
        if result.code:
            raise BackupError(f"store {self._store.name}: pg_dumpall --globals-only failed: {_space(result)}")

    def _check_listing(self) -> None:
        program = ["pg_restore", "--list", f"{MOUNT}/{self._partial.artifact.name}"]
        if self.via == "side":
            result = run(self._docker.exec_argv(self._side.name, program), deadline=self._docker.deadline)
        else:
            result = _offline(
                self._docker,
                self._container.image_id,
                self._partial.store_dir.parent,
                self._store.name,
                self._partial.folder,
                program,
            )
        if result.code:
            raise BackupError(f"store {self._store.name}: pg_restore can't read what pg_dump wrote: {result.reason()}")
        data = sum(" TABLE DATA " in line for line in result.out.splitlines() if not line.startswith(";"))
        if data < self._tables:
            raise BackupError(
                f"store {self._store.name}: the dump holds the data of {data} tables, the database has {self._tables}: it is not whole"
            )

    def describe(self) -> dict[str, Any]:
        """What the manifest tells of this store."""
        return {
            "server_version": self._version,
            "artifact": {"format": self._store.format, "compression": self._compression},
            "globals": {"name": self._partial.globals.name, "passwords": self._globals_passwords},
            "pin": {"snapshot": self._snapshot},
            "database": self._properties,
            "counts": {"tables": self._tables, "rows": self._counts if self._store.row_counts else None},
            "via": {"used": self.via, "reason": self._why},
        }

    def close(self) -> None:
        """End the session, and with it the side container."""
        if self._session:
            self._session.close()
            self._session = None
            if self.via == "side":
                self._side.remove()


def check(docker: Docker, image: str, backup_dir: Path, store: str, artifact: Path) -> dict[str, Any]:
    """Read an archive to its end in a throw-away container without network. Check its digest first."""
    program = ["pg_restore", "--file=/dev/null", f"{MOUNT}/{artifact.name}"]
    result = _offline(docker, image, backup_dir, store, artifact.parent, program)
    if result.code:
        raise BackupError(f"pg_restore can't read {artifact.name} to its end: {result.reason()}")
    return {"program": "pg_restore"}


def _offline(docker: Docker, image: str, backup_dir: Path, store: str, folder: Path, program: Sequence[str]) -> Result:
    side = SideContainer(docker, image=image, backup_dir=str(backup_dir), store=store, folder=folder, read_only=True)
    return side.run(program)


def _space(result: Result) -> str:
    reason = result.reason()
    return f"no space left in the backup folder ({reason})" if "No space left" in reason else reason
