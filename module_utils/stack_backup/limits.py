"""What a backup may take of the host: the live databases go first."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from .errors import BackupError

__all__ = ["Limits", "disk_of"]

_SHARES = "256"  # of the processors where they are scarce; a container has 1024 by default (docker run, --cpu-shares)
_SIZE = re.compile(r"(\d+)([kmg])", re.IGNORECASE)
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_LEAST = 64 << 20  # bytes of memory
_SLOWEST = 1 << 20  # bytes per second


def _bytes(text: str) -> int:
    size = _SIZE.fullmatch(text)
    return int(size[1]) * _UNITS[size[2].lower()] if size else 0


def disk_of(folder: Path) -> str:
    """The whole disk below a folder, as the kernel limits it: io.max takes no partition. Raises BackupError.

    Source: Documentation/admin-guide/cgroup-v2.rst, "IO Interface Files"; sysfs-block of Documentation/ABI.
    """
    number = folder.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if (device / "partition").exists():
        device = device.resolve().parent
    try:
        told = dict(line.split("=", 1) for line in (device / "uevent").read_text(encoding="utf-8").splitlines())
    except OSError:
        raise BackupError(
            f"backup_io: {folder} is on no disk of this host that could be limited (NFS, btrfs, overlay): leave it empty"
        ) from None
    return f"/dev/{told['DEVNAME']}"


@dataclass(frozen=True)
class Limits:
    """What each throw-away container of a job may take of the host. Raises BackupError for what docker would refuse."""

    cpus: Optional[float] = None  # of the host's
    memory: Optional[str] = None  # as docker takes it
    io: Optional[str] = None  # bytes per second that it may write, as docker takes it
    disk: str = ""  # the device that io is of

    def __post_init__(self) -> None:
        most = os.cpu_count() or 1
        if self.cpus is not None and not 0.01 <= self.cpus <= most:
            raise BackupError(
                f"backup_cpus is {self.cpus:g}: it must be from 0.01 to {most}, the processors of this host"
            )
        if self.memory and _bytes(self.memory) < _LEAST:
            raise BackupError(f"backup_memory is {self.memory!r}: it must be 64m or more, such as 512m or 2g")
        if self.io and _bytes(self.io) < _SLOWEST:
            raise BackupError(f"backup_io is {self.io!r}: it must be 1m (a second) or more, such as 20m")

    def options(self) -> list[str]:
        """For ``docker run``."""
        return [
            *("--cpu-shares", _SHARES),
            *(("--cpus", f"{self.cpus:g}") if self.cpus else ()),
            *(("--memory", self.memory) if self.memory else ()),
            *(("--device-write-bps", f"{self.disk}:{_bytes(self.io)}") if self.io else ()),
        ]
