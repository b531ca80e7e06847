"""Reads an RDB to its end by the image's own redis-check-rdb, in a throw-away container without network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional, Union

from ..catalog import Backup
from ..containers import MOUNT, Docker, SideContainer
from ..errors import ANOTHER, BackupError, Unsound
from ..process import Readable, Result
from .rdb import read_head

__all__ = ["CHECK", "check", "count", "count_of", "refusal", "told"]

# Of a format that it does not know, and of one of another name: Valkey's own begins with VALKEY since 9.
_NEWER = ("Can't handle RDB format version", "Wrong signature")
_VERSION = '"$(command -v redis-server || command -v valkey-server)" --version'
_END = re.compile(r"^\[offset ([0-9]{1,19})\] \\o/ RDB looks OK", re.MULTILINE)
_COUNT = re.compile(r"^\[info\] ([0-9]{1,19}) (keys read|expires|already expired|subexpires)", re.MULTILINE)
CHECK = 'c=$(command -v redis-check-rdb || command -v valkey-check-rdb) && exec "$c" "$1"'


def check(docker: Docker, image: str, backup_dir: Path, backup: Backup) -> dict[str, Any]:
    """Read an RDB to its end. Raises BackupError when it is damaged, or newer than the image's server."""
    found = count_of(docker, image, backup_dir, backup)
    after = backup.size - found.pop("end")
    if after:
        raise Unsound(
            f"{backup.artifact.name} has {after} bytes behind the end of its RDB: it is not what a server wrote: {ANOTHER}"
        )
    return {"program": "redis-check-rdb", **found}


def count_of(
    docker: Docker, image: str, backup_dir: Path, backup: Backup, *, memory: Optional[str] = None
) -> dict[str, int]:
    """What the check reads of a backup, as ``told`` says, with at most ``memory``: it holds a key's value whole.

    Raises BackupError with both versions when the backup is newer than the server.
    """
    name = backup.artifact.name
    try:
        if not backup.encrypted:
            return count(docker, image, backup_dir, backup.store, backup.artifact, name, memory=memory)
        with backup.stream(docker.deadline) as feed:
            return count(docker, image, backup_dir, backup.store, feed, name, memory=memory)
    except BackupError as error:
        if not any(sign in str(error) for sign in _NEWER):
            raise
    head = read_head(backup.head(docker.deadline), name)
    made = f"Valkey {head['valkey-ver']}" if "valkey-ver" in head else f"Redis {head.get('redis-ver')}"
    raise BackupError(
        f"store {backup.store}: {_version(docker, image, backup_dir, backup)} can't load this backup: it is of RDB version "
        f"{head['version']}, saved by {made}: restore it into a server of that version or a later one"
    )


def _version(docker: Docker, image: str, backup_dir: Path, backup: Backup) -> str:
    side = SideContainer(docker, image=image, backup_dir=str(backup_dir), store=backup.store)
    said = re.match(r"(\w+) server v=(\S+)", side.run(["sh", "-c", _VERSION]).out)
    return f"{said[1]} {said[2]}" if said else f"the server of {image}"


def count(
    docker: Docker,
    image: str,
    backup_dir: Path,
    store: str,
    rdb: Union[Path, Readable],
    name: str,
    *,
    memory: Optional[str] = None,
) -> dict[str, int]:
    """What the check reads of a file or a stream, which is called ``name``, as ``told`` says."""
    folder = rdb.parent if isinstance(rdb, Path) else None
    side = SideContainer(
        docker, image=image, backup_dir=str(backup_dir), store=store, folder=folder, read_only=True, memory=memory
    )
    if isinstance(rdb, Path):
        result = side.run(["sh", "-c", CHECK, "sh", f"{MOUNT}/{rdb.name}"])
    else:
        result = side.run(["sh", "-c", CHECK, "sh", "/dev/stdin"], feed=rdb)
    if result.killed and memory:
        raise BackupError(f"redis-check-rdb was killed on {name}: does it need more memory than {memory}?")
    if result.code:
        raise result.fault(f"redis-check-rdb refuses {name}: {refusal(result)}")
    return told(result.out)


def refusal(result: Result) -> str:
    """Why redis-check-rdb refuses a file: it says so on its output, before its counts."""
    found = re.search(r"RDB ERROR DETECTED ---\n(.*?)(?:\n\[info\]|\Z)", result.out, re.DOTALL)
    return "; ".join(found[1].splitlines()) if found else result.reason()


def told(out: str) -> dict[str, int]:
    """What redis-check-rdb found: keys (all, those that expire, those that already had, hashes of which fields expire), ``end``.

    ``end`` is the offset behind the checksum, the last byte that belongs to the RDB. Source: redis-check-rdb.c, which
    prints what it has read of the file with each message.
    """
    # The last ones: what the file says of itself is printed before them.
    *_, end = [None, *_END.finditer(out)]
    if not end:
        raise BackupError(f"redis-check-rdb does not say where the RDB ends: {out.strip()[-200:]}")
    found = {name: int(number) for number, name in _COUNT.findall(out, end.end())}
    return {
        "keys": found.get("keys read", 0),
        "expires": found.get("expires", 0),
        "already_expired": found.get("already expired", 0),
        "subexpires": found.get("subexpires", 0),  # Redis >= 7.4
        "end": int(end[1]),
    }
