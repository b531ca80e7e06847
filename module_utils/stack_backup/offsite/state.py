"""What is known on the host of its offsite copies: ``<backup dir>/.offsite/state.json``."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Iterator, Optional

from ..artifact import Lock, check_backup_dir, hand_over_tree, write_json
from ..errors import BackupError

__all__ = ["folder", "load", "save", "work_dir"]

_NAME = "state.json"


def folder(backup_dir: Path) -> Path:
    """Where state, cached manifests and temporary files are."""
    return backup_dir / ".offsite"


def load(backup_dir: Path, remote: Optional[str] = None) -> dict[str, Any]:
    """What is known; nothing when it is of another remote than ``remote``, where that is given.

    ``remote`` that it is of; ``at``: when the last copy ended well; ``points``: by id, ``since`` and ``checked``;
    ``pruned``: points that the remote's retention removed. Epoch seconds. What can't be read counts as nothing known.
    """
    try:
        data = json.loads((folder(backup_dir) / _NAME).read_text(encoding="utf-8"))
        points = {str(name): dict(entry) for name, entry in data["points"].items()}
        pruned = [str(name) for name in data["pruned"]]
        if remote in (None, data["remote"]):
            return {"remote": str(data["remote"]), "at": float(data["at"]), "points": points, "pruned": pruned}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return {"remote": remote or "", "at": 0.0, "points": {}, "pruned": []}


def save(backup_dir: Path, state: dict[str, Any]) -> None:
    """Write it, so that a crash leaves the old one or the new one."""
    write_json(folder(backup_dir) / _NAME, state)


@contextmanager
def work_dir(backup_dir: Path, part: str = "") -> Iterator[Path]:
    """A temporary folder below the backup folder, for one offsite job of a ``part`` at a time.

    The lock is not the stack's: a copy that takes hours must not keep the nightly backup from being made.
    """
    check_backup_dir(backup_dir)
    home = folder(backup_dir) / part
    try:
        folder(backup_dir).mkdir(mode=0o700, exist_ok=True)
        home.mkdir(mode=0o700, exist_ok=True)
        with Lock(home):
            for left in home.glob("work-*"):
                shutil.rmtree(left, ignore_errors=True)  # of a job that was killed
            try:
                with TemporaryDirectory(prefix="work-", dir=home) as path:
                    yield Path(path)
            finally:
                hand_over_tree(folder(backup_dir))
    except OSError as error:
        raise BackupError(
            f"{error.filename or home}: {error.strerror}: mend its disk, owner or mode; an offsite job keeps lists and "
            "manifests there"
        ) from None
