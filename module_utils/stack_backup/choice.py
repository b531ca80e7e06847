"""Which recovery point a restore takes, and which it refuses."""

from __future__ import annotations

from typing import Any, Iterator, Optional, Sequence

from . import catalog
from .catalog import Backup
from .errors import BackupError
from .manifest import require_whole
from .stores import Store

__all__ = ["adopted", "backups_of", "refuse_other_stack", "refuse_unusable"]


def refuse_other_stack(params: dict[str, Any], source: Optional[str]) -> None:
    """Another stack's points, ``source``'s, are taken only where somebody says that this is meant."""
    stack, source, given = params["stack"], source or params["stack"], params.get("as_stack")
    if given != stack and (given or source != stack):
        raise BackupError(
            f"these recovery points are of stack {source}, this is stack {stack}: if its data is to be replaced by "
            f"theirs, give -e restore_as_stack={stack} (given: {given!r})"
        )


def backups_of(found: catalog.Catalog, point: str, stores: Sequence[Store]) -> dict[str, Backup]:
    """Each store's backup in a point. Raises BackupError where one is missing, or of another engine."""
    backups = found.points[point]
    missing = [store.name for store in stores if store.name not in backups]
    if missing:
        raise BackupError(
            f"recovery point {point} lacks the store {', '.join(missing)} (it has {', '.join(backups)}): "
            "choose another point, or only what it has with restore_stores"
        )
    for store in stores:
        engine = backups[store.name].manifest["engine"]
        if engine != store.engine:
            raise BackupError(
                f"store {store.name} is {store.engine}, its backup in {point} is of {engine}: choose another point, or only what fits with restore_stores"
            )
    return {store.name: backups[store.name] for store in stores}


def refuse_unusable(backup: Backup, allow_empty: bool) -> None:
    """Raise BackupError for what is not told of as a backup, can't be decrypted, or holds nothing."""
    require_whole(backup.manifest, backup.artifact)
    if backup.encrypted:
        backup.key()
    counts = backup.manifest.get("counts") or {}
    if not allow_empty and counts and not (counts.get("tables") or counts.get("keys")):
        raise BackupError(
            f"{backup.artifact} holds no data at all: choose another point, or give -e restore_allow_empty=true"
        )


def adopted(backup: Backup) -> Iterator[str]:
    """What a person should know of a backup that another program took."""
    told = backup.manifest.get("adopted")
    if told:
        about = "about " if backup.manifest["pin"].get("approximate") else ""
        yield f"store {backup.store}: adopted from {told['source']}, pinned at {about}{backup.manifest['pin']['at']}"
