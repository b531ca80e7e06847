"""A connection to a Postgres server: who logs in, by which way, and programs beside the server."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import IO, Callable, Optional, Sequence

from ..containers import LIFELINE, MOUNT, Container, Docker, SideContainer
from ..errors import BackupError
from ..process import Deadline, Readable, Result, Session, run
from ..stores import Store, host_secret
from .advisory import outdated

__all__ = ["APPLICATION", "Connection", "Psql", "conninfo"]

# The password comes as the first line of standard input: not in argv, not in what `docker inspect` shows. What the
# programs say is looked at, whatever language the image speaks.
_PASSWORD = "IFS= read -r PGPASSWORD; export PGPASSWORD LC_ALL=C; "  # noqa: S105
APPLICATION = "stack-backup"
# Names of later servers are simply absent on older ones.
_NO_TIMEOUTS = """SELECT count(set_config(name, '0', false)) FROM pg_settings WHERE name IN
 ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout');"""
# What the server says is looked at, not only shown. Only a superuser may choose its language.
_SESSION = """ SELECT set_config('lc_messages', 'C', false) FROM pg_roles WHERE rolname = current_user AND rolsuper;
 SET client_encoding = 'UTF8'; SET row_security = off; SET search_path = pg_catalog;
 SET default_transaction_read_only = off;"""


def conninfo(**settings: Optional[str]) -> str:
    """A libpq connection string in which every name stands for itself.

    Source: PostgreSQL manual, 34.1.1 "Connection Strings", keyword/value form.
    """
    quoted = ((key, value.replace("\\", "\\\\").replace("'", "\\'")) for key, value in settings.items() if value)
    return " ".join(f"{key}='{value}'" for key, value in quoted)


