"""Recovery points as the engine writes them, made without a database: real manifests with other ids and small artifacts."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Iterator

from .data import MIB
from .servers import ROOT

__all__ = ["BARE", "write_point", "write_points"]

_BLOCK = os.urandom(MIB)
_HOUR, _GLOBALS = 3600, 700  # seconds; bytes
# What listing and reading the manifests costs: one process, every name and every manifest.
BARE = (
    sys.executable,
    "-I",
    "-c",
    "import json, os, sys\n"
    "for store in os.scandir(sys.argv[1]):\n"
    "    if store.is_dir() and store.name[0] != '.':\n"
    "        for file in os.scandir(store):\n"
    "            if file.name.endswith('.json'):\n"
    "                with open(file, encoding='utf-8') as text:\n"
    "                    json.load(text)\n",
)


def _blocks(size: int) -> Iterator[bytes]:
    return (_BLOCK[: size - begin] for begin in range(0, size, MIB))


@lru_cache
def _digest(size: int) -> str:
    digest = hashlib.sha256()
    for block in _blocks(size):
        digest.update(block)
    return digest.hexdigest()


@lru_cache
def _manifest(store: str, size: int) -> str:
    """The text of a real manifest, told of artifacts of these sizes; ``ID`` stands for that of the point."""
    text = (ROOT / "benchmarks" / "manifests" / f"{store}.json").read_text(encoding="utf-8")
    manifest = json.loads(text.replace(json.loads(text)["point"]["id"], "ID"))
    manifest["artifact"].update(size=size, sha256=_digest(size))
    if "globals" in manifest:
        manifest["globals"].update(size=_GLOBALS, sha256=_digest(_GLOBALS))
    return json.dumps(manifest, indent=1, sort_keys=True)


def _write(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.writelines(_blocks(size))


def write_point(backups: Path, when: float, size: int = 1000) -> None:
    """A point of both stores, with ``size`` bytes of Postgres."""
    point = time.strftime("%Y%m%d-%H%M%S", time.gmtime(when))
    for store, suffix, length in (("postgres", ".dump", size), ("redis", ".rdb", 1000)):
        (backups / store).mkdir(parents=True, exist_ok=True)
        stem = f"{backups}/{store}/{store}-{point}"
        _write(Path(f"{stem}{suffix}"), length)
        if store == "postgres":
            _write(Path(f"{stem}.globals.sql"), _GLOBALS)
        Path(f"{stem}.json").write_text(_manifest(store, length).replace("ID", point), encoding="utf-8")


def write_points(backups: Path, count: int) -> None:
    """``count`` of them, one each hour until now."""
    now = time.time()
    for number in range(count):
        write_point(backups, now - _HOUR * (count - 1 - number))
