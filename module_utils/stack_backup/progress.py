"""The line that a terminal shows while a job runs. Without a terminal it costs one assignment for each step."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Optional, TextIO

from .report import size_text

__all__ = ["Line", "detail", "step", "watched"]

_SECONDS = 0.5
_steps: dict[str, str] = {}
_details: dict[str, str] = {}
_watched = threading.Event()


def step(store: str, name: str) -> None:
    """A store is at this step now."""
    _steps[store] = name
    _details.pop(store, None)


def detail(store: str, text: str) -> None:
    """What of its step a store is at now, such as a table."""
    _details[store] = text


def watched() -> bool:
    """Whether somebody looks: a program may then be asked to say what it does."""
    return _watched.is_set()


def _written(folder: Path) -> int:
    """Bytes of a backup in the making; it may be renamed while we look."""
    total = 0
    for path in folder.glob("**/*"):
        try:
            total += path.stat().st_size
        except OSError:
            pass
    return total


class Line:
    """``with Line(stderr, title, backup_dir):`` one line, written over twice a second, gone at the end."""

    def __init__(self, stream: TextIO, title: str, backup_dir: Path) -> None:
        self._stream, self._title, self._dir = stream, title, backup_dir
        self._end = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def __enter__(self) -> None:
        _steps.clear()
        _details.clear()
        if self._stream.isatty():
            _watched.set()
            self._thread = threading.Thread(target=self._show, daemon=True)
            self._thread.start()

    def __exit__(self, *_exc: object) -> None:
        self._end.set()
        if self._thread:
            _watched.clear()
            self._thread.join()
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _show(self) -> None:
        began = last = time.monotonic()
        before = 0
        while not self._end.wait(_SECONDS):
            now = time.monotonic()
            stores, total = [], 0
            for store, name in sorted(_steps.items()):
                size = sum(map(_written, (self._dir / store).glob("*.partial")))
                total += size
                stores.append(
                    " ".join(filter(None, (store, name, _details.get(store), size_text(size) if size else "")))
                )
            rate = max(0, int((total - before) / (now - last)))
            before, last = total, now
            minutes, seconds = divmod(int(now - began), 60)
            parts = [f"{self._title} {minutes}:{seconds:02}", *stores, f"{size_text(rate)}/s" if rate else ""]
            text = " · ".join(part for part in parts if part)
            self._stream.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
            self._stream.flush()