class Psql:
    """An open psql: SQL goes in, lines (unaligned, tuples only) come out."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._marker = ""

    def ask(self, sql: str, at_most: Optional[float] = 60) -> list[str]:
        """The answer to ``sql``. Raises BackupError with the server's own words; the session is then over."""
        self.tell(sql)
        return self.told(at_most)

    def tell(self, sql: str) -> None:
        """Send ``sql``; its answer waits for ``told``."""
        self._marker = f"--{secrets.token_hex(8)}"
        self._session.send(f"{sql}\n\\echo {self._marker}\n")

    def told(self, at_most: Optional[float] = None) -> list[str]:
        """The answer to what was sent last."""
        lines: list[str] = []
        while (line := self._session.line(at_most)) != self._marker:
            lines.append(line)
        return lines

    def let_go(self) -> None:
        """Let the session end; ``close`` waits for it."""
        self._session.let_go()

    def close(self) -> None:
        """End the session."""
        self._session.close()

    def __enter__(self) -> Psql:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Connection:
    """Logs in to one server: from a throw-away container beside it, or inside its own container.

    ``folder``, if there is one, is mounted in the throw-away container; ``inside``: it is mounted in the server's own, so that
    no other is needed. User, database and password are, where the store does not name them, what the server's
    container was given.
    """

    def __init__(
        self,
        docker: Docker,
        store: Store,
        container: Container,
        *,
        backup_dir: Path,
        folder: Optional[Path],
        read_only: bool = False,
        inside: bool = False,
    ) -> None:
        self._docker, self._store, self._container = docker, store, container
        self._folder = folder
        self._side = SideContainer(
            docker,
            image=container.image_id,
            backup_dir=str(backup_dir),
            store=store.name,
            network=f"container:{container.id}",
            folder=folder,
            read_only=read_only,
        )
        self.via, self.why = ("inside" if inside else "side"), ""
        self.user = self.database = self._password = ""
        self.home = ""  # the database that ``open`` entered
        self.version = self.client = 0
        self.superuser = False
        self._first: Optional[Psql] = None
        self._entered = False  # the throw-away container was asked for

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
                f"store {self._store.name}: {path} can't be read in container {self._container.name}: {result.reason()}: "
                "mount the secret there, or mend password_file"
            )
        return result.out.rstrip("\r\n")

    def open(self, *, maintenance: bool = False) -> Psql:
        """Log in to the store's database, or, for ``maintenance``, to another one that every server has.

        The session holds the way in open. Raises BackupError with the server's own words.
        """
        store = self._store
        self.user = store.user or self._given("POSTGRES_USER") or "postgres"
        self.database = store.database or self._given("POSTGRES_DB") or self.user
        if store.host_password_file:
            self._password = host_secret(store)
        else:
            self._password = (
                self._read(store.password_file) if store.password_file else self._given("POSTGRES_PASSWORD")
            )
        # template1 where postgres is the store's own, or was removed.
        usual = [name for name in ("postgres", "template1") if name != self.database]
        targets = usual if maintenance else [self.database]
        try:
            if self.via == "inside":
                return self._enter_one(targets)
            if store.via == "exec":
                raise BackupError("the inventory says via: exec")
            return self._enter_one(targets)
        except BackupError as error:
            if store.via == "side" or self.via == "inside":
                raise BackupError(f"store {store.name}: {error}{_cure(str(error))}") from None
            self.close()
            self.via, self.why = "exec", str(error)
        try:
            return self._enter_one(targets)
        except BackupError as error:
            raise BackupError(
                f"store {store.name}, {store.where}, database {targets[0]!r}, role {self.user!r}: {error}{_cure(str(error))}"
            ) from None

    @property
    def outdated(self) -> str:
        """What is wrong with the programs of the container's image; empty when nothing is."""
        return outdated(self.client, self._container.image)

    def conninfo(self, database: str, *settings: str) -> str:
        """How a program logs in to ``database``. ``settings``: NAME=VALUE of the server, for its session."""
        host = "127.0.0.1" if self.mounts else None
        port = str(self._store.port) if self._store.port else None
        return conninfo(
            host=host,
            port=port,
            user=self.user,
            dbname=database,
            application_name=APPLICATION,
            options=" ".join(f"-c {setting}" for setting in settings),
        )

    @property
    def silent(self) -> list[str]:
        """Settings with which a database's event triggers don't run: they are neither to keep us out nor to act as us.

        Before 17 other triggers don't either.
        """
        if not self.superuser:
            return []
        return ["event_triggers=off"] if self.version >= 170000 else ["session_replication_role=replica"]

    def _enter_one(self, databases: Sequence[str]) -> Psql:
        """Log in to the first of ``databases`` that lets us; else raise what the first one said."""
        errors: list[BackupError] = []
        for database in databases:
            try:
                psql = self._enter(database)
            except BackupError as error:
                errors.append(error)
                self.close()
            else:
                self.home = database
                return psql
        raise errors[0]

    def _enter(self, database: str) -> Psql:
        program = self._psql(database)
        if self.via == "side":
            self._entered = True
            session = self._side.session(program)
        else:
            session = Session(self._argv(program), deadline=self._docker.deadline)
        self._first = self._greet(session)
        version, superuser, client = self._first.ask(
            "SELECT current_setting('server_version_num'); SELECT current_setting('is_superuser');\n\\echo :VERSION_NUM"
        )
        self.version, self.superuser = int(version), superuser == "on"
        self.client = int(client) if client.isdecimal() else 0  # psql < 11 does not tell it
        return self._first

    def _argv(self, program: Sequence[str]) -> list[str]:
        """``docker exec`` of a program, where programs run."""
        where = self._side.name if self.via == "side" else self._container.id
        # The backup folder's files are readable by their owner alone.
        user = f"{os.getuid()}:{os.getgid()}" if self.via == "inside" else None
        return self._docker.exec_argv(where, program, interactive=True, user=user)

    @property
    def held(self) -> Psql:
        """The session that ``open`` made. For questions: an error would end the way in."""
        if self._first is None:
            raise BackupError(f"store {self._store.name}: not connected")
        return self._first

    @property
    def deadline(self) -> Deadline:
        """The job's."""
        return self._docker.deadline

    def session(self, database: str) -> Psql:
        """One more session, in ``database``. To be closed by the caller; ``close`` ends it at the latest."""
        return self._greet(Session(self._argv(self._psql(database)), deadline=self._docker.deadline))

    def _psql(self, database: str) -> list[str]:
        psql = [
            "psql",
            "-X",
            "-A",
            "-t",
            "-q",
            "-w",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            self.conninfo(database, *self.silent),
        ]
        return ["sh", "-c", _PASSWORD + 'exec "$@"', "sh", *psql]

    def _greet(self, session: Session) -> Psql:
        psql = Psql(session)
        session.send(f"{self._password}\n")
        try:
            psql.ask(_NO_TIMEOUTS + _SESSION)
        except BackupError:
            psql.close()
            raise
        return psql

    def run(
        self,
        program: Sequence[str],
        out: Optional[IO[bytes]] = None,
        feed: Optional[Readable] = None,
        aside: Optional[Callable[[str], bool]] = None,
    ) -> Result:
        """Run a program of the image to its end, logged in by ``conninfo``.

        ``out`` takes its standard output, ``feed`` is its standard input, ``aside`` as ``process.run``. Beside the server it ends with the
        throw-away container, inside the server's container by a lifeline, or with its input.
        """
        stdin = f"{self._password}\n"
        held = not self.mounts and feed is None
        argv = self._argv(["sh", "-c", _PASSWORD + (LIFELINE if held else 'exec "$@"'), "sh", *program])
        return run(argv, deadline=self._docker.deadline, stdin=stdin, feed=feed, hold_stdin=held, out=out, aside=aside)

    def query(self, database: str, statement: str) -> str:
        """What psql -At prints for ``statement``, in a session with the database's own settings."""
        program = ["psql", "-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1"]
        result = self.run([*program, "-d", self.conninfo(database, *self.silent), "-c", statement])
        if result.code:
            raise result.fault(f"store {self._store.name}: the query {statement!r} failed: {result.reason()}")
        return result.out.rstrip("\n")

    @property
    def mounts(self) -> bool:
        """Whether programs run where the folder is mounted."""
        return self.via != "exec"

    def mounted(self, path: Path) -> Optional[str]:
        """What a file of the folder is called where programs run; None where the folder is not mounted."""
        return f"{MOUNT}/{path.relative_to(self._folder)}" if self.mounts and self._folder else None

    def close(self) -> None:
        """End the session, and with it the side container."""
        if self._first:
            self._first.close()
            self._first = None
        if self._entered:
            self._side.remove()
            self._entered = False


def _cure(reason: str) -> str:
    if "password authentication failed" in reason or "no password supplied" in reason:
        return " (set the store's password_file, and user where another role is meant)"
    return ""
