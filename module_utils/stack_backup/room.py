"""Room on the disk where Docker keeps what a throw-away server writes: asked for before, and watched while it is filled.

A few kilobytes of a compressed dump can become any number of bytes, and the live databases are on that disk too.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional

from .artifact import free_bytes
from .containers import Docker, SideContainer
from .errors import BackupError

__all__ = ["require", "watched"]

_RESERVE = 256 * 1024 * 1024  # bytes that stay free
_EVERY = 0.2  # seconds between two looks: a disk writes a tenth of the reserve meanwhile


def _disk(docker: Docker) -> Optional[Path]:
    """Where it is; None where this host does not see it, as with a remote engine."""
    folder = Path(docker.call("info", "--format", "{{.DockerRootDir}}").out.strip())
    return folder if folder.is_absolute() and os.path.isdir(folder) else None  # noqa: PTH112 - as in containers


def require(docker: Docker, needs: int) -> None:
    """Raise BackupError unless ``needs`` bytes can be written there, and the reserve stays."""
    folder = _disk(docker)
    free = free_bytes(folder) if folder else None
    if free is not None and free < needs + _RESERVE:
        raise BackupError(
            f"{folder}, where Docker keeps its data, has {free} bytes free, the drill needs {needs + _RESERVE}: free some, "
            "or enlarge its disk"
        )


@contextmanager
def watched(docker: Docker, side: SideContainer) -> Iterator[None]:
    """While the block runs, remove ``side`` as soon as half of the reserve is used; BackupError leaves the block then."""
    folder = _disk(docker)
    ended, short = threading.Event(), threading.Event()

    def watch() -> None:
        while folder and not ended.wait(_EVERY):
            if free_bytes(folder) < _RESERVE // 2:
                short.set()
                side.remove()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    except BackupError:
        if not short.is_set():
            raise
        raise BackupError(
            f"the drill's server was ended because it filled the disk of {folder}, where Docker keeps its data: free some, "
            "or see what the backup makes of so few bytes"
        ) from None
    finally:
        ended.set()
        thread.join()
