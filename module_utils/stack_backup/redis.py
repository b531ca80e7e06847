"""Redis and Valkey: pin by the fork of BGSAVE, stream by a copy of that file, check by redis-check-rdb."""

from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path, PurePosixPath
from typing import Any, Optional

from .artifact import Partial
from .containers import MOUNT, Container, Docker, SideContainer
from .errors import BackupError
from .process import Result, Session
from .rdb import read_head
from .stores import Store, host_secret

__all__ = ["Busy", "Source", "check"]

# The password goes by REDISCLI_AUTH inside the container only: from the file there, or from the first line of stdin.
_CLI = """c=$(command -v redis-cli || command -v valkey-cli) || { echo "no redis-cli in this container" >&2; exit 127; }
if [ -n "$1" ]; then REDISCLI_AUTH=$(cat -- "$1") || exit 1; else IFS= read -r REDISCLI_AUTH; fi
shift
if [ -n "$REDISCLI_AUTH" ]; then export REDISCLI_AUTH; else unset REDISCLI_AUTH; fi
exec "$c" -e --no-auth-warning "$@" """
_ERRORS = ("NOAUTH", "WRONGPASS", "NOPERM", "ERR ", "MISCONF", "LOADING", "MASTERDOWN")
_CHECK = 'c=$(command -v redis-check-rdb || command -v valkey-check-rdb) && exec "$c" "$1"'
_COPY = 'cp -- "$1" "$2" && chown "$3" "$2"'


class Busy(BackupError):
    """A save or a rewrite is in progress: wait for its end and pin again."""


