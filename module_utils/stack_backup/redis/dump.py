"""One server as the source of a backup: pinned by a fork of it, streamed by a copy of the file that it saves or sends."""

from __future__ import annotations

import os
import time
from pathlib import Path, PurePosixPath
from typing import IO, Any, Callable, Optional, Union

from ..age import Sealing
from ..artifact import Partial
from ..containers import LIFELINE, MOUNT, Container, Docker, SideContainer
from ..errors import BackupError
from ..log import complaint
from ..process import Readable, Result, Session, run
from ..stores import Store
from .check import CHECK, count, refusal, told
from .connection import Connection
from .rdb import number, read_head
from .sync import MARK, Sync, cut_mark, mark_length

__all__ = ["Source"]

_NEEDS = {
    "bgsave": "+ping +info +time +config|get +bgsave",
    "save": "+ping +info +time +config|get +save",
    "stream": "+ping +info +time +sync +replconf",
}
_NOT_COPIED = 90
_WAIT = f"read -r go || exit 1; {LIFELINE}"
_COPIED = "copied"
# The check takes longer than the copy: it reads the same open file from the start, which a later save can't replace, and
# the copy is compared with that. What it says waits in a file without a name.
_COPY = (
    f'exec 4<"$2" 5>"$1.said" && rm -- "$1.said" || exit {_NOT_COPIED}; '
    f"(set -- /proc/self/fd/4; {CHECK}) >&5 & check=$!; "
    f'cp /proc/self/fd/4 "$1" && chown "$3" "$1" && cmp -s /proc/self/fd/4 "$1" || exit {_NOT_COPIED}; '
    f"echo {_COPIED}; s=0; wait $check || s=$?; cat /proc/self/fd/5; exit $s"
)
_POUR = 'exec cat -- "$2" >"$1"'
_HEAD = 64 * 1024
_ROOM = '[ -w "$1" ] || exit 1; df -P -k "$1" && stat -c %s -- "$2" 2>/dev/null || :'


