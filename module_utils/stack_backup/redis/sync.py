"""An RDB by replication: the server's own redis-cli takes it as a replica would, with no file on the server's side."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import IO, Callable, Optional, Union

from ..errors import BackupError
from ..process import Result
from .connection import Connection

__all__ = ["MARK", "Sync", "cut_mark", "mark_length"]

_PAUSE = 0.002
MARK = 40  # CONFIG_RUN_ID_SIZE: the random hex digits by which a server tells the end of an RDB of unknown length


class Sync:
    """``redis-cli --rdb -`` into a file. The server forks up to repl-diskless-sync-delay (5 s) after it was asked."""

    def __init__(
        self,
        connection: Connection,
        save: Callable[[Callable[[IO[bytes]], Result]], Result],
        arrived: Callable[[], int],
        name: str,
    ) -> None:
        """``save`` opens the file, and calls what it is given with it; ``arrived`` tells the bytes that have come.

        ``name``: the store's, for messages.
        """
        self._connection, self._save, self._arrived, self._name = connection, save, arrived, name
        self._ended: Union[Result, BackupError, OSError, None] = None
        self._thread: Optional[threading.Thread] = None
        self.seen_by = ""
        self.within = 0.0  # seconds: the fork was no longer than this before the instant that ``pin`` gave

    def _run(self) -> None:
        try:
            self._ended = self._save(lambda file: self._connection.run("--rdb", "-", out=file))
        except (BackupError, OSError) as error:
            self._ended = error

    def pin(self) -> float:
        """Ask for the RDB and wait for the server's fork; its time. Raises BackupError when the server refuses."""
        forks = self._forks()
        forked: Callable[[], bool]
        if forks is None:
            self.seen_by, forked = "first bytes", lambda: self._arrived() > 0
        else:
            self.seen_by, forked = "total_forks", lambda: (self._forks() or 0) > forks
        before = time.time()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        while True:
            alive = self._thread.is_alive()
            asked = time.time()
            if forked():
                now = time.time()
                self.within = now - before
                return now
            if not alive:
                self.wait()
                raise BackupError(
                    f"store {self._name}: redis-cli --rdb ended before the server forked: another client may have reset its statistics: take the backup again"
                )
            before = asked
            time.sleep(_PAUSE)

    def _forks(self) -> Optional[int]:
        """The server's count of its forks; Redis < 6.2 has none."""
        count = self._connection.info("stats").get("total_forks")
        return None if count is None else int(count)

    def wait(self) -> None:
        """Wait for the end of the transfer. Raises BackupError, or the file's OSError."""
        if self._thread is None:
            raise BackupError("redis-cli --rdb was not started")
        self._thread.join()
        if not isinstance(self._ended, Result):
            raise self._ended or BackupError("redis-cli --rdb did not run")
        # Without REPLCONF the server takes the client for an old replica and saves to its disk: not what was asked for.
        if self._ended.code or "NOPERM" in self._ended.err:
            said = self._ended.reason()
            raise BackupError(f"store {self._name}: redis-cli --rdb failed: {said}{self._connection.cure(said)}")


def cut_mark(path: Path, end: int) -> None:
    """Cut the mark that follows an RDB which was sent while it was made; ``end`` is where the RDB itself ends.

    Raises BackupError when something else follows it. Source: replication.c, "$EOF:<40 bytes unguessable string>".
    """
    with path.open("r+b") as file:
        file.seek(end)
        if mark_length(file.read(MARK + 1), path.stat().st_size - end, path.name):
            file.truncate(end)
            os.fsync(file.fileno())


def mark_length(last: bytes, after: int, name: str) -> int:
    """How many of the ``last`` bytes are the mark, when ``after`` bytes follow the RDB: all or none.

    Raises BackupError when something else follows it.
    """
    if after and (after != MARK or len(last) != MARK or last.strip(b"0123456789abcdef")):
        raise BackupError(f"{name} has {after} bytes behind the end of its RDB that are no end mark")
    return after
