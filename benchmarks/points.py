"""Recovery points as the engine writes them, made without a database: real manifests with other ids and small artifacts."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from .data import MIB
from .servers import ROOT

__all__ = ["BARE", "write_point", "write_points"]

_MANIFESTS = {
    name: json.loads((ROOT / "benchmarks" / "manifests" / f"{name}.json").read_text(encoding="utf-8"))
    for name in ("postgres", "redis")
}
_HOUR = 3600
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


def _write(path: Path, size: int) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for begin in range(0, size, MIB):
            block = os.urandom(min(MIB, size - begin))
            digest.update(block)
            file.write(block)
    return {"name": path.name, "size": size, "sha256": digest.hexdigest()}


def write_point(backups: Path, when: float, size: int = 1000) -> None:
    """A point of both stores, with ``size`` bytes of Postgres."""
    point = time.strftime("%Y%m%d-%H%M%S", time.gmtime(when))
    for store, suffix, length in (("postgres", ".dump", size), ("redis", ".rdb", 1000)):
        folder = backups / store
        folder.mkdir(parents=True, exist_ok=True)
        stem, manifest = f"{store}-{point}", copy.deepcopy(_MANIFESTS[store])
        manifest["artifact"].update(_write(folder / f"{stem}{suffix}", length))
        if "globals" in manifest:
            manifest["globals"].update(_write(folder / f"{stem}.globals.sql", 700))
        manifest["point"]["id"] = point
        manifest["pin"]["at"] = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(when))
        (folder / f"{stem}.json").write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")


def write_points(backups: Path, count: int) -> None:
    """``count`` of them, one each hour until now."""
    now = time.time()
    for number in range(count):
        write_point(backups, now - _HOUR * (count - 1 - number))
