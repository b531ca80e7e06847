"""The one exception that the engine raises for what a person can mend."""

from __future__ import annotations

from typing import Any

__all__ = ["BackupError"]


class BackupError(Exception):
    """What failed, why, and the cure, in one text; ``details`` is what is known beside it."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details
