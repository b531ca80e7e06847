"""The line that a terminal, or a playbook, shows while a job runs. For a job it costs one assignment for each step."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from typing import Optional, TextIO

from .report import size_text

__all__ = ["Line", "Note", "detail", "step"]

_SECONDS = 0.5
_NOTE_SECONDS = 1.0
_NEW_OR_OURS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
_steps: dict[str, str] = {}
_details: dict[str, str] = {}
_folders: dict[str, Optional[Path]] = {}


def step(store: str, name: str, folder: Optional[Path] = None) -> None:
    """A store is at this step now; ``folder`` is where it writes, if not into a backup in the making."""
    _steps[store] = name
    _folders[store] = folder
    _details.pop(store, None)


def detail(store: str, text: str) -> None:
    """What of its step a store is at now, such as a table."""
    _details[store] = text


def _written(folder: Path) -> int:
    """Bytes of a backup in the making; it may be renamed while we look."""
    total = 0
    for path in folder.glob("**/*"):
        try:
            total += path.stat().st_size
        except OSError:
            pass
    return total


class _Look:
    """How far the stores are, in one line."""

    def __init__(self, title: str, backup_dir: Path) -> None:
        _steps.clear()
        _details.clear()
        self._title, self._dir = title, backup_dir
        self._began = self._last = time.monotonic()
        self._before = 0

    def text(self) -> str:
        """The line as of now; its rate is that since the last one."""
        now = time.monotonic()
        stores, total = [], 0
        for store, name in sorted(_steps.items()):
            folder = _folders.get(store)
            size = sum(map(_written, [folder] if folder else (self._dir / store).glob("*.partial")))
            total += size
            stores.append(" ".join(filter(None, (store, name, _details.get(store), size_text(size) if size else ""))))
        rate = max(0, int((total - self._before) / max(now - self._last, 0.001)))
        self._before, self._last = total, now
        minutes, seconds = divmod(int(now - self._began), 60)
        parts = [f"{self._title} {minutes}:{seconds:02}".lstrip(), *stores, f"{size_text(rate)}/s" if rate else ""]
        return " · ".join(part for part in parts if part)


class _Shown:
    """``with`` it, something is shown every so many seconds, and put away at the end."""

    def __init__(self, title: str, backup_dir: Path, seconds: float, wanted: bool) -> None:
        self._look, self._seconds, self._wanted = _Look(title, backup_dir), seconds, wanted
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        if self._wanted:
            self._thread.start()

    def __exit__(self, *_exc: object) -> None:
        self._end.set()
        if self._wanted:
            self._thread.join()
            self._clear()

    def _run(self) -> None:
        while not self._end.wait(self._seconds):
            self._show(self._look.text())

    def _show(self, text: str) -> None:
        raise NotImplementedError

    def _clear(self) -> None:
        raise NotImplementedError


class Line(_Shown):
    """``with Line(stderr, title, backup_dir):`` one line, written over twice a second, gone at the end."""

    def __init__(self, stream: TextIO, title: str, backup_dir: Path) -> None:
        super().__init__(title, backup_dir, _SECONDS, stream.isatty())
        self._stream = stream

    def _show(self, text: str) -> None:
        self._stream.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
        self._stream.flush()

    def _clear(self) -> None:
        self._stream.write("\r\x1b[K")
        self._stream.flush()


class Note(_Shown):
    """``with Note(backup_dir):`` the same line in the file ``.progress`` of the folder, for whoever looks from elsewhere."""

    def __init__(self, backup_dir: Path) -> None:
        super().__init__("", backup_dir, _NOTE_SECONDS, True)
        self._path = backup_dir / ".progress"

    def _show(self, text: str) -> None:
        try:
            with os.fdopen(os.open(self._path, _NEW_OR_OURS, 0o600), "w", encoding="utf-8") as file:
                file.write(f"{text}\n")
        except OSError:  # the job does not depend on it
            pass

    def _clear(self) -> None:
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            pass
