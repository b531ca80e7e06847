"""Reads an archive in a throw-away container without network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional, Sequence, Union

from ..catalog import Backup
from ..containers import MOUNT, Docker, SideContainer
from ..errors import ANOTHER, BackupError
from ..process import Readable, Result

__all__ = ["check", "newer", "offline"]

_READ = 'pg_restore --version && exec pg_restore --file=/dev/null "$@"'


def newer(backup: Backup, ours: int) -> str:
    """Why a server of the major version ``ours`` does not take a backup; empty where it does."""
    theirs = int(backup.manifest["server_version"]) // 10000
    if ours >= theirs:
        return ""
    return (
        f"store {backup.store}: the backup is of Postgres {theirs}, this server is {ours}: "
        f"restore it into Postgres {theirs} or later"
    )


def check(docker: Docker, image: str, backup_dir: Path, backup: Backup) -> dict[str, Any]:
    """Read an archive to its end. Check its digest first. Raises BackupError, also where the image is too old for it.

    An older pg_restore may read an archive that its server does not take.
    """

    def read(feed: Optional[Readable]) -> None:
        archive = backup.artifact if feed is None else feed
        result = offline(docker, image, backup_dir, backup.store, archive, ["sh", "-c", _READ, "sh"])
        version = re.match(r"pg_restore \(PostgreSQL\) (\d+)", result.out)
        refused = newer(backup, int(version[1])) if version else ""
        if refused:
            raise BackupError(refused)
        if result.code:
            raise result.fault(f"pg_restore can't read {backup.artifact.name} to its end: {result.reason()}: {ANOTHER}")

    if backup.encrypted:
        with backup.stream(docker.deadline) as feed:
            read(feed)
    else:
        read(None)
    return {"program": "pg_restore"}


def offline(
    docker: Docker, image: str, backup_dir: Path, store: str, archive: Union[Path, Readable], program: Sequence[str]
) -> Result:
    """Run a program of the image on an archive: a file, which is its last argument, or its standard input."""
    file = archive if isinstance(archive, Path) else None
    side = SideContainer(
        docker,
        image=image,
        backup_dir=str(backup_dir),
        store=store,
        folder=file and file.parent,
        read_only=True,
    )
    if isinstance(archive, Path):
        return side.run([*program, f"{MOUNT}/{archive.name}"])
    return side.run(program, feed=archive)
