"""What a restore is about to do, on disk before it does it: whoever comes after a crash can go back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional

from . import content
from .artifact import hand_over, write_json
from .errors import BackupError
from .kinds import like, mapping, maybe, named, seconds, text, texts
from .postgres.names import suffixed
from .stores import ID_PATTERN, NAME_PATTERN

__all__ = ["FINAL", "Journal", "journals", "needed", "spent", "unfinished"]

# Where a restore can stand; "up" only where stores had no container. Up to "prepared" the live data and the services
# are untouched.
PHASES = ("planned", "up", "preparing", "prepared", "stopping", "switching", "starting", "done", "returned", "dropped")
FINAL = ("done", "returned", "dropped")
_LET_GO = ("returned", "dropped")  # of these nothing is kept, and no backup is needed any more
_FORMAT = 1
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


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
            data = content.load(path)
            if not _is_journal(data) or path.name != f"{data['id']}.json":
                raise ValueError("not of this program")
            journal = Journal(path, data)
        except (OSError, ValueError) as error:
            raise BackupError(
                f"the restore's journal {path} can't be read ({error}): see there what the restore did, then move the file away"
            ) from None
        found.append(journal)
    return found


def _is_journal(data: Any) -> bool:
    """Whether it is what a restore writes: who goes by it removes what it names."""
    kinds = {
        "phase": lambda value: value in PHASES,
        "id": like(ID_PATTERN),
        "stack": text,
        "point": text,
        "stores": lambda value: isinstance(value, list) and all(_is_store(item, str(data["id"])) for item in value),
        "stopped": maybe(lambda value: isinstance(value, list) and all(map(_is_entry, value))),
        "up": maybe(named(text, texts)),
        "kept": maybe(texts),
        "safety_point": maybe(text),
        **dict.fromkeys(("began_at", "ended_at", "keep_until", "downtime_seconds"), maybe(seconds)),
    }
    return mapping(data) and data.get("format") == _FORMAT and all(kind(data.get(name)) for name, kind in kinds.items())


def _is_entry(entry: Any) -> bool:
    """A container that was stopped; ``services.Entry``."""
    if not mapping(entry) or not isinstance(entry.get("level"), int) or not like(_CONTAINER)(entry.get("id")):
        return False
    return all(text(entry.get(name)) for name in ("service", "name", "policy"))


def _is_store(item: Any, restore: str) -> bool:
    if not mapping(item) or not like(NAME_PATTERN)(item.get("name")) or not mapping(item.get("state")):
        return False
    check = {"postgres": _is_database, "redis": _is_folder}.get(str(item.get("engine")))
    return check is not None and (not item["state"] or check(item["state"], restore))


def _is_database(state: dict[str, Any], restore: str) -> bool:
    """What a Postgres target keeps in mind; the databases that it may drop are this restore's own."""
    live = state.get("live")
    return (
        text(live)
        and state.get("side") == suffixed(str(live), f"_restore_{restore}")
        and state.get("previous") == suffixed(str(live), f"_before_{restore}")
        and state.get("method") in ("side_by_side", "in_place")
        and isinstance(state.get("replaces"), bool)
        and isinstance(state.get("oid", 0), int)
        and texts(state.get("subscriptions"))
    )


def _is_folder(state: dict[str, Any], restore: str) -> bool:
    """What a Redis target keeps in mind; the folder that it may remove is this restore's own, and names are names."""
    home, layout = state.get("home"), state.get("layout") or {}
    if not text(home) or not mapping(layout) or ".." in str(home).split("/"):
        return False
    names = [layout.get(name) for name in ("dbfilename", "appenddirname", "appendfilename")]
    return (
        str(home).startswith("/")
        and str(home).endswith(f"/.stack-backup-{restore}")
        and set(layout) == {"aof", "multipart", "dbfilename", "appenddirname", "appendfilename"}
        and all(isinstance(layout[name], bool) for name in ("aof", "multipart"))
        and all(text(name) and name not in ("", ".", "..") and "/" not in str(name) for name in names)
    )


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
