"""What a restore is about to do, on disk before it does it: whoever comes after a crash can go back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

from .artifact import hand_over, write_json
from .errors import BackupError

__all__ = ["FINAL", "Journal", "journals", "needed", "spent", "unfinished"]

# Where a restore can stand; "up" only where stores had no container. Up to "prepared" the live data and the services
# are untouched.
PHASES = ("planned", "up", "preparing", "prepared", "stopping", "switching", "starting", "done", "returned", "dropped")
FINAL = ("done", "returned", "dropped")
_LET_GO = ("returned", "dropped")  # of these nothing is kept, and no backup is needed any more
_FORMAT = 1


def _folder(backup_dir: Path) -> Path:
    return backup_dir / ".restore"


class Journal:
    """One restore's record, ``<backup dir>/.restore/<id>.json``; every change of it is durable before it returns."""

    def __init__(self, path: Path, data: dict[str, Any]) -> None:
        self._path, self.data = path, data

    @classmethod
    def begin(cls, backup_dir: Path, **data: Any) -> Journal:
        """Write the record of a new restore: phase ``planned``."""
        folder = _folder(backup_dir)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            hand_over(folder, backup_dir)
        except OSError as error:
            raise BackupError(
                f"the restores' journals can't be kept in {folder}: {error.strerror}: free space there, or mend its mode"
            ) from None
        journal = cls(folder / f"{data['id']}.json", {"format": _FORMAT, "phase": "planned", **data})
        journal.mark("planned")
        return journal

    @property
    def id(self) -> str:
        """The restore's id, UTC."""
        return str(self.data["id"])

    @property
    def phase(self) -> str:
        """The phase that began last."""
        return str(self.data["phase"])

    @property
    def path(self) -> Path:
        """Its file."""
        return self._path

    def reached(self, phase: str) -> bool:
        """Whether the restore came as far as ``phase``."""
        return PHASES.index(self.phase) >= PHASES.index(phase)

    def mark(self, phase: str, **changes: Any) -> None:
        """A phase begins. Raises BackupError when that can't be written down: the phase must not begin then."""
        self.data.update(changes, phase=phase)
        try:
            write_json(self._path, self.data)
        except OSError as error:
            raise BackupError(
                f"the restore's journal {self._path} can't be written: {error.strerror}: free space there, or mend its mode"
            ) from None


def journals(backup_dir: Path) -> list[Journal]:
    """Every restore's record, oldest first. Raises BackupError for one that can't be read."""
    found = []
    folder = _folder(backup_dir)
    for path in sorted(folder.glob("*.json")):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            journal = Journal(path, data)
            if data["format"] != _FORMAT or journal.phase not in PHASES or not isinstance(data["stores"], list):
                raise ValueError("not of this program")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BackupError(
                f"the restore's journal {path} can't be read ({error}): see there what the restore did, then move the file away"
            ) from None
        found.append(journal)
    return found


def unfinished(backup_dir: Path) -> Optional[Journal]:
    """The restore that neither ended nor went back, if there is one."""
    return next((journal for journal in journals(backup_dir) if journal.phase not in FINAL), None)


def spent(backup_dir: Path, before: float) -> list[tuple[Path, str]]:
    """Files of restores that ended ``before`` (seconds since 1970) and keep nothing, each with what it is.

    The newest downtime that was measured stays: what a restore takes is told by it.
    """
    found = journals(backup_dir)
    measured = [journal.path for journal in found if journal.data.get("downtime_seconds")][-1:]
    files = [
        (journal.path, f"the journal of a restore that was {journal.phase}")
        for journal in found
        if journal.phase in _LET_GO
        and float(journal.data.get("ended_at") or before) < before
        and journal.path not in measured
    ]
    drafts = [path for path in sorted(_folder(backup_dir).glob(".*.json.new")) if path.lstat().st_mtime < before]
    return files + [(path, "half-written, the draft of a restore's journal") for path in drafts]


def needed(backup_dir: Path) -> dict[str, str]:
    """The recovery points that a restore may need yet, with the reason, by id."""
    return {
        str(journal.data.get(key)): f"restore {journal.id} may need it"
        for journal in journals(backup_dir)
        if journal.phase not in _LET_GO
        for key in ("point", "safety_point")
    }
