"""What the remote holds, by the very rules of the catalog on disk.

One listing tells names and sizes; manifests are fetched once and kept. ``picture`` makes a catalog of both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Sequence

from .. import catalog, content
from ..artifact import write_json
from ..errors import BackupError
from ..signing import Signers
from ..stores import ID_PATTERN
from . import picture
from .picture import MARK, MARK_FORMAT
from .rclone import Rclone

__all__ = ["Remote", "claim", "files_of", "refuse_foreign", "survey"]

# Under what name rclone writes a file where it can rename it then: what has it was cut off.
_PARTIAL = re.compile(rf"({re.escape(MARK)}|[^/]+/[^/]*{ID_PATTERN.pattern}.*)\.[0-9a-f]{{8}}\.partial")


@dataclass
class Remote:
    """The remote's files with their sizes, and the catalog that they make; its paths are below ``picture``, which is not on disk."""

    rclone: Rclone
    picture: Path
    sizes: dict[str, int]
    stack: str = ""  # whose prefix it is; empty when it is nobody's yet
    found: catalog.Catalog = field(default_factory=catalog.Catalog)

    def path(self, picture: str) -> str:
        """The remote path of what a path of the picture shows; a foreign name may be no path at all."""
        return f"{self.rclone.remote.rstrip('/')}/{picture[len(str(self.picture)) + 1 :]}"

    def cut_off(self) -> list[str]:
        """Files that a copy left that was killed."""
        return [name for name in self.sizes if _PARTIAL.fullmatch(name)]

    def forget(self, files: Sequence[str]) -> None:
        """Files that were deleted are not there any more."""
        for name in files:
            del self.sizes[name]
        paths = {f"{self.picture}/{name}" for name in files}
        self.found.problems = [item for item in self.found.problems if item["path"] not in paths]

    def problems(self) -> list[dict[str, str]]:
        """What is wrong at the remote, by remote paths."""
        return [{**item, "path": self.path(item["path"])} for item in self.found.problems]


def files_of(backup: catalog.Backup) -> dict[str, int]:
    """The files of a backup but for its manifest, as paths below the folder of all backups, with their bytes."""
    return {
        **{name: int(entry["size"]) for name, entry in picture.entries(backup).items()},
        **picture.signature(backup),
    }


def survey(
    rclone: Rclone, work: Path, cache: Path, stack: Optional[str] = None, signers: Optional[Signers] = None
) -> Remote:
    """Look at the remote. Raises BackupError when the prefix is another stack's; ``stack`` None takes any.

    ``work``: a temporary folder, ``cache``: where manifests are kept from one look to the next. ``signers``: who must have
    signed them.
    """
    remote = Remote(rclone, work / "remote", rclone.list())
    _fetch(remote, work, cache, [*picture.manifests(remote.sizes), *picture.signatures(remote.sizes)])
    remote.stack = _owner(remote, work)
    if stack is not None and remote.stack not in ("", stack):
        raise BackupError(
            f"offsite_remote {rclone.remote} is the prefix of stack {remote.stack}, not of {stack}: "
            "give each stack a prefix of its own"
        )

    def manifest(name: str) -> bytes:
        try:
            return content.read(cache / name)
        except (OSError, ValueError):
            return b""

    remote.found = picture.read(remote.picture, remote.sizes, manifest, remote.stack or stack, signers)
    return remote


def refuse_foreign(remote: Remote) -> None:
    """Raises BackupError where nothing says whose the prefix is, and it has what is not this stack's."""
    ours = {remote.path(f"{remote.picture}/{name}") for name in remote.cut_off()}
    foreign = [item for item in remote.problems() if item["problem"] == "foreign" and item["path"] not in ours]
    if foreign and not remote.stack:
        raise BackupError(
            f"offsite_remote {remote.rclone.remote} holds files and no {MARK} that says whose, e.g. "
            f"{foreign[0]['path']!r}: {foreign[0]['message']}; give a prefix that is empty"
        )


def claim(remote: Remote, work: Path, stack: str) -> None:
    """Mark a prefix that is nobody's as the stack's, which also shows that it is there. Raises BackupError."""
    if remote.stack:
        return
    home = work / "mark"
    home.mkdir()
    write_json(home / MARK, {"format": MARK_FORMAT, "stack": stack})
    remote.rclone.copy_to(home, [MARK])
    remote.rclone.check(home, [MARK])
    remote.stack = stack


def _fetch(remote: Remote, work: Path, cache: Path, manifests: list[str]) -> None:
    """Bring the cache up to the remote: what is new there comes, what is gone there goes."""
    cache.mkdir(mode=0o700, exist_ok=True)
    known = {str(path.relative_to(cache)): path.stat().st_size for path in cache.glob("*/*") if path.is_file()}
    for name in set(known) - set(manifests):
        (cache / name).unlink()
    missing = [name for name in manifests if known.get(name) != remote.sizes[name]]
    if MARK in remote.sizes:
        missing.append(MARK)
    if not missing:
        return
    arrived = work / "manifests"
    arrived.mkdir()
    remote.rclone.copy_from(missing, arrived)
    for name in missing:
        if name != MARK and (arrived / name).is_file():
            (cache / name).parent.mkdir(mode=0o700, exist_ok=True)
            (arrived / name).replace(cache / name)


def _owner(remote: Remote, work: Path) -> str:
    if MARK not in remote.sizes:
        return ""
    try:
        return picture.owner(content.read(work / "manifests" / MARK))
    except (OSError, ValueError):
        raise BackupError(
            f"{remote.rclone.remote}/{MARK} is not as this program writes it: see what it is, or give a prefix that is empty"
        ) from None