class Source:
    """One server as the source of one backup: open, ready, pin, stream, describe, close."""

    def __init__(self, docker: Docker, store: Store, container: Container, backup_dir: Path, partial: Partial) -> None:
        self._docker, self._store, self._container = docker, store, container
        self._backup_dir, self._partial = backup_dir, partial
        self.pin_order = 0
        self.pinned_at = 0.0
        self.size = 0
        self.via = "side"
        self._session: Optional[Session] = None
        self._before: dict[str, str] = {}
        self._server: dict[str, str] = {}
        self._rdb = PurePosixPath()
        self._pin_second = 0
        self._head: dict[str, str] = {}
        self._keys: dict[str, int] = {}

    def open(self) -> None:
        """Connect, and see that a save can succeed. Raises BackupError with the server's own words."""
        store = self._store
        options = ["-p", str(store.port or 6379)]
        if store.username:
            options += ["--user", store.username]
        if store.tls:
            options += [
                "--tls",
                *(
                    arg
                    for name in ("cacert", "cert", "key")
                    if getattr(store, name)
                    for arg in (f"--{name}", getattr(store, name))
                ),
            ]
        argv = self._docker.exec_argv(
            self._container.id, ["sh", "-c", _CLI, "sh", store.password_file or "", *options], interactive=True
        )
        self._session = Session(argv, deadline=self._docker.deadline)
        if not store.password_file:
            self._session.send(f"{host_secret(store)}\n")
        self._server = self._info("server")
        self.size = int(self._info("memory").get("used_memory", "0"))
        folder, name = self._config("dir"), self._config("dbfilename")
        self._rdb = PurePosixPath(folder) / name
        self._can_save(folder)

    def _command(self, command: str, at_most: float = 30) -> list[str]:
        marker = secrets.token_hex(8)
        if self._session is None:
            raise BackupError("not connected")
        self._session.send(f"{command}\nPING {marker}\n")
        lines: list[str] = []
        while True:
            try:
                line = self._session.line(at_most)
            except BackupError as error:
                raise BackupError(f"store {self._store.name}, {self._store.where}: {command}: {error}") from None
            if line == marker:
                return lines
            if line.startswith(_ERRORS):
                if "in progress" in line or "AOF" in line:
                    raise Busy(f"store {self._store.name}: {line}")
                raise BackupError(f"store {self._store.name}, {self._store.where}: {command}: {line}{_cure(line)}")
            lines.append(line)

    def _info(self, section: str) -> dict[str, str]:
        lines = self._command(f"INFO {section}")
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def _config(self, name: str) -> str:
        lines = self._command(f"CONFIG GET {name}")
        if len([line for line in lines if line]) < 2:
            raise BackupError(
                f"store {self._store.name}: CONFIG GET {name} gave nothing: the ACL user needs +config|get"
            )
        return lines[1]

    def _can_save(self, folder: str) -> None:
        """A failed save makes a server with save points refuse writes (stop-writes-on-bgsave-error): look first."""
        result = self._docker.exec(self._container.id, ["sh", "-c", '[ -w "$1" ] && df -P -k "$1"', "sh", folder])
        if result.code:
            raise BackupError(
                f"store {self._store.name}: Redis can't save: {folder} in {self._container.name} is missing or read-only"
            )
        free = int(result.out.strip().splitlines()[-1].split()[3]) * 1024
        last = self._docker.exec(self._container.id, ["stat", "-c", "%s", str(self._rdb)])
        needed = int(last.out) if last.code == 0 else self.size // 2
        if free < needed:
            raise BackupError(
                f"store {self._store.name}: Redis can't save: {folder} has {free} bytes free, the last save took {needed}"
            )

    def ready(self) -> None:
        """Wait for the end of a save or rewrite in progress."""
        while True:
            state = self._info("persistence")
            if state.get("loading") == "1":
                raise BackupError(f"store {self._store.name}: the server is still loading its data: wait until it has")
            if state.get("rdb_bgsave_in_progress") == "0" and state.get("aof_rewrite_in_progress") == "0":
                self._before = state
                return
            self._docker.deadline.left()
            time.sleep(0.2)

    def pin(self) -> None:
        """The fork: BGSAVE has answered. Raises Busy when another save came between."""
        answer = self._command(
            "SAVE" if self._store.method == "save" else "BGSAVE", at_most=3600 if self._store.method == "save" else 30
        )
        self.pinned_at = time.time()
        self._pin_second = int(self._command("TIME")[0])
        if not any("started" in line or line == "OK" for line in answer):
            raise BackupError(f"store {self._store.name}: BGSAVE answered {' '.join(answer)!r}")

    def stream(self) -> None:
        """Wait for the save, copy its file, prove that it is whole and new."""
        pause = 0.01
        while True:
            state = self._info("persistence")
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
            log = self._docker.call("logs", "--tail", "5", self._container.id, check=False)
            raise BackupError(f"store {self._store.name}: the save failed; the server's log says: {log.reason()}")
        self._copy()
        self._head = read_head(self._partial.artifact)
        ctime = int(self._head.get("ctime", "0"))
        # The child notes the time after the fork. An automatic save may have replaced ours before the
        # copy began: then the file shows that later instant, and the manifest must say so.
        if ctime and abs(ctime - self._pin_second) > 2:
            if ctime < self._pin_second:
                raise BackupError(
                    f"store {self._store.name}: {self._rdb} is {self._pin_second - ctime} s older than the save: it is not this server's file"
                )
            self.pinned_at = float(ctime)
        self._keys = _check(
            self._docker, self._container.image_id, self._backup_dir, self._store.name, self._partial.artifact
        )

    def _copy(self) -> None:
        target = self._partial.artifact
        if any(mount != "/" and str(self._rdb).startswith(mount.rstrip("/") + "/") for mount in self._container.mounts):
            side = SideContainer(
                self._docker,
                image=self._container.image_id,
                backup_dir=str(self._backup_dir),
                store=self._store.name,
                folder=self._partial.folder,
                volumes_from=self._container.id,
                user="0:0",
                capabilities=("DAC_OVERRIDE", "CHOWN"),
            )
            owner = f"{os.getuid()}:{os.getgid()}"
            result = side.run(["sh", "-c", _COPY, "sh", str(self._rdb), f"{MOUNT}/{target.name}", owner])
            if not result.code:
                return
            if "No space left" in result.err:
                raise BackupError(f"store {self._store.name}: no space left in the backup folder ({result.reason()})")
        self.via = "cp"
        self._docker.call("cp", f"{self._container.id}:{self._rdb}", str(target), at_most=self._docker.deadline.left())

    def describe(self) -> dict[str, Any]:
        """What the manifest tells of this store."""
        return {
            "server_version": self._server.get("valkey_version") or self._server.get("redis_version"),
            "artifact": {"format": "rdb", "compression": None, "rdb": self._head},
            "pin": {"method": self._store.method},
            "counts": self._keys,
            "via": {"used": self.via, "reason": ""},
        }

    def close(self) -> None:
        """End the session."""
        if self._session:
            self._session.close()
            self._session = None


def check(docker: Docker, image: str, backup_dir: Path, store: str, artifact: Path) -> dict[str, Any]:
    """Read an RDB to its end in a throw-away container without network."""
    return {"program": "redis-check-rdb", **_check(docker, image, backup_dir, store, artifact)}


def _check(docker: Docker, image: str, backup_dir: Path, store: str, artifact: Path) -> dict[str, int]:
    side = SideContainer(
        docker, image=image, backup_dir=str(backup_dir), store=store, folder=artifact.parent, read_only=True
    )
    result: Result = side.run(["sh", "-c", _CHECK, "sh", f"{MOUNT}/{artifact.name}"])
    if result.code:
        raise BackupError(f"redis-check-rdb refuses {artifact.name}: {result.reason()}")
    found = {
        name: int(number)
        for number, name in re.findall(r"\[info\] (\d+) (keys read|expires|already expired)", result.out)
    }
    return {
        "keys": found.get("keys read", 0),
        "expires": found.get("expires", 0),
        "already_expired": found.get("already expired", 0),
    }


def _cure(line: str) -> str:
    if line.startswith(("NOAUTH", "WRONGPASS")):
        return " (set the store's password_file, and username where an ACL user is meant)"
    if line.startswith("NOPERM"):
        return " (the ACL user needs +ping +info +config|get +time +bgsave)"
    return ""
