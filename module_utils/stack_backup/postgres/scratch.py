"""A throw-away server of the service's own image; the drill restores a backup into it, and asks it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from .. import room
from ..catalog import Backup
from ..containers import MORTAL, Docker, SideContainer
from ..errors import BackupError
from ..process import Session
from ..smoke import smoke
from ..stores import Store
from .connection import Connection
from .fill import Fill

__all__ = ["drill", "scratch"]

_NAME = "drill"
_START_SECONDS = 120.0
_WAL = 1024 * 1024 * 1024  # bytes, max_wal_size by default
# The first superuser is not to be one that the backup brings: `CREATE ROLE postgres` must work.
_SUPERUSER = "stack_backup_drill"
# What the official images' entrypoint understands, and their temporary server does not listen on TCP: once
# 127.0.0.1 answers, the server is the real one.
_ENVIRONMENT = {"POSTGRES_HOST_AUTH_METHOD": "trust", "POSTGRES_USER": _SUPERUSER, "POSTGRES_DB": "postgres"}
# Nothing of it outlives the drill, so it need not survive a crash; and a container has 64 MB of /dev/shm.
_SETTINGS = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "archive_mode=off",
    "restart_after_crash=off",
    "dynamic_shared_memory_type=mmap",
)


def drill(
    docker: Docker,
    image: str,
    backup: Backup,
    backup_dir: Path,
    *,
    memory: str,
    queries: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Restore ``backup`` into a server of ``image`` without network and with at most ``memory`` (as docker takes it).

    Check the backup's digest first. Its report has seconds, counts and the answers to the smoke queries.
    Raises BackupError when anything of it fails; nothing of the server is left either way.
    """
    began = time.monotonic()
    size = int(backup.manifest["database"]["size"])
    with scratch(
        docker, image, backup.store, backup.artifact.parent, backup_dir, database=_NAME, size=size, memory=memory
    ) as connection:
        started = time.monotonic()
        fill = Fill(connection, backup, _NAME, jobs=Store.jobs, tablespaces=False)
        fill.check(fill.server())
        roles = fill.make_roles()
        fill.create()
        fill.load()
        proven = fill.prove()
        filled = time.monotonic()
        answers = smoke(backup.store, queries, lambda sql: connection.query(_NAME, sql))
        ended = time.monotonic()
    seconds = {"start": started - began, **fill.seconds, "smoke": ended - filled, "total": ended - began}
    return {
        "server_version": connection.version,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "roles": roles,
        "smoke": answers,
        "warnings": [text for text in (connection.outdated,) if text],
        **proven,
    }


@contextmanager
def scratch(
    docker: Docker, image: str, store: str, folder: Path, backup_dir: Path, *, database: str, size: int, memory: str
) -> Iterator[Connection]:
    """A throw-away server of ``image`` without network that sees ``folder``; logged in beside its ``database``, not there yet.

    ``size``: bytes that the database will have, about. Nothing of it is left, whatever happens.
    """
    room.require(docker, size * 6 // 5 + min(_WAL, size * 3 // 2))
    side = SideContainer(
        docker,
        image=image,
        backup_dir=str(backup_dir),
        store=store,
        folder=folder,
        read_only=True,
        user="0:0",  # the entrypoint's own: it makes the data folder the server's, and steps down
        capabilities=("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"),
        writable=True,
        memory=memory,
        environment=_ENVIRONMENT,
    )
    session = side.session(["sh", "-c", MORTAL, "sh", *_command(docker, image)])
    try:
        given = Store(name=store, engine="postgres", container=side.name, database=database)
        connection = _connect(docker, given, folder, backup_dir, session)
        with room.watched(docker, side):
            yield connection
        connection.close()
    finally:
        side.remove()
        session.close()


def _command(docker: Docker, image: str) -> list[str]:
    """The image's own way to start a server, with settings for one that is thrown away."""
    config = docker.told("image", "inspect", "--format", "{{json .Config}}", image)
    if not isinstance(config, dict) or not config.get("Entrypoint"):
        raise BackupError(f"image {image} has no entrypoint that makes a database: a drill needs one like postgres:17")
    settings = [arg for setting in _SETTINGS for arg in ("-c", setting)]
    return [*config["Entrypoint"], *(config.get("Cmd") or ["postgres"]), *settings]


def _connect(docker: Docker, store: Store, folder: Path, backup_dir: Path, session: Session) -> Connection:
    """Log in to the server as soon as it answers."""
    end = time.monotonic() + _START_SECONDS
    while True:
        found = docker.inspect([store.container or ""])
        try:
            if not found:
                raise BackupError(f"container {store.container} is not there yet")
            connection = Connection(
                docker,
                store,
                found[0],
                backup_dir=backup_dir,
                folder=folder,
                read_only=True,
                inside=True,
            )
            connection.open(maintenance=True)
        except BackupError as error:
            if session.ended():
                result = session.result()
                fatal = [line for line in result.err.splitlines() if "FATAL:" in line]
                raise BackupError(f"the drill's server did not start: {(fatal or [result.reason()])[0]}") from None
            if time.monotonic() > end:
                raise BackupError(f"the drill's server does not answer after {_START_SECONDS:g} s: {error}") from None
            time.sleep(0.1)
        else:
            return connection
