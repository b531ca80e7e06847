"""What is known on the host of its offsite copies: ``<backup dir>/.offsite/state.json``."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Iterator, Optional

from .. import content
from ..artifact import Lock, check_backup_dir, hand_over_tree, write_json
from ..errors import BackupError
from ..kinds import like, mapping, named, seconds, text, texts
from ..stores import ID_PATTERN

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
        data = content.load(folder(backup_dir) / _NAME)
    except (OSError, ValueError):
        data = None
    if _is_state(data) and remote in (None, data["remote"]):
        return {name: data[name] for name in ("remote", "at", "points", "pruned")}
    return {"remote": remote or "", "at": 0.0, "points": {}, "pruned": []}


def _is_state(data: Any) -> bool:
    return (
        mapping(data)
        and text(data.get("remote"))
        and seconds(data.get("at"))
        and named(like(ID_PATTERN), _is_entry)(data.get("points"))
        and texts(data.get("pruned"))
    )


def _is_entry(entry: Any) -> bool:
    return mapping(entry) and seconds(entry.get("since")) and seconds(entry.get("checked"))


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
