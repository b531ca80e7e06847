"""Brings a recovery point back from the remote: proven on arrival, data placed first, manifests last.

Files arrive in ``.offsite/fetch/arriving/<stack>/<id>``, where a fetch that was cut leaves them for the next one. Nothing
that is here is ever replaced: when a file here is not as the remote's manifest says, or the points are another stack's,
the whole point goes into ``.from/<stack>``, which the stack's own catalog does not show.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from .. import catalog, content, progress
from ..artifact import Lock, digest, free_bytes, hand_over, hand_over_tree, manifest_path, settle, sync
from ..choice import refuse_other_stack
from ..errors import BackupError
from ..process import Deadline, raise_on_signals
from ..signing import signature_path, signers_of
from ..verify import refuse_damaged
from . import state
from .picture import MARK, signature
from .rclone import Rclone
from .remote import files_of, survey

__all__ = ["fetch"]

_ASIDE = ".from"
_RESERVE = 64 * 1024 * 1024


def fetch(params: dict[str, Any], check_mode: bool = False) -> dict[str, Any]:
    """Bring a recovery point here; the parameters are those of the module offsite_fetch.

    Returns which point, the folder that holds it, and what was fetched. Raises BackupError when the remote has no such
    point, or what arrived is not what was backed up: nothing was placed then.
    """
    deadline = Deadline(float(params["timeout"]))
    with raise_on_signals(deadline), state.work_dir(Path(params["backup_dir"]), "fetch") as work:
        job = _Fetch(params, deadline, work)
        job.choose()
        job.plan()
        if not check_mode:
            job.run()
        return job.answer()


@dataclass(frozen=True)
class _Item:
    """What is placed by one rename: a file, or the folder of a dump in directory format."""

    name: str  # below the folder of all backups, as at the remote
    sha256: str
    files: dict[str, int]  # name at the remote: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(self.files.values())

    def fault(self, root: Path) -> str:
        """Why what is below ``root`` is not this; empty when it is. Reads it to its end."""
        path = root / self.name
        if path.is_symlink():
            return "is a symbolic link"
        size = sum(file.lstat().st_size for file in (path.iterdir() if path.is_dir() else [path]))
        if size != self.size:
            return f"has {size} bytes, not {self.size}"
        found = digest(path)["sha256"]
        return "" if found == self.sha256 else f"has the sha256 {found}, not {self.sha256}"


class _Fetch:
    def __init__(self, params: dict[str, Any], deadline: Deadline, work: Path) -> None:
        self._params, self._work = params, work
        self._dir, self._stack = Path(params["backup_dir"]), str(params["stack"])
        self._rclone = Rclone(params, deadline, work)
        self._point, self._source = "", ""
        self._backups: dict[str, catalog.Backup] = {}
        self._items: list[_Item] = []
        self._missing: list[_Item] = []
        self._at_hand: dict[str, Path] = {}  # by name: the folder below which there is a good one
        self._notes: list[str] = []
        self._began = time.monotonic()

    # --- which one ----------------------------------------------------------------------------------------------------

    def choose(self) -> None:
        """Choose the point by the catalog's rules. Raises BackupError where there is none that may be taken."""
        where = f"offsite_remote {self._rclone.remote}"
        remote = survey(self._rclone, self._work, self._work / "cache", signers=signers_of(self._params))
        self._source = self._owner(remote.stack, bool(remote.sizes))
        only, asked = self._params["only"], str(self._params["point"])
        problems = [
            {**item, "path": remote.path(item["path"])}
            for item in remote.found.problems
            if not only or Path(item["path"]).relative_to(remote.picture).parts[0] in only
        ]
        found = replace(remote.found, problems=problems)
        try:
            if asked != "latest":
                refuse_damaged(found, asked)
            self._point = found.choose(asked)
        except BackupError as error:
            wrong = [f"{item['path']}: {item['message']}" for item in problems if asked == "latest"]
            more = f" (wrong there: {'; '.join(wrong[:3])})" if wrong else ""
            raise BackupError(f"{where}: {error}{more}", problems=problems) from None
        if asked == "latest":
            self._notes += found.passed_over(self._point)
        whole = found.points[self._point]
        unknown = sorted(set(only) - set(whole))
        if unknown:
            raise BackupError(
                f"{where}: recovery point {self._point} lacks the store {', '.join(unknown)} (it has {', '.join(whole)})"
            )
        self._backups = {name: backup for name, backup in whole.items() if not only or name in only}
        self._items = [item for backup in self._backups.values() for item in _items(backup)]

    def _owner(self, source: str, anything: bool) -> str:
        """Whose points they are, where this stack may take them."""
        where = f"offsite_remote {self._rclone.remote}"
        if not source:
            raise BackupError(
                f"{where} has no {MARK}, which says whose it is: mend offsite_remote"
                if anything
                else f"{where} is empty: mend offsite_remote, or mount its disk"
            )
        try:
            refuse_other_stack(self._params, source)
        except BackupError as error:
            raise BackupError(f"{where}: {error}") from None
        if Path(source).name != source or source.startswith(".") or not source.isprintable():
            raise BackupError(
                f"{where}/{MARK} names the stack {source!r}, which can't be a folder's name: see who wrote it"
            )
        return source

    # --- what is missing ----------------------------------------------------------------------------------------------

    @property
    def _aside(self) -> Path:
        return self._dir / _ASIDE / self._source

    def plan(self) -> None:
        """See what is here, and where the point goes."""
        differs = self._differing() if self._source == self._stack else ""
        self._target = self._dir if self._source == self._stack and not differs else self._aside
        if self._target == self._aside:
            self._look_for(self._aside)
        self._missing = [item for item in self._items if item.name not in self._at_hand]
        if differs:
            self._notes.append(f"{differs}; it stays as it is, and the recovery point is fetched into {self._aside}")
        self._arriving = self._work.parent / "arriving" / self._source / self._point
        self._changes = not self._whole()

    def _look_for(self, root: Path) -> list[str]:
        """Note what is good below ``root``, and return what is there and is not."""
        wrong = []
        for item in self._items:
            if os.path.lexists(root / item.name):
                fault = item.fault(root)
                if fault:
                    wrong.append(f"{root / item.name} {fault}")
                else:
                    self._at_hand[item.name] = root
        return wrong

    def _differing(self) -> str:
        """A file of the point here that is not as it is at the remote, and why; empty when there is none."""
        wrong = self._look_for(self._dir)
        for backup in self._backups.values():
            manifest = manifest_path(self._dir, backup.store, backup.point)
            known = {self._dir / item.name for item in self._items} | {manifest, catalog.verified_path(manifest)}
            signed = signature_path(manifest)
            if backup.signature is not None:
                known.add(signed)
                if os.path.lexists(signed) and not self._is_cached(signed):
                    wrong.append(f"{signed} is another signature")
            stem = f"{backup.store}-{backup.point}."
            if os.path.lexists(manifest) and not self._is_there(manifest, backup):
                wrong.append(f"{manifest} tells of another backup")
            if manifest.parent.is_dir():
                names = [path for path in manifest.parent.iterdir() if path.name.lstrip(".").startswith(stem)]
                wrong += [f"{path} is there too" for path in sorted(names) if path not in known]
        return wrong[0] if wrong else ""

    def _whole(self) -> bool:
        """Whether the point is in its place already."""
        return all(self._at_hand.get(item.name) == self._target for item in self._items) and all(
            _same(manifest, backup.manifest) and (backup.signature is None or self._is_cached(signature_path(manifest)))
            for backup in self._backups.values()
            for manifest in [manifest_path(self._target, backup.store, backup.point)]
        )

    def _cached(self, name: str) -> Path:
        """A manifest or its signature as the remote has it."""
        return self._work / "cache" / name

    def _is_cached(self, path: Path) -> bool:
        """Whether a file here is as the remote has it."""
        cached = self._cached(f"{path.parent.name}/{path.name}")
        try:
            return (
                not path.is_symlink() and _size(path) == _size(cached) >= 0 and path.read_bytes() == cached.read_bytes()
            )
        except OSError:
            return False

    def _is_there(self, manifest: Path, backup: catalog.Backup) -> bool:
        """Whether a manifest here is the remote's; of one that is signed every byte counts."""
        return self._is_cached(manifest) if backup.signature is not None else _same(manifest, backup.manifest)

    # --- bring it -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Fetch what is missing, prove it, and put it in its place."""
        if not self._changes:
            return
        try:
            self._prepare()
            if self._missing:
                self._bring()
            self._prove()
            with Lock(self._dir):
                if self._target == self._aside:
                    self._put_aside()
                else:
                    self._put_in_place()
        except OSError as error:
            raise BackupError(
                f"{error.filename or self._target}: {error.strerror}: mend the backup folder's disk, owner or mode; "
                "what arrived is kept for the next fetch"
            ) from None
        shutil.rmtree(self._work.parent / "arriving", ignore_errors=True)

    def _prepare(self) -> None:
        """Make room for what arrives: of a fetch that was cut, only what belongs to this one is of use."""
        for old in [*self._arriving.parent.parent.glob("*/*")]:
            if old != self._arriving:
                shutil.rmtree(old)
        self._arriving.mkdir(mode=0o700, parents=True, exist_ok=True)
        wanted = {name for item in self._missing for name in item.files}
        for path in [*self._arriving.rglob("*")]:
            if not path.is_dir() and str(path.relative_to(self._arriving)) not in wanted:
                path.unlink()
        needed = sum(item.files[name] for item in self._missing for name in self._absent(item)) + _RESERVE
        free = free_bytes(self._dir)
        if free < needed:
            raise BackupError(
                f"the backup folder {self._dir} has {free} bytes free, this fetch needs {needed}: free some "
                f"(older fetches are in {self._dir / _ASIDE}), or move stack_backup_dir to a larger disk"
            )

    def _absent(self, item: _Item) -> list[str]:
        """Names of the item's files that have not arrived at their full size."""
        return [name for name, size in item.files.items() if _size(self._arriving / name) != size]

    def _bring(self) -> None:
        names = [name for item in self._missing for name in self._absent(item)]
        failed: Optional[BackupError] = None
        try:
            if names:
                progress.step("offsite", f"fetches {len(names)} files", self._arriving)
                self._rclone.copy_from(names, self._arriving)
        except BackupError as error:
            failed = error
        absent = [name for item in self._missing for name in self._absent(item)]
        if not absent:
            return
        if not failed or absent[0] not in self._rclone.list():
            raise BackupError(
                f"{self._rclone.remote}/{absent[0]} was removed, or changed, while it was fetched; nothing was placed. "
                "Fetch another recovery point, or latest again"
            )
        raise failed

    def _prove(self) -> None:
        """What arrived is what was backed up. What is not goes, so that the next fetch brings it anew."""
        for item in self._missing:
            fault = item.fault(self._arriving)
            if fault:
                path = self._arriving / item.name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                raise BackupError(
                    f"{self._rclone.remote}/{item.name} is not what was backed up: it {fault}. Nothing was placed; see who "
                    f"changed it, and restore another recovery point than {self._point}"
                )

    # --- place it -----------------------------------------------------------------------------------------------------

    def _put_in_place(self) -> None:
        """Data, then manifests, each where it belongs; what is there already is what was looked at before."""
        manifests = []
        for backup in self._backups.values():
            store = self._target / backup.store
            if store.is_symlink():
                raise BackupError(f"{store} is a symbolic link: the folder of a store must be a folder")
            store.mkdir(mode=0o700, exist_ok=True)
            hand_over(store, self._target)
            manifests += [name for name in self._draft(backup) if not os.path.lexists(self._target / name)]
        for item in self._missing:
            self._rename(item.name)
        for name in manifests:
            sync((self._target / name).parent)  # the artifact's name is on disk before its manifest is
            self._rename(name)
        for backup in self._backups.values():
            sync(self._target / backup.store)
        sync(self._target)
        shutil.rmtree(self._dir / _ASIDE, ignore_errors=True)

    def _rename(self, name: str) -> None:
        settle([self._arriving / name])
        target = self._target / name
        if os.path.lexists(target):
            raise BackupError(f"{target} came into being while the recovery point was fetched: fetch again")
        (self._arriving / name).rename(target)
        hand_over_tree(target)

    def _put_aside(self) -> None:
        """The whole point at once, in the place of what was fetched there before."""
        for item in self._items:
            path = self._arriving / item.name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            if item not in self._missing:
                good = self._at_hand[item.name] / item.name
                _link(good, path)
        for backup in self._backups.values():
            self._draft(backup)
            store = self._arriving / backup.store
            settle(sorted(store.iterdir()))
            store.chmod(0o700)
            sync(store)
        shutil.rmtree(self._dir / _ASIDE, ignore_errors=True)
        self._aside.parent.mkdir(mode=0o700)
        self._arriving.rename(self._aside)
        hand_over_tree(self._dir / _ASIDE)
        sync(self._aside)
        sync(self._aside.parent)
        sync(self._dir)

    def _draft(self, backup: catalog.Backup) -> list[str]:
        """The signature and the manifest, as the remote has them, among what arrived; their names, the manifest's last."""
        path = manifest_path(self._arriving, backup.store, backup.point)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        name = str(path.relative_to(self._arriving))
        names = [*signature(backup), name]
        for one in names:
            shutil.copyfile(self._cached(one), self._arriving / one)
        return names

    def answer(self) -> dict[str, Any]:
        """What was, or in check mode would be, fetched, and where it is."""
        return {
            "changed": self._changes,
            "point": self._point,
            "dir": str(self._target),
            "source_stack": self._source,
            "fetched": [{"file": item.name, "size": item.size} for item in self._missing],
            "bytes": sum(item.size for item in self._missing),
            "notes": self._notes,
            "seconds": round(time.monotonic() - self._began, 3),
        }


def _items(backup: catalog.Backup) -> list[_Item]:
    root, files = backup.artifact.parent.parent, files_of(backup)
    items = []
    for path, entry in backup.files().items():
        name = str(path.relative_to(root))
        mine = {file: size for file, size in files.items() if file == name or file.startswith(f"{name}/")}
        items.append(_Item(name, str(entry["sha256"]), mine))
    return items


def _link(source: Path, target: Path) -> None:
    """Another name of a file, or of each file of a folder."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=os.link, dirs_exist_ok=True)
    else:
        os.link(source, target)


def _same(path: Path, manifest: dict[str, Any]) -> bool:
    """Whether a file is this manifest."""
    try:
        return not path.is_symlink() and bool(content.load(path) == manifest)
    except (OSError, ValueError):
        return False


def _size(path: Path) -> int:
    """Bytes of a file; -1 when there is none."""
    return path.lstat().st_size if path.is_file() else -1
