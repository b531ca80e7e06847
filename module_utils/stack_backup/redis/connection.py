"""A session with a Redis or Valkey server, by the client of its own container."""

from __future__ import annotations

import secrets
from typing import IO, Optional, Sequence, Union

from ..containers import LIFELINE, Container, Docker
from ..errors import BackupError
from ..process import Result, Session, run
from ..stores import Store, host_secret

__all__ = ["Busy", "Connection"]

# The password goes by REDISCLI_AUTH inside the container only: from the file there, or from the first line of stdin.
_LOGIN = """c=$(command -v redis-cli || command -v valkey-cli) || { echo "no redis-cli in this container" >&2; exit 127; }
if [ -n "$1" ]; then REDISCLI_AUTH=$(cat -- "$1") || exit 1; else IFS= read -r REDISCLI_AUTH; fi
shift
if [ -n "$REDISCLI_AUTH" ]; then export REDISCLI_AUTH; else unset REDISCLI_AUTH; fi
set -- "$c" -e --no-auth-warning "$@"
"""
# The client waits for a server that it can't reach, and says nothing on its output: so it is asked first.
_TALK = '"$@" PING </dev/null >&2 || exit 1; exec "$@"'
_BATCH = 32 * 1024  # bytes: a pipe holds 64 KiB, and what does not fit would wait for a client that waits for us
_ERRORS = ("NOAUTH", "WRONGPASS", "NOPERM", "ERR ", "MISCONF", "LOADING", "MASTERDOWN")


class Busy(BackupError):
    """A save or a rewrite is in progress: wait for its end and pin again."""


class Connection:
    """Commands go in, answers come out."""

    def __init__(
        self, docker: Docker, store: Store, container: Container, *, needs: str, formatted: bool = False
    ) -> None:
        """``needs``: what an ACL user must be allowed, for the message that says that it is not.

        ``formatted``: strings come quoted, as on a terminal, so that they can't be taken for anything else.
        """
        self._docker, self._store, self._container = docker, store, container
        self._needs, self._formatted = needs, formatted
        self._session: Optional[Session] = None

    def open(self) -> None:
        """Log in. Raises BackupError with the server's own words."""
        self._session = Session(self._argv(_TALK), deadline=self._docker.deadline)
        self._session.send(self._secret())
        try:
            self.command("PING")  # a machine with fifty at once takes its time to start the client
        except BackupError as error:
            # A port with TLS hangs up on a client without, or says nothing at all.
            mute = any(sign in str(error) for sign in ("no answer in time", "I/O error", "Connection reset", "closed"))
            self.close()
            if self._store.tls or not mute:
                raise
            raise BackupError(f"{error} (where it is a TLS port, set the store's tls: true)") from None

    def run(self, *options: str, out: IO[bytes]) -> Result:
        """Run the client by itself, logged in; ``out`` takes its output. It ends when we do."""
        return run(
            self._argv(LIFELINE, *options),
            deadline=self._docker.deadline,
            stdin=self._secret(),
            hold_stdin=True,
            out=out,
        )

    def _argv(self, how: str, *options: str) -> list[str]:
        store = self._store
        login = ["-p", str(store.port or 6379)]
        if store.username:
            login += ["--user", store.username]
        if store.tls:
            given = ((f"--{name}", getattr(store, name)) for name in ("cacert", "cert", "key"))
            login += ["--tls", *(arg for pair in given if pair[1] for arg in pair)]
        if self._formatted:
            login.append("--no-raw")
        program = ["sh", "-c", _LOGIN + how, "sh", store.password_file or "", *login, *options]
        return self._docker.exec_argv(self._container.id, program, interactive=True)

    def _secret(self) -> str:
        return "" if self._store.password_file else f"{host_secret(self._store)}\n"

    def command(self, command: str, at_most: float = 30) -> list[str]:
        """The answer to a command, line by line. Raises Busy while a save is in progress, BackupError otherwise."""
        return self.commands([command], at_most)[0]

    def commands(self, commands: Sequence[str], at_most: float = 30) -> list[list[str]]:
        """The answers to many commands, which do not wait for each other; raises what the first error says."""
        answers: list[list[str]] = []
        waiting = list(reversed(commands))
        while waiting:
            batch: dict[str, str] = {}
            size = 0
            while waiting and (not batch or size + len(waiting[-1].encode()) < _BATCH):
                size += len(waiting[-1].encode()) + 50
                batch[secrets.token_hex(8)] = waiting.pop()
            if self._session is None:
                raise BackupError("not connected")
            self._session.send("".join(f"{command}\nPING {marker}\n" for marker, command in batch.items()))
            found = [self._answer(command, marker, at_most) for marker, command in batch.items()]
            for answer in found:
                if isinstance(answer, BackupError):
                    raise answer
                answers.append(answer)
        return answers

    def _answer(self, command: str, marker: str, at_most: float) -> Union[list[str], BackupError]:
        """The answer or the server's error, read up to the marker that follows it. Raises when the session is over."""
        lines: list[str] = []
        failed = ""
        while True:
            try:
                line = self._line(at_most)
            except BackupError as error:
                raise self._error(command, str(error)) from None
            over = line.strip('"') == marker
            if over and not failed:
                return lines
            if over or line.startswith(_ERRORS):
                if not failed:
                    failed = line
                    continue
                # The marker, or the error that came instead of it.
                if "in progress" in failed or "AOF" in failed:
                    return Busy(f"store {self._store.name}: {failed}")
                return self._error(command, failed)
            lines.append(line)

    def _line(self, at_most: float) -> str:
        if self._session is None:
            raise BackupError("not connected")
        line = self._session.line(at_most)
        return line[8:] if self._formatted and line.startswith("(error) ") else line

    def _error(self, command: str, said: str) -> BackupError:
        return BackupError(f"store {self._store.name}, {self._store.where}: {command}: {said}{self.cure(said)}")

    def info(self, section: str) -> dict[str, str]:
        """``INFO section`` as names and values."""
        return dict(line.split(":", 1) for line in self.command(f"INFO {section}") if ":" in line)

    def config(self, name: str) -> str:
        """One setting of the server."""
        lines = self.command(f"CONFIG GET {name}")
        if len([line for line in lines if line]) < 2:
            raise BackupError(
                f"store {self._store.name}: CONFIG GET {name} gave nothing: the ACL user needs +config|get"
            )
        return lines[1]

    def cure(self, said: str) -> str:
        """What to do about an error, to be put behind it; empty where the server's words say all."""
        if "NOAUTH" in said or "WRONGPASS" in said:
            return " (set the store's password_file, and username where an ACL user is meant)"
        if "NOPERM" in said:
            return f" (the ACL user needs {self._needs})"
        return ""

    def close(self) -> None:
        """End the session."""
        if self._session:
            self._session.close()
            self._session = None
