"""Learns of an RDB that nobody wrote a manifest for what a manifest holds: reads it, and has a throw-away server load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..catalog import Backup
from ..containers import Docker
from ..errors import BackupError
from .check import count
from .rdb import read_head
from .scratch import Scratch

__all__ = ["learn"]

_HEAD = 64 * 1024


def learn(docker: Docker, image: str, store: str, path: Path, backup_dir: Path, *, memory: str) -> dict[str, Any]:
    """What the manifest tells of an RDB; ``pinned``: seconds since 1970, where the file tells.

    It is read to its end and loaded, without network. Raises BackupError where that fails.
    """
    with path.open("rb") as file:
        head = read_head(file.read(_HEAD), path.name)
    version = head.get("valkey-ver") or head.get("redis-ver")
    if not version:
        raise BackupError("it does not tell which server saved it: it is too old")
    keys, size = count(docker, image, backup_dir, store, path, path.name), path.stat().st_size
    after = size - keys.pop("end")
    if after:
        raise BackupError(f"it has {after} bytes behind the end of its RDB: it is not what a server saved")
    artifact: dict[str, Any] = {"format": "rdb", "compression": None, "rdb": head}
    backup = Backup(store, "", path, {"engine": "redis", "artifact": {**artifact, "size": size}})
    server = Scratch(docker, image, backup, backup_dir, memory=memory)
    try:
        server.open()
        server.facts(keys)  # raises where it has not what the file tells
    finally:
        server.close()
    return {
        "server_version": version,
        "artifact": artifact,
        "counts": keys,
        "pinned": float(head["ctime"]) if head.get("ctime", "").isdigit() else None,
        "roles": [],
    }
