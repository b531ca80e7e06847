"""Removes recovery points that the policy does not keep, and what jobs left that did not end.

Crash-safe: first every manifest of a point is renamed to a mark, ``.<store>-<id>.json.removed``, and is a backup no more;
then go the files, the mark last. A point with a mark is removed to its end by the next run. Everything is removed by its
name in an opened store folder, so that no exchanged path leads elsewhere, and no symbolic link is followed.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Iterator

from . import catalog, chain, retention
from .artifact import Lock, check_backup_dir, manifest_path
from .errors import BackupError
from .journal import needed, spent
from .signing import key_of, signature_path, signers_of

__all__ = ["diff", "prune"]


def prune(params: dict[str, Any], check_mode: bool = False) -> dict[str, Any]:
    """Remove what the policy does not keep; the parameters are those of the module backup_prune.

    Returns what stays and goes, with reasons and bytes. Raises BackupError, with the same as details, when the newest
    point is not as it should be (nothing was removed then), or when a file can't be removed.
    """
    policy = retention.Policy.parse(params)
    backup_dir = Path(params["backup_dir"])
    check_backup_dir(backup_dir)
    key = key_of(params)
    with Lock(backup_dir), _opened(backup_dir) as root:
        found = catalog.read(backup_dir, params["stack"], signers=signers_of(params))
        now = datetime.now(timezone.utc)
        plan = retention.plan(retention.points_of(found, needed(backup_dir)), policy, now)
        removals = [_point(found, backup_dir, name, why) for name, why in plan.remove.items()]
        answer: dict[str, Any] = {
            "stack": params["stack"],
            "kept": [
                {"id": name, "why": ", ".join(why), "size": _point(found, backup_dir, name, "").size}
                for name, why in sorted(plan.keep.items())
            ],
        }
        if plan.held:
            raise plan.refusal(policy, **answer, **_told([], found))
        if key and not check_mode:
            whole = {
                name: {store: found.manifests[name][store] for store in stores}
                for name, stores in found.points.items()
                if name in found.manifests
            }
            chain.extend(backup_dir, params["stack"], key, now.timestamp(), whole, plan.remove)
        removals += _leftovers(found, backup_dir, now)
        done: list[_Removal] = []
        for removal in removals:
            try:
                if not check_mode:
                    removal.apply(root)
            except (OSError, RecursionError) as error:
                told = _told(done, found)
                why = error.strerror if isinstance(error, OSError) else "folders in it are nested too deeply"
                raise BackupError(
                    f"{removal.name} can't be removed: {why}: mend the owner, mode or mount of {backup_dir}; "
                    f"{len(told['removed'])} recovery points were removed before it",
                    **answer,
                    **told,
                ) from None
            done.append(removal)
    return {**answer, **_told(done, found)}


def diff(answer: dict[str, Any]) -> dict[str, str]:
    """What was there and what stays, with the reasons, as Ansible shows it."""
    stay = {item["id"]: f"{item['id']}  {item['size']} bytes  {item['why']}" for item in answer["kept"]}
    go = {item["id"]: f"{item['id']}  {item['size']} bytes  {item['why']}" for item in answer["removed"]}
    left = [f"{item['path']}  {item['size']} bytes  {item['why']}" for item in answer["cleaned"]]
    both = {**stay, **go}
    return {
        "before_header": "recovery points",
        "after_header": "recovery points that stay",
        "before": "".join(f"{line}\n" for line in [*(both[name] for name in sorted(both)), *left]),
        "after": "".join(f"{stay[name]}\n" for name in sorted(stay)),
    }


@dataclass
class _Removal:
    """One point, or one leftover: what is renamed first, what goes then, and what goes last."""

    name: str
    why: str
    manifests: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    marks: list[Path] = field(default_factory=list)
    point: bool = True
    size: int = 0  # bytes on disk

    def measured(self) -> _Removal:
        """Itself, with its size."""
        self.size = sum(map(_size, (*self.manifests, *self.files, *self.marks)))
        return self

    def apply(self, root: int) -> None:
        """Remove it; ``root`` is the opened backup folder. Raises OSError."""
        for path in self.manifests:
            with _opened(path.parent.name, root) as folder:
                mark = catalog.removed_name(path.name)
                os.rename(path.name, mark, src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
        marks = {*self.marks, *(path.with_name(catalog.removed_name(path.name)) for path in self.manifests)}
        for paths in (self.files, sorted(marks)):
            for store in sorted({path.parent.name for path in paths}):
                with _opened(store, root) as folder:
                    for path in paths:
                        if path.parent.name == store:
                            _remove(path.name, folder)
                    os.fsync(folder)


@contextmanager
def _opened(path: Any, within: Any = None) -> Iterator[int]:
    """A folder's descriptor. Below ``within`` a link is refused; the backup folder itself may be one."""
    flags = os.O_RDONLY | os.O_DIRECTORY | (0 if within is None else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags, dir_fd=within)
    except OSError as error:
        if within is not None:
            raise
        raise BackupError(
            f"the backup folder {path} can't be opened: {error.strerror}: mend its disk or mode"
        ) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(name: str, folder: int) -> None:
    """Remove a file, or a folder with what is in it."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        os.unlink(name, dir_fd=folder)
        return
    with _opened(name, folder) as inner:
        for entry in os.listdir(inner):  # noqa: PTH208 (a descriptor is no path)
            _remove(entry, inner)
    os.rmdir(name, dir_fd=folder)


def _size(path: Path) -> int:
    """Bytes, of what can be looked at."""
    try:
        info = path.lstat()
        return sum(map(_size, path.iterdir())) if stat.S_ISDIR(info.st_mode) else info.st_size
    except (OSError, RecursionError):
        return 0


def _point(found: catalog.Catalog, backup_dir: Path, name: str, why: str) -> _Removal:
    """The removal of a point: all its stores' files, but no links, which are not of this program."""
    removal = _Removal(name, why)
    for store, backup in found.known(name).items():
        manifest = manifest_path(backup_dir, store, name)
        removal.manifests.append(manifest)
        files = [*backup.files(), catalog.verified_path(manifest), signature_path(manifest)]
        removal.files += [path for path in files if os.path.lexists(path) and not path.is_symlink()]
    if name in found.begun:
        for path in found.leftovers[name]:
            (removal.marks if path.name.endswith(".removed") else removal.files).append(path)
    return removal.measured()


