"""One database as the source of a backup: pinned by an exported snapshot, streamed by the server's own pg_dump."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any, Callable, Optional, Sequence, Union

from .. import progress
from ..artifact import Partial
from ..containers import Container, Docker
from ..errors import BackupError, Contended
from ..process import Readable, Result
from ..stores import Store
from .check import offline
from .connection import Connection, Psql
from .properties import PROPERTIES

__all__ = ["COUNTS", "TABLES", "Source"]

TABLES = """FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')"""
# A table that was rewritten since the snapshot looks empty in it, so that it is not counted.
COUNTS = (
    "SELECT format('SELECT json_build_array(%L, count(*)) FROM ONLY %I.%I HAVING pg_relation_filenode(%s) = %s',"
    " format('%I.%I', n.nspname, c.relname), n.nspname, c.relname, c.oid, c.relfilenode) "
    + TABLES
    + r" ORDER BY c.oid \gexec"
)
# pg_class as the snapshot shows it, beside what the table's file is now. TRUNCATE and the forms of ALTER TABLE that
# rewrite a table are not MVCC-safe: PostgreSQL manual, 13.6 "Caveats".
_REWRITTEN = (
    f"SELECT format('%I.%I', n.nspname, c.relname) {TABLES}"
    " AND pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode ORDER BY 1;"
)
_HOLDERS = """SELECT DISTINCT format('session %s of %s (%s), %s for %s s', a.pid, coalesce(a.usename, '?'),
 coalesce(nullif(a.application_name, ''), '?'), a.state, round(extract(epoch FROM now() - a.state_change)))
 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'relation' AND l.granted
 AND l.mode = 'AccessExclusiveLock' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
 AND a.pid <> pg_backend_pid();"""
# One that waits must not keep a table from its other users for long; what can't be counted stays uncounted.
_COUNTING = r"""\set ON_ERROR_STOP 0
\set ON_ERROR_ROLLBACK on
SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL lock_timeout = '{milliseconds}ms';
"""
# What pg_dump tells of its work; its errors have a word and a colon first (pg_log_generic_v of logging.c, since 12).
# After this it locks every table that it will dump, before it says anything else (getSchemaData() of common.c).
_LOCKING = "pg_dump: reading user-defined tables"
_NOT_LOCKED = (
    "due to statement timeout",
    "could not obtain lock",
)  # --lock-wait-timeout is one; a worker of format: directory
_VERBOSE = re.compile(r'pg_dump: (?!\S+ ?: )(?:dumping contents of table "(?P<table>.*)"$)?')


