"""Reads a bounded number of backups' bytes at each check and compares digests: in time all of them, new ones first."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from ..artifact import digest
from ..catalog import Catalog
from ..errors import BackupError

__all__ = ["sample"]


def sample(found: Catalog, memory: dict[str, Any], budget: int, now: float) -> None:
    """Read about ``budget`` bytes; ``memory`` holds ``digests`` (by path) and ``credit``, and is changed.

    A digest can't be taken in parts: a file larger than the budget is read when the checks that found no time
    for it have saved up its size. So the budget is kept on the average, and no file is left out.
    """
    files = {
        str(path): (backup.point, expected)
        for backups in found.points.values()
        for backup in backups.values()
        for path, expected in backup.files().items()
    }
    known: dict[str, dict[str, Any]] = {
        path: entry
        for path, entry in memory.get("digests", {}).items()
        if path in files and entry.get("expected") == files[path][1]["sha256"]
    }
    memory["digests"] = known
    credit = int(memory.get("credit", 0)) + budget
    new = sorted((path for path in files if path not in known), key=lambda path: (files[path][0], path), reverse=True)
    old = sorted(known, key=lambda path: (known[path]["at"], path))
    for path in [*new, *old]:
        size, sha = int(files[path][1]["size"]), files[path][1]["sha256"]
        if size > credit:
            memory["credit"] = credit
            return
        credit -= size
        error = _wrong(Path(path), sha)
        if error is not None:
            known[path] = {"at": now, "expected": sha, "error": error}
    memory["credit"] = 0  # all was read: nothing to save up for


def _wrong(path: Path, sha: str) -> Optional[str]:
    """What is wrong with a file, nothing, or None where it is gone (pruned meanwhile; else the catalog tells)."""
    try:
        actual = digest(path)["sha256"]
    except FileNotFoundError:
        return None
    except (OSError, BackupError) as error:
        return f"{path} can't be read: {error}"
    return "" if actual == sha else f"{path} is not what was written: its sha256 is {actual}, the manifest says {sha}"
