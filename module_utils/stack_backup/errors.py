"""The exceptions that the engine raises for what a person can mend."""

from __future__ import annotations

from typing import Any

__all__ = ["ANOTHER", "BackupError", "Contended", "Locked", "NoImage", "Unsound"]

# The cure where a backup is no good.
ANOTHER = "take another recovery point (stack-backup list), or its copy offsite (-e restore_from=offsite)"


class BackupError(Exception):
    """What failed, why, and the cure, in one text; ``details`` is what is known beside it."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class Locked(BackupError):
    """Another job of the stack holds its lock; nothing was done yet, so the call may be made again."""


class Contended(BackupError):
    """Another session of the database stood in the way: made again a little later, the call may work."""


class Unsound(BackupError):
    """The backup itself is not good: shown by its digest, or by a program that read or restored it and ended by itself.

    Any other error says nothing of the backup: the engine, the disk or the memory gave out under the one who tried it.
    """


class NoImage(BackupError):
    """No image is on this host that has the programs which read a backup."""
