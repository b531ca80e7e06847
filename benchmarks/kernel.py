"""What the kernel knows of a container and of the page cache."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Optional

from .servers import Server, sh

__all__ = ["Memory", "evicted"]

_CGROUPS = Path("/sys/fs/cgroup")
_EVERY = 0.05  # seconds
_PARTS = ({"anon", "shmem"}, {"total_rss", "total_shmem"})  # of version 2 and version 1


def evicted() -> int:
    """Bytes of the page cache that the kernel took back since it began, of the whole machine: its pgsteal_file."""
    told = dict(line.split() for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines())
    return int(told["pgsteal_file"]) * os.sysconf("SC_PAGE_SIZE")


def _stat(server: Server) -> Path:
    """The file of the container's cgroup that tells of its memory."""
    process = sh("docker", "inspect", "--format", "{{.State.Pid}}", server.container).strip()
    groups = [line.split(":", 2) for line in Path(f"/proc/{process}/cgroup").read_text().splitlines()]
    own = next((path for _id, kind, path in groups if kind == "memory"), "")
    if own:
        return _CGROUPS / "memory" / own.lstrip("/") / "memory.stat"
    return _CGROUPS / next(path for _id, kind, path in groups if not kind).lstrip("/") / "memory.stat"


def _held(stat: Path) -> int:
    try:
        told = dict(line.split() for line in stat.read_text(encoding="ascii").splitlines())
    except OSError:  # the container is down
        return 0
    return max(sum(int(told[name]) for name in parts if name in told) for parts in _PARTS)


class Memory(threading.Thread):
    """``with Memory(server) as memory:`` looks all the time at what its container holds, without the page cache, which
    counts as memory but goes when others want it. ``peak`` in bytes."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._path, self._end = _stat(server), threading.Event()
        self.peak = 0

    def run(self) -> None:
        """Look until the end."""
        while not self._end.is_set():
            self.peak = max(self.peak, _held(self._path))
            self._end.wait(_EVERY)

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(
        self, _kind: Optional[type[BaseException]], _error: Optional[BaseException], _trace: Optional[TracebackType]
    ) -> None:
        self._end.set()
        self.join()
