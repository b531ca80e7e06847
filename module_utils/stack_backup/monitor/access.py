"""Whether others than their owner can read or replace backups and secrets: by modes, as ``ls -l`` shows them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Iterator

__all__ = ["open_to_others"]

_READ, _WRITE, _ENTER = stat.S_IRGRP | stat.S_IROTH, stat.S_IWGRP | stat.S_IWOTH, stat.S_IXGRP | stat.S_IXOTH
_NO_SECRETS = ("schedule_file", "metrics_file")


def open_to_others(backup_dir: Path, params: dict[str, Any]) -> list[str]:
    """What is too open, each with its mode: the backup folder, its stores, their backups, files of ``params`` with secrets.

    Raises OSError when the folder can't be listed. What is gone by then is left out.
    """
    found = [*_folder(backup_dir), *(text for path in _secrets(params) for text in _judge(path, _READ | _WRITE))]
    with os.scandir(backup_dir) as items:
        stores = sorted(Path(item) for item in items if item.is_dir(follow_symlinks=False) and item.name[0] != ".")
    for store in stores:
        found += _folder(store)
        if _mode(store) & _ENTER:  # else nobody gets to its files
            with os.scandir(store) as items:
                files = sorted(Path(item) for item in items if not item.is_symlink())
            found += [text for path in files for text in _judge(path, _READ | _WRITE)]
    return found


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.lstat().st_mode)
    except OSError:
        return 0


def _judge(path: Path, bits: int) -> Iterator[str]:
    mode = _mode(path)
    if mode & bits:
        yield f"{path} has mode {mode:04o}"


def _folder(path: Path) -> Iterator[str]:
    """Who can write into a folder can replace what is in it."""
    return _judge(path, _WRITE)


def _secrets(params: Any) -> Iterator[Path]:
    """The files that parameters at any depth name for secrets."""
    if isinstance(params, list):
        for item in params:
            yield from _secrets(item)
    elif isinstance(params, dict):
        for name, value in params.items():
            if isinstance(value, str) and value and name.endswith("_file") and name not in _NO_SECRETS:
                yield Path(value)
            yield from _secrets(value)
