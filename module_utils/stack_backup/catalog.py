"""Reads what is under a backup folder: recovery points, and what is wrong there. Changes nothing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from .artifact import SUFFIX, check_backup_dir
from .errors import BackupError
from .stores import ID_PATTERN

__all__ = ["FORMAT", "Backup", "Catalog", "read"]

FORMAT = 1
_FILE = re.compile(rf"(?P<store>.+)-(?P<point>{ID_PATTERN.pattern})(?P<rest>\..+)")


@dataclass(frozen=True)
class Backup:
    """One artifact with its manifest, both where they belong."""

    store: str
    point: str
    artifact: Path
    manifest: dict[str, Any]

    def files(self) -> dict[Path, dict[str, Any]]:
        """Every file of the backup with the digest that the manifest gives it."""
        found = {self.artifact: self.manifest["artifact"]}
        if self.manifest.get("globals"):
            found[self.artifact.parent / f"{self.store}-{self.point}.globals.sql"] = self.manifest["globals"]
        return found

    def report(self) -> dict[str, Any]:
        """The backup in a person's terms."""
        artifact = self.manifest["artifact"]
        return {
            "store": self.store,
            "engine": self.manifest["engine"],
            "file": str(self.artifact),
            "size": artifact["size"],
            "sha256": artifact["sha256"],
            "pinned_at": self.manifest["pin"]["at"],
            "seconds": self.manifest["seconds"]["total"],
        }


@dataclass
class Catalog:
    """Backups by recovery point, oldest first, and problems: ``{path, problem, message}``."""

    points: dict[str, dict[str, Backup]] = field(default_factory=dict)
    problems: list[dict[str, str]] = field(default_factory=list)

    def complete(self, point: str) -> bool:
        """Whether the point has every store that it was taken of."""
        backups = self.points[point]
        asked = {name for backup in backups.values() for name in backup.manifest["point"]["stores"]}
        return asked == set(backups)

    def choose(self, point: str) -> str:
        """``latest`` is the newest complete point; an id is itself. Raises BackupError."""
        if point == "latest":
            whole = [name for name in self.points if self.complete(name)]
            if not whole:
                raise BackupError("there is no complete recovery point yet: run playbooks/backup.yml")
            return whole[-1]
        if point not in self.points:
            raise BackupError(
                f"there is no recovery point {point}: newest are {', '.join(list(self.points)[-3:]) or 'none'}"
            )
        return point


def _problem(path: Path, problem: str, message: str) -> dict[str, str]:
    return {"path": str(path), "problem": problem, "message": message}


def _load(path: Path, store: str, point: str, stack: Optional[str]) -> Any:
    """A Backup, or the problem that its manifest has."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        engine, artifact = manifest["engine"], manifest["artifact"]
        described = (manifest["store"], manifest["point"]["id"], artifact["name"])
        size, sha = artifact["size"], artifact["sha256"]
        stores, of_stack, made = manifest["point"]["stores"], manifest["stack"], manifest["format"]
        if (
            not isinstance(size, int)
            or not isinstance(sha, str)
            or not isinstance(stores, list)
            or not isinstance(manifest["pin"]["at"], str)
        ):
            raise TypeError("a field is of the wrong kind")
        float(manifest["seconds"]["total"])
        suffix = SUFFIX[engine]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return _problem(path, "damaged", f"the manifest can't be read: {type(error).__name__} {error}")
    if made != FORMAT:
        return _problem(path, "foreign", f"the manifest is of format {made}, this program reads {FORMAT}")
    if stack is not None and of_stack != stack:
        return _problem(path, "foreign", f"the backup is of stack {of_stack}, not {stack}")
    if described != (store, point, f"{store}-{point}{suffix}"):
        return _problem(path, "damaged", "the manifest tells of another backup than its name does")
    backup = Backup(store, point, path.parent / described[2], manifest)
    for file, expected in backup.files().items():
        if file.is_symlink() or not file.exists():
            return _problem(path, "orphaned", f"{file.name} is missing beside its manifest")
        actual = sum(item.stat().st_size for item in file.iterdir()) if file.is_dir() else file.stat().st_size
        if actual != expected["size"]:
            return _problem(file, "damaged", f"{file.name} has {actual} bytes, its manifest says {expected['size']}")
    return backup


def read(backup_dir: Path, stack: Optional[str] = None) -> Catalog:
    """The catalog of a backup folder; with ``stack``, other stacks' backups are foreign."""
    check_backup_dir(backup_dir)
    catalog = Catalog()
    found: list[Backup] = []
    for folder in sorted(item for item in backup_dir.iterdir() if not item.name.startswith(".")):
        if folder.is_symlink() or not folder.is_dir():
            catalog.problems.append(_problem(folder, "foreign", "not a store's folder"))
            continue
        names = {item.name for item in folder.iterdir()}
        for name in sorted(names):
            path = folder / name
            match = _FILE.fullmatch(name)
            if not match or match["store"] != folder.name:
                catalog.problems.append(_problem(path, "foreign", "not written by stack-backup"))
            elif match["rest"] == ".partial":
                catalog.problems.append(_problem(path, "half-written", "left by a backup that did not end"))
            elif match["rest"] == ".json":
                backup = _load(path, match["store"], match["point"], stack)
                if isinstance(backup, Backup):
                    found.append(backup)
                else:
                    catalog.problems.append(backup)
            elif f"{match['store']}-{match['point']}.json" not in names:
                catalog.problems.append(_problem(path, "orphaned", "there is no manifest beside it"))
    for backup in sorted(found, key=lambda item: (item.point, item.store)):
        catalog.points.setdefault(backup.point, {})[backup.store] = backup
    return catalog
