"""What a backup may take of the host: the live databases go first."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Optional

from .errors import BackupError

__all__ = ["Limits"]

_SHARES = "256"  # of the processors where they are scarce; a container has 1024 by default (docker run, --cpu-shares)
_MEMORY = re.compile(r"(\d+)([kmg])", re.IGNORECASE)
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_LEAST = 64 << 20  # bytes


@dataclass(frozen=True)
class Limits:
    """What each throw-away container of a job may take of the host. Raises BackupError for what docker would refuse."""

    cpus: Optional[float] = None  # of the host's
    memory: Optional[str] = None  # as docker takes it

    def __post_init__(self) -> None:
        most = os.cpu_count() or 1
        if self.cpus is not None and not 0.01 <= self.cpus <= most:
            raise BackupError(
                f"backup_cpus is {self.cpus:g}: it must be from 0.01 to {most}, the processors of this host"
            )
        size = _MEMORY.fullmatch(self.memory or "64m")
        if not size or int(size[1]) * _UNITS[size[2].lower()] < _LEAST:
            raise BackupError(f"backup_memory is {self.memory!r}: it must be 64m or more, such as 512m or 2g")

    def options(self) -> list[str]:
        """For ``docker run``."""
        return [
            *("--cpu-shares", _SHARES),
            *(("--cpus", f"{self.cpus:g}") if self.cpus else ()),
            *(("--memory", self.memory) if self.memory else ()),
        ]