class Source:
    """One database as the source of one backup: open, ready, pin, stream, prove, describe, close."""

    def __init__(self, docker: Docker, store: Store, container: Container, backup_dir: Path, partial: Partial) -> None:
        self._docker, self._store, self._image = docker, store, container.image_id
        self._partial = partial
        self.pin_order = 1  # after Redis: a message is then seen again rather than lost
        self.pinned_at = 0.0
        self.size = 0
        self._connection = Connection(docker, store, container, backup_dir=backup_dir, folder=partial.folder)
        self._psql: Optional[Psql] = None
        self._snapshot = ""
        self._properties: dict[str, Any] = {}
        self._tables = 0
        self._counts: dict[str, int] = {}
        self._counting = self._locking = False
        self._compression = ""
        self._listing: Optional[Result] = None
        self._globals_passwords = True

    def open(self) -> None:
        """Connect, and learn what the server is. Raises BackupError with the server's own words."""
        if self._store.format == "directory" and self._partial.recipients:
            raise BackupError(
                f"store {self._store.name}: a folder can't be encrypted as one file: set format: custom, or leave "
                "backup_age_recipients empty"
            )
        self._psql = self._connection.open()
        self.size = int(self._ask("SELECT pg_database_size(current_database());")[0])
        if self._store.format == "directory" and self._connection.via == "exec":
            raise BackupError(
                f"store {self._store.name}: format: directory needs the side container, "
                f"which could not be used: {self._connection.why}"
            )

    def _session(self) -> Psql:
        if self._psql is None:
            raise BackupError(f"store {self._store.name}: not connected")
        return self._psql

    def _ask(self, sql: str, at_most: float = 60) -> list[str]:
        return self._session().ask(sql, at_most)

    def ready(self) -> None:
        """Nothing to wait for."""

    def pin(self) -> None:
        """Export a snapshot; it holds as long as the session is open."""
        answer = self._ask("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT pg_export_snapshot();", at_most=10)
        self.pinned_at = time.time()
        self._snapshot = answer[0]

    def stream(self) -> None:
        """Dump the pinned snapshot and the globals into the partial folder."""
        self._properties = json.loads(self._ask(PROPERTIES)[0])
        self._tables = int(self._ask(f"SELECT count(*) {TABLES};")[0])
        with ThreadPoolExecutor(1) as pool:
            roles = pool.submit(self._dump_globals)
            self._dump()
            roles.result()
        if not self._counting:
            self._locked()
        self._counts = dict(json.loads(line) for line in self._session().told())

    def prove(self) -> None:
        """Prove that the archive reads, and has every table's data."""
        self._check_listing()
        self._session().let_go()  # the throw-away container goes while the digest is read

    def _run(
        self, program: Sequence[str], target: Path, aside: Optional[Callable[[str], bool]] = None, **more: Any
    ) -> Result:
        """Run a program that writes ``target``: through the mounted folder, or through its output.

        ``aside``: as ``process.run``; ``more``: as Sealing.
        """

        def write(path: Path, file: Optional[IO[bytes]]) -> Result:
            mounted = self._connection.mounted(path)
            if mounted:
                return self._connection.run([*program, f"--file={mounted}"], aside=aside)
            return self._connection.run(program, out=file, aside=aside)

        try:
            if self._partial.recipients:
                return self._partial.sealing(target, self._docker.deadline, **more).run(write)
            with nullcontext() if self._connection.mounts else target.open("wb") as file:
                return write(target, file)
        except OSError as error:
            raise self._partial.explain(error) from None

    @property
    def _milliseconds(self) -> int:
        return max(1, int(self._store.lock_timeout * 1000))

    def _locked(self) -> None:
        """pg_dump holds its locks: nothing that it dumps may be rewritten since the snapshot, or will be before its end.

        Raises Contended where something was: its rows are not in the snapshot any more.
        """
        rewritten = self._ask(_REWRITTEN)
        if rewritten:
            raise Contended(
                f"store {self._store.name}: {', '.join(rewritten[:3])} {'was' if len(rewritten) == 1 else 'were'} emptied or "
                "rewritten (TRUNCATE, ALTER TABLE) just when the backup began, and would be empty in it: take it when "
                "that does not run"
            )
        self._counting = True
        # psql counts in the same snapshot while pg_dump runs, on one core; the answers wait in the pipe.
        counts = _COUNTING.format(milliseconds=self._milliseconds) + COUNTS
        self._session().tell(counts if self._store.row_counts else "")

    def _watch(self, line: str) -> bool:
        """See when pg_dump holds its locks, and show the table that it dumps; whether the line told of its work."""
        said = _VERBOSE.match(line)
        if self._locking and said and not self._counting:
            self._locked()
        self._locking = line == _LOCKING
        if said:
            progress.detail(self._store.name, said["table"] or "")
        return bool(said)

    def _dump(self) -> None:
        best = ["zstd:1", "lz4:1", "gzip:1"] if self._connection.version >= 160000 else ["1"]
        choices = [self._store.compression] if self._store.compression else best
        watched = self._connection.version >= 120000
        for choice in choices:
            program = [
                "pg_dump",
                "--no-password",
                f"--format={self._store.format}",
                f"--compress={choice}",
                "--no-sync",
            ]
            program += [
                f"--snapshot={self._snapshot}",
                f"--dbname={self._connection.conninfo(self._connection.database)}",
                f"--lock-wait-timeout={self._milliseconds}",
            ]
            if watched:
                program.append("--verbose")
            if self._store.format == "directory":
                program.append(f"--jobs={self._store.jobs}")
            aside = self._watch if watched else None
            result = self._run(program, self._partial.artifact, aside, witness=self._list)
            self._compression = f"gzip:{choice}" if choice.isdigit() else choice
            if not (result.code and "compress" in result.err and "support" in result.err):
                break
        progress.detail(self._store.name, "")
        if result.code and any(words in result.err for words in _NOT_LOCKED):
            held = "; ".join(self._ask(_HOLDERS)) or "it is gone by now"
            raise Contended(
                f"store {self._store.name}: pg_dump waited {self._store.lock_timeout:g} s (lock_timeout) for a table that "
                f"another session has locked: {held}"
            )
        if result.code:
            raise BackupError(f"store {self._store.name}: pg_dump failed: {_why(result)}")

    def _dump_globals(self) -> None:
        program = [
            "pg_dumpall",
            "--no-password",
            "--globals-only",
            "--no-sync",
            f"--dbname={self._connection.conninfo(self._connection.database)}",
        ]
        result = self._run(program, self._partial.globals)
        if result.code and "permission denied" in result.err:
            # Only a superuser reads pg_authid: the roles then come without their passwords.
            self._globals_passwords = False
            result = self._run([*program, "--no-role-passwords"], self._partial.globals)
        if result.code:
            raise BackupError(f"store {self._store.name}: pg_dumpall --globals-only failed: {_why(result)}")

    def _list(self, archive: Union[Path, Readable]) -> None:
        """The archive's table of contents; it is at the head of a stream."""
        program = ["pg_restore", "--list"]
        if not self._connection.mounts:
            backup_dir = self._partial.store_dir.parent
            self._listing = offline(self._docker, self._image, backup_dir, self._store.name, archive, program)
        elif isinstance(archive, Path):
            self._listing = self._connection.run([*program, self._connection.mounted(archive) or ""])
        else:
            self._listing = self._connection.run(program, feed=archive)

    def _check_listing(self) -> None:
        if not self._partial.recipients:
            self._list(self._partial.artifact)
        result = self._listing
        if result is None:
            raise BackupError(f"store {self._store.name}: nobody read what pg_dump wrote")
        if result.code:
            raise BackupError(
                f"store {self._store.name}: pg_restore can't read what pg_dump wrote: {result.reason()}: take it again"
            )
        data = sum(" TABLE DATA " in line for line in result.out.splitlines() if not line.startswith(";"))
        if data < self._tables:
            raise BackupError(
                f"store {self._store.name}: the dump holds the data of {data} tables, the database has {self._tables}: it is not whole: take it again"
            )

    @property
    def warnings(self) -> list[str]:
        """What a person should know, though the backup is good."""
        return [text for text in (self._connection.outdated,) if text]

    def describe(self) -> dict[str, Any]:
        """What the manifest tells of this store."""
        return {
            "server_version": self._connection.version,
            "client_version": self._connection.client,
            "artifact": {"format": self._store.format, "compression": self._compression},
            "globals": {"name": self._partial.globals.name, "passwords": self._globals_passwords},
            "pin": {"snapshot": self._snapshot},
            "database": self._properties,
            "counts": {"tables": self._tables, "rows": self._counts if self._store.row_counts else None},
            "via": {"used": self._connection.via, "reason": self._connection.why},
        }

    def close(self) -> None:
        """End the session, and with it the side container."""
        self._connection.close()


def _why(result: Result) -> str:
    reason = result.reason()
    if result.killed:
        return f"it was killed, for want of memory? See backup_memory and the host's log ({reason})"
    return f"no space left in the backup folder ({reason})" if "No space left" in reason else reason