class Source:
    """One server as the source of one backup: open, ready, pin, stream, prove, describe, close."""

    def __init__(self, docker: Docker, store: Store, container: Container, backup_dir: Path, partial: Partial) -> None:
        self._docker, self._store, self._container = docker, store, container
        self._backup_dir, self._partial = backup_dir, partial
        self.pin_order = 0
        self.pinned_at = 0.0
        self.size = 0
        self.via = "exec" if store.method == "stream" else "side"
        self._connection = Connection(docker, store, container, needs=_NEEDS[store.method])
        self._sync: Optional[Sync] = None
        self._sealing: Optional[Sealing] = None
        self._before: dict[str, str] = {}
        self._server: dict[str, str] = {}
        self._rdb = PurePosixPath()
        self._pin_second = 0
        self._head: dict[str, str] = {}
        self._keys: dict[str, int] = {}
        self._copier: Optional[Session] = None  # waits for a word to copy the file, and reads it to its end

    def open(self) -> None:
        """Connect, and see that a save can succeed. Raises BackupError with the server's own words."""
        self._connection.open()
        self._server = self._connection.info("server")
        self.size = int(self._connection.info("memory").get("used_memory", "0"))
        if self._store.method == "stream":
            return
        folder, name = self._connection.config("dir"), self._connection.config("dbfilename")
        self._rdb = PurePosixPath(folder) / name
        self._can_save(folder)

    def _can_save(self, folder: str) -> None:
        """A failed save makes a server with save points refuse writes (stop-writes-on-bgsave-error): look first."""
        result = self._docker.exec(self._container.id, ["sh", "-c", _ROOM, "sh", folder, str(self._rdb)])
        if result.code:
            raise BackupError(
                f"store {self._store.name}: Redis can't save: {folder} in {self._container.name} is missing or "
                "read-only: mend it, or set the store's method to stream"
            )
        lines = result.out.strip().splitlines()
        free = int(lines[1].split()[3]) * 1024
        needed = int(lines[2]) if len(lines) > 2 else self.size // 2
        if free < needed:
            raise BackupError(
                f"store {self._store.name}: Redis can't save: {folder} has {free} bytes free, the last save took "
                f"{needed}: free some, or set the store's method to stream"
            )

    def ready(self) -> None:
        """Wait for the end of a save or rewrite in progress."""
        while True:
            state = self._connection.info("persistence")
            if state.get("loading") == "1":
                raise BackupError(f"store {self._store.name}: the server is still loading its data: wait until it has")
            if state.get("rdb_bgsave_in_progress") == "0" and state.get("aof_rewrite_in_progress") == "0":
                self._before = state
                return
            self._docker.deadline.left()
            time.sleep(0.2)

    def pin(self) -> None:
        """The fork: BGSAVE has answered, or the sync has begun. Raises Busy when another save came between."""
        if self._store.method == "stream":
            self._sync = self._ask_for_sync()
            try:
                self.pinned_at = self._sync.pin()
            except OSError as error:
                raise self._partial.explain(error) from None
            self._pin_second = self._second()
            return
        blocking = self._store.method == "save"
        answer = self._connection.command("SAVE" if blocking else "BGSAVE", at_most=3600 if blocking else 30)
        self.pinned_at = time.time()
        self._pin_second = self._second()
        if not any("started" in line or line == "OK" for line in answer):
            raise self._save_failed()

    def _save_failed(self) -> BackupError:
        return BackupError(
            f"store {self._store.name}: the save failed, and a server with save points may refuse writes until one "
            f"succeeds; its log says: {complaint(self._docker, self._container.id, self._pin_second)}"
        )

    def _second(self) -> int:
        return int(self._connection.command("TIME")[0])

    def stream(self) -> None:
        """Wait for the save or the transfer, see that the file is new."""
        if self._sync:
            try:
                self._sync.wait()
                if not self._sealing:
                    self._keys = self._count(self._partial.artifact)
                    cut_mark(self._partial.artifact, self._keys["end"])
            except OSError as error:
                raise self._partial.explain(error) from None
        else:
            if not self._partial.recipients and self._mounted():
                self._copier = self._open_copier()  # starts while the server saves
            self._wait_for_save()
            if self._partial.recipients:
                self._seal()
            else:
                self._copy()
        if self._sealing:
            self._keys = self._sealing.seen
        self._head = read_head(self._first_bytes(), self._partial.artifact.name)
        ctime = number(self._head, "ctime")
        # The child notes the time after the fork. An automatic save may have replaced ours before the
        # copy began: then the file shows that later instant, and the manifest must say so.
        if ctime and abs(ctime - self._pin_second) > 2:
            if ctime < self._pin_second:
                raise BackupError(
                    f"store {self._store.name}: {self._rdb} is {self._pin_second - ctime} s older than the save: it is not this server's file"
                )
            self.pinned_at = float(ctime)
            if self._sync:
                self._sync.seen_by, self._sync.within = "ctime", 1.0

    def _wait_for_save(self) -> None:
        pause = 0.01
        while True:
            state = self._connection.info("persistence")
            if state.get("rdb_bgsave_in_progress") == "0":
                break
            time.sleep(pause)
            pause = min(0.25, pause * 1.5)
        counter = "rdb_saves" if "rdb_saves" in state else "rdb_last_save_time"
        new = (
            int(state.get(counter, "0")) > int(self._before.get(counter, "0"))
            or int(state["rdb_last_save_time"]) >= self._pin_second
        )
        if state.get("rdb_last_bgsave_status") != "ok" or not new:
            raise self._save_failed()

    def _first_bytes(self) -> bytes:
        if self._sealing:
            return self._sealing.head
        with self._partial.artifact.open("rb") as file:
            return file.read(_HEAD)

    def _ask_for_sync(self) -> Sync:
        target = self._partial.artifact
        Fill = Callable[[IO[bytes]], Result]
        if self._partial.recipients:
            name = target.name
            sealing = self._new_sealing(
                hold=MARK, cut=lambda last, size, seen: mark_length(last, size - seen["end"], name)
            )

            def save(fill: Fill) -> Result:
                return sealing.run(lambda _pipe, file: fill(file))

            return Sync(self._connection, save, lambda: sealing.arrived, self._store.name)

        def save_plain(fill: Fill) -> Result:
            with target.open("wb") as file:
                return fill(file)

        return Sync(
            self._connection,
            save_plain,
            lambda: target.stat().st_size if target.exists() else 0,
            self._store.name,
        )

    def _new_sealing(self, **more: Any) -> Sealing:
        """The RDB on its way to disk encrypted, read to its end by redis-check-rdb on the way."""
        self._sealing = self._partial.sealing(
            self._partial.artifact, self._docker.deadline, witness=self._count, **more
        )
        return self._sealing

    def _mounted(self) -> bool:
        """Whether the file is in a volume of the server's."""
        path = str(self._rdb)
        return any(mount != "/" and path.startswith(mount.rstrip("/") + "/") for mount in self._container.mounts)

    def _beside(self) -> SideContainer:
        """A throw-away container that sees the server's volumes and the partial folder."""
        return SideContainer(
            self._docker,
            image=self._container.image_id,
            backup_dir=str(self._backup_dir),
            store=self._store.name,
            folder=self._partial.folder,
            volumes_from=self._container.id,
            user="0:0",
            capabilities=("DAC_OVERRIDE", "CHOWN"),
        )

    def _seal(self) -> None:
        """Send the file through age: from a throw-away container where the volume can be mounted, else from its own."""
        result: Optional[Result] = None
        if self._mounted():
            result = self._new_sealing(cut=self._whole).run(
                lambda pipe, _file: self._beside().run(
                    ["sh", "-c", _POUR, "sh", f"{MOUNT}/{pipe.name}", str(self._rdb)]
                )
            )
        if result is None or result.code:
            self.via = "exec"
            program = ["sh", "-c", LIFELINE, "sh", "cat", "--", str(self._rdb)]
            argv = self._docker.exec_argv(self._container.id, program, interactive=True)
            result = self._new_sealing(cut=self._whole).run(
                lambda _pipe, file: run(argv, deadline=self._docker.deadline, hold_stdin=True, out=file)
            )
        if result.code:
            raise BackupError(
                f"store {self._store.name}: {self._rdb} can't be read in {self._container.name}: {result.reason()}: "
                "mend its mode, or set the store's method to stream"
            )

    def _open_copier(self) -> Session:
        copy = [_COPY, "sh", f"{MOUNT}/{self._partial.artifact.name}", str(self._rdb), f"{os.getuid()}:{os.getgid()}"]
        return self._beside().session(["sh", "-c", _WAIT, "sh", "sh", "-c", *copy])

    def _copy(self) -> None:
        """Copy the file: by the throw-away container, or through the Docker engine."""
        target = self._partial.artifact
        if self._copier:
            self._copier.send("go\n")
            if self._copier.line_or_end() == _COPIED:
                return
            result = self._copier.rest()
            if "No space left" in result.err:
                raise BackupError(f"store {self._store.name}: no space left in the backup folder ({result.reason()})")
            self._copier.close()
            self._copier = None
        self.via = "cp"
        left = self._docker.deadline.left()
        result = self._docker.call("cp", f"{self._container.id}:{self._rdb}", str(target), check=False, at_most=left)
        if result.code:
            raise BackupError(
                f"store {self._store.name}: {self._rdb} can't be copied out of {self._container.name} (a tmpfs "
                f"can't be): set the store's method to stream ({result.reason()})"
            )
        self._keys = self._count(target)
        self._whole(b"", target.stat().st_size, self._keys)

    def prove(self) -> None:
        """Prove that the copy reads to its end, where that was not done on the way."""
        if self._copier:
            result = self._copier.rest()
            if result.code:
                raise BackupError(f"store {self._store.name}: redis-check-rdb refuses {self._rdb}: {refusal(result)}")
            self._keys = told(result.out)
            self._whole(b"", self._partial.artifact.stat().st_size, self._keys)
        self._keys.pop("end", None)

    def _whole(self, _last: bytes, size: int, keys: dict[str, int]) -> int:
        """A saved file ends with its RDB; nothing is to be cut."""
        after = size - keys["end"]
        if after:
            raise BackupError(
                f"store {self._store.name}: {self._rdb} has {after} bytes behind the end of its RDB: another program writes there"
            )
        return 0

    def _count(self, rdb: Union[Path, Readable]) -> dict[str, int]:
        name = self._partial.artifact.name
        return count(self._docker, self._container.image_id, self._backup_dir, self._store.name, rdb, name)

    @property
    def warnings(self) -> list[str]:
        """What a person should know, though the backup is good."""
        return []

    def describe(self) -> dict[str, Any]:
        """What the manifest tells of this store."""
        pin: dict[str, Any] = {"method": self._store.method}
        if self._sync:
            pin.update(fork_seen_by=self._sync.seen_by, within_ms=round(self._sync.within * 1000, 3))
        return {
            "server_version": self._server.get("valkey_version") or self._server.get("redis_version"),
            "artifact": {"format": "rdb", "compression": None, "rdb": self._head},
            "pin": pin,
            "counts": self._keys,
            "via": {"used": self.via, "reason": ""},
        }

    def close(self) -> None:
        """End the sessions."""
        self._connection.close()
        if self._copier:
            self._copier.close()
