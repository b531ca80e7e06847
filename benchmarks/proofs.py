"""Reads what a way wrote to its end, with the program that would restore it: a fast way to write nothing is none."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

from .servers import Server

__all__ = ["prove", "size"]

_END = b"PostgreSQL database dump complete"


def size(path: Path) -> int:
    """Bytes of a file, or of all in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def prove(server: Server, path: Path) -> None:
    """Raise RuntimeError, or what the program raises, when ``path`` is no backup of ``server``."""
    out = f"/out/{path.name}"
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path) as archive:
            if not {"./PG_VERSION", "./global/pg_control"} <= set(archive.getnames()):
                raise RuntimeError(f"{path.name} is no whole data folder")
    elif path.name.endswith(".sql.gz"):
        tail = b""
        with gzip.open(path) as file:
            while block := file.read(1 << 20):
                tail = (tail + block)[-200:]
        if _END not in tail:
            raise RuntimeError(f"{path.name} ends before the dump does")
    elif path.suffix == ".rdb":
        server.beside(path.parent, f"redis-check-rdb {out}", "none")
    elif (path / "backup_manifest").exists():
        server.beside(path.parent, f"pg_verifybackup {out}", "none")
    else:
        server.beside(path.parent, f"pg_restore -f /dev/null {out}", "none")
