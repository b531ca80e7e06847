"""A backup loaded by a throw-away server of the service's own image, without network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from .. import room
from ..catalog import Backup
from ..containers import MORTAL, MOUNT, Docker, SideContainer
from ..errors import BackupError
from ..process import Session
from ..smoke import smoke
from ..stores import Store
from .check import count_of
from .connection import Connection
from .facts import Facts, collect, summary
from .layout import Layout

__all__ = ["Scratch", "drill"]

_PAUSE = 0.05
_DATABASES = 10_000  # what a drill allows for: a server refuses a file with more than it is set up for
# The file is for root alone and the server steps down to its own user: so it gets a copy. The image's own entrypoint
# starts it (it loads the modules that the image brings); without one, the server's program does.
_PREPARE = """set -eu
rdb=$1 size=$2 target=$3 manifest=$4 line=$5; shift 5
cd /data
case $target in */*) mkdir "${target%/*}" ;; esac
if [ "$rdb" = - ]; then head -c "$size" >"$target"; else cp -- "$rdb" "$target"; fi
if [ -n "$manifest" ]; then printf '%s\\n' "$line" >"$manifest"; fi
chmod -R a+rwX .
case $1 in --*) set -- "$(command -v redis-server || command -v valkey-server)" "$@" ;; esac
"""


class Scratch:
    """One throw-away server that has loaded one RDB. ``close`` removes it with its volume, whatever happened."""

    def __init__(
        self,
        docker: Docker,
        image: str,
        backup: Backup,
        backup_dir: Path,
        *,
        memory: str,
        layout: Optional[Layout] = None,
        databases: int = _DATABASES,
    ) -> None:
        """``memory`` as docker takes it; ``layout``: the files that it is to load, dump.rdb by default."""
        self._docker, self._image, self._backup = docker, image, backup
        self._layout = layout or Layout(aof=False, multipart=False)
        self._databases, self._memory = databases, memory
        self._side = SideContainer(
            docker,
            image=image,
            backup_dir=str(backup_dir),
            store=backup.store,
            folder=backup.artifact.parent,
            read_only=True,
            user="0:0",
            # Redis's own image from 8 on gives its capabilities up for good (setpriv --bounding-set), which needs SETPCAP.
            capabilities=("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETPCAP", "SETUID"),
            memory=memory,
            data="/data",
        )
        self._session: Optional[Session] = None
        self._store = Store(name=backup.store, engine="redis", container=self._side.name)
        self._raw: Optional[Connection] = None

    def open(self) -> None:
        """Start it and wait until it has loaded. Raises BackupError with the server's own words when it can't."""
        layout = self._layout
        backup = self._backup
        rdb = "-" if backup.encrypted else f"{MOUNT}/{backup.artifact.name}"
        files = [rdb, str(backup.size), layout.rdb, layout.manifest, layout.manifest_line]
        options = ["--dir", "/data", "--save", "", "--databases", str(self._databases), *layout.options()]
        entrypoint = self._docker.told("image", "inspect", "--format", "{{json .Config.Entrypoint}}", self._image)
        program = ["sh", "-c", _PREPARE + MORTAL, "sh", *files, *(entrypoint or []), *options]
        self._session = Session(self._side.argv(program), deadline=self._docker.deadline)
        if not backup.encrypted:
            self._wait(self._session)
            return
        # As many bytes of standard input as the RDB has are the RDB, decrypted; from then on it is the lifeline.
        with backup.stream(self._docker.deadline) as plain:
            feeder = self._session.feed(plain)
            self._wait(self._session)
            feeder.join()

    def _wait(self, session: Session) -> None:
        while True:
            try:
                self._raw = self._connect(formatted=False)
                return
            except BackupError as error:
                if session.ended():
                    said = session.reason()
                    if said.endswith("Killed") or "status 137" in said:
                        said += f" (does it need more memory than {self._memory}?)"
                    raise session.result().fault(
                        f"store {self._backup.store}: a server of {self._image} can't load "
                        f"{self._backup.artifact.name}: {said}"
                    ) from None
                if "NOAUTH" in str(error):
                    raise
            self._docker.deadline.left()
            time.sleep(_PAUSE)

    def _connect(self, *, formatted: bool) -> Connection:
        found = self._docker.inspect([self._side.name])
        if not found:
            raise BackupError(f"container {self._side.name} is not there yet")
        connection = Connection(self._docker, self._store, found[0], needs="", formatted=formatted)
        connection.open()
        return connection

    def facts(self, file: dict[str, int]) -> Facts:
        """What it loaded."""
        connection = self._connect(formatted=True)
        try:
            return collect(connection, file)
        finally:
            connection.close()

    def query(self, command: str) -> str:
        """The answer to one command, as redis-cli prints it."""
        if self._raw is None:
            raise BackupError(f"store {self._backup.store}: the throw-away server is not there any more")
        return "\n".join(self._raw.command(command, at_most=300)).strip("\n")

    def close(self) -> None:
        """Remove it."""
        if self._raw:
            self._raw.close()
            self._raw = None
        if self._session:
            self._side.remove()
            self._session.close()
            self._session = None


def drill(
    docker: Docker,
    image: str,
    backup: Backup,
    backup_dir: Path,
    *,
    memory: str,
    queries: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Load ``backup`` in a server of ``image`` without network and with at most ``memory`` (as docker takes it).

    Check the backup's digest first. Its report has seconds, counts and the answers to the smoke queries.
    Raises BackupError when anything of it fails; nothing of the server is left either way.
    """
    began = time.monotonic()
    room.require(docker, backup.size)
    file = count_of(docker, image, backup_dir, backup, memory=memory)
    checked = time.monotonic()
    scratch = Scratch(docker, image, backup, backup_dir, memory=memory)
    try:
        scratch.open()
        loaded = time.monotonic()
        counts = summary(scratch.facts(file))
        proven = time.monotonic()
        answers = smoke(backup.store, queries, scratch.query)
        ended = time.monotonic()
    finally:
        scratch.close()
    seconds = {
        "check": checked - began,
        "load": loaded - checked,
        "prove": proven - loaded,
        "smoke": ended - proven,
        "total": ended - began,
    }
    return {"seconds": {name: round(value, 3) for name, value in seconds.items()}, "counts": counts, "smoke": answers}
