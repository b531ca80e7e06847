"""Takes one backup by one way: an empty folder, the disk's queue empty, the clock, the proof of what was written."""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

from .proofs import prove, size
from .samples import Sample
from .servers import Server
from .ways import Outcome

__all__ = ["measure", "say", "written"]


def say(text: str) -> None:
    """Tell who waits."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


@contextmanager
def written(scratch: Path) -> Iterator[Path]:
    """An empty folder for what is written, removed afterwards."""
    folder = scratch / "backup"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def measure(
    server: Server, data: str, way: str, call: Callable[[Path], Outcome], scratch: Path, *, proof: bool = True
) -> Sample:
    """Take a backup; with ``proof`` it is read to its end, outside the clock."""
    with written(scratch) as folder:
        os.sync()
        began = time.monotonic()
        outcome = call(folder)
        seconds = time.monotonic() - began
        server.wait()  # a way that stops the server is not to disturb the next one
        if proof:
            prove(server, outcome.file)
        length = size(outcome.file)
    say(f"{data}, {way}: {seconds:.2f} s")
    return Sample(data, way, seconds, length, outcome.steps, outcome.peak, outcome.child)