def _leftovers(found: catalog.Catalog, backup_dir: Path, now: datetime) -> list[_Removal]:
    """What restores leave that ended, and what jobs left that did not, older than a day by its name and last change."""
    why = {item["path"]: f"{item['problem']}, {item['message']}" for item in found.problems}
    removals = [
        _Removal(str(path), what, files=[path], point=False).measured()
        for path, what in spent(backup_dir, (now - retention.LEFTOVER_AGE).timestamp())
    ]
    for point, paths in found.leftovers.items():
        if point in found.begun:
            continue  # goes, or stays, with its point
        for path in paths:
            if _foreign(path):
                continue
            changed = datetime.fromtimestamp(path.lstat().st_mtime, timezone.utc)
            if retention.is_stale(point, now) and retention.is_stale(f"{changed:%Y%m%d-%H%M%S}", now):
                removals.append(_Removal(str(path), why[str(path)], files=[path], point=False).measured())
    return removals


def _foreign(path: Path) -> bool:
    """Whether a file without a manifest was not left by a job: people's own scripts give their dumps such names too.

    What is published is renamed out of a folder that stays until the manifest is there.
    """
    stem = catalog.stem(path.name)
    return bool(stem) and not path.with_name(f"{stem}.partial").exists()


def _told(done: list[_Removal], found: catalog.Catalog) -> dict[str, Any]:
    """What went, and what is wrong in the folder and stays."""
    gone = {str(path) for removal in done for path in (*removal.manifests, *removal.files, *removal.marks)}
    points, rest = [item for item in done if item.point], [item for item in done if not item.point]
    return {
        "changed": bool(done),
        "removed": [{"id": item.name, "why": item.why, "size": item.size} for item in points],
        "cleaned": [{"path": item.name, "why": item.why, "size": item.size} for item in rest],
        "freed": sum(item.size for item in done),
        "problems": [item for item in found.problems if item["path"] not in gone],
    }
