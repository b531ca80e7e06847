"""Copies whole recovery points to the remote: data first, proven there, manifests last. Nothing is ever replaced."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Iterator

from .. import catalog, progress
from ..artifact import manifest_path
from ..errors import BackupError
from ..process import Deadline, raise_on_signals
from ..signing import SUFFIX as SIGNATURE
from ..signing import signers_of
from . import state
from .rclone import Rclone
from .remote import claim, files_of, refuse_foreign, survey

__all__ = ["copy"]

_BATCH_BYTES, _BATCH_POINTS = 256 * 1024 * 1024, 50  # what is copied by one run of rclone: small points together


def copy(params: dict[str, Any], check_mode: bool = False) -> dict[str, Any]:
    """Copy what is good here and not there yet, newest first; the parameters are those of the module offsite_copy.

    Returns what was copied and what is there. Raises BackupError, with the same as details, when something could not be
    copied, or is not at the remote as it was copied.
    """
    deadline = Deadline(float(params["timeout"]))
    backup_dir = Path(params["backup_dir"])
    with raise_on_signals(deadline), state.work_dir(backup_dir) as work:
        job = _Copy(params, deadline, work)
        job.look()
        if not check_mode:
            job.run()
        return job.answer()


class _Copy:
    def __init__(self, params: dict[str, Any], deadline: Deadline, work: Path) -> None:
        self._params, self._work = params, work
        self._dir, self._stack = Path(params["backup_dir"]), str(params["stack"])
        self._signers = signers_of(params)
        self._rclone = Rclone(params, deadline, work)
        self._state = state.load(self._dir, self._rclone.remote)
        self._left_to_download = int(params["download_bytes"])
        self._copied: list[str] = []
        self._checked: list[str] = []
        self._notes: list[str] = []
        self._began = time.monotonic()

    def look(self) -> None:
        """See what is here and there. Raises BackupError where the remote is not what it was."""
        self._remote = survey(
            self._rclone, self._work, state.folder(self._dir) / "manifests", self._stack, self._signers
        )
        refuse_foreign(self._remote)
        self._local = catalog.read(self._dir, self._stack, signers=self._signers)
        known = self._state["points"]
        if known and not self._remote.sizes:
            raise BackupError(
                f"offsite_remote {self._rclone.remote} is empty, and held {len(known)} recovery points: is its disk "
                f"mounted, its bucket the right one? To begin anew remove {state.folder(self._dir)}"
            )
        there = set(self._whole())
        found = self._remote.found
        gone = sorted(known.keys() - found.points.keys() - found.broken.keys() - found.untrusted.keys())
        if gone:
            self._notes.append(
                f"{len(gone)} recovery points are gone from the remote, and not by stack-backup: {', '.join(gone[-3:])}"
            )
        # Pruned ones went by the remote's own retention: not to be brought back every night. Damaged ones are evidence.
        not_wanted = there | set(self._state["pruned"]) | self._damaged()
        here = [point for point in self._local.points if _good(self._local, point)]
        self._missing = [point for point in reversed(here) if point not in not_wanted]

    def _whole(self) -> list[str]:
        found = self._remote.found
        return [point for point in found.points if not found.fault(point)]

    def _damaged(self) -> set[str]:
        """Points with a manifest there and other files than it tells of; where one is missing, it can come again."""
        damaged = [item["path"] for item in self._remote.found.problems if item["problem"] == "damaged"]
        return {point for path in damaged for point in catalog.ids_in(path)}

    def run(self) -> None:
        """Copy, prove, and remember, also what was done before an error."""
        try:
            self._sweep()
            claim(self._remote, self._work, self._stack)
            for batch in self._batches():
                self._copy(batch)
            self._check_again()
        except BackupError as error:
            raise BackupError(str(error), **self.answer()) from None
        finally:
            self._remember()
        wrong = [f"{self._remote.path(item['path'])}: {item['message']}" for item in self._broken()]
        if wrong:
            raise BackupError(
                f"{len(wrong)} files at the remote are not as they were copied: {'; '.join(wrong[:3])}. See who changed "
                "them; remove them there, and the next copy brings them anew if they are here still",
                **self.answer(),
            )
        self._state["at"] = time.time()
        state.save(self._dir, self._state)

    def _sweep(self) -> None:
        """Remove what a copy left that was killed."""
        left = self._remote.cut_off()
        refused = self._rclone.delete(left) if left else ""
        if refused:
            self._notes.append(f"{left[0]} at the remote was cut off, and can't be removed: {refused}")
            return
        self._remote.forget(left)

    def _broken(self) -> list[dict[str, str]]:
        """What is wrong with backups that have their manifest there: what has none is a copy that did not end."""
        return [
            item
            for item in self._remote.found.problems
            if item["problem"] == "damaged"
            or (
                (item["problem"] == "untrusted" or (item["problem"] == "orphaned" and item["path"].endswith(".json")))
                and not set(catalog.ids_in(item["path"])) & set(self._copied)
            )
        ]

    def _batches(self) -> Iterator[list[str]]:
        batch: list[str] = []
        size = 0
        for point in self._missing:
            batch.append(point)
            size += self._size(point)
            if size >= _BATCH_BYTES or len(batch) >= _BATCH_POINTS:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _size(self, point: str) -> int:
        return sum(int(entry["size"]) for backup in self._backups(point) for entry in backup.files().values())

    def _backups(self, point: str) -> list[catalog.Backup]:
        return list(self._local.points[point].values())

    # --- one batch ----------------------------------------------------------------------------------------------------

    def _copy(self, batch: list[str]) -> None:
        while batch:
            try:
                self._place(batch)
                return
            except BackupError:
                # Pruned while it was copied: nothing to copy any more. What is at the remote of it is no point there.
                left = self._still_here(batch)
                if left == batch:
                    raise
                batch = left

    def _still_here(self, points: list[str]) -> list[str]:
        """Those that were not pruned meanwhile; a note tells of the others."""
        now = catalog.read(self._dir, self._stack, signers=self._signers)
        gone = [point for point in points if point not in now.points or not _good(now, point)]
        self._notes += [f"recovery point {point} was pruned here while it was copied" for point in gone]
        return [point for point in points if point not in gone]

    def _place(self, batch: list[str]) -> None:
        """Data, its proof, manifests, their proof."""
        there = self._remote.found.points
        backups = [
            backup for point in batch for backup in self._backups(point) if backup.store not in there.get(point, {})
        ]
        data = {name: size for backup in backups for name, size in files_of(backup).items()}
        self._replace_cut(data, {name for backup in backups for name in self._untold(backup)})
        self._bring([name for name in data if name not in self._remote.sizes])
        self._prove(data)
        manifests = [self._manifest(backup) for backup in backups]
        self._bring([name for name in manifests if name not in self._remote.sizes])
        self._prove(dict.fromkeys(manifests, 0))
        self._copied += batch
        self._checked += batch

    def _bring(self, files: list[str]) -> None:
        if files:
            left = len(self._missing) - len(self._copied)
            progress.step("offsite", f"copies {len(files)} files; {left} of {len(self._missing)} recovery points to go")
            self._rclone.copy_to(self._dir, files)

    def _untold(self, backup: catalog.Backup) -> list[str]:
        """The backup's files that are there while no manifest is: what a copy left that did not end."""
        sizes = self._remote.sizes
        return [] if self._manifest(backup) in sizes else [name for name in files_of(backup) if name in sizes]

    def _replace_cut(self, data: dict[str, int], untold: set[str]) -> None:
        """What no manifest tells of and is not as it is here is copied again."""
        cut = [name for name in untold if self._remote.sizes[name] != data[name]]
        full = sorted(untold - set(cut))
        cut += self._rclone.compare(self._dir, full).different if full else []
        if not cut:
            return
        refused = self._rclone.delete(cut)
        if refused:
            raise BackupError(f"{cut[0]} at the remote was cut off, and can't be replaced: {refused}")
        self._remote.forget(cut)

    def _manifest(self, backup: catalog.Backup) -> str:
        return str(manifest_path(self._dir, backup.store, backup.point).relative_to(self._dir))

    def _prove(self, files: dict[str, int], *, listed: bool = False) -> None:
        """Compare with what is here, by hash, where the remote has one, else by content, up to ``download_bytes``.

        ``listed``: the listing showed them, so that they are looked up one by one now.
        """
        if not files or not self._rclone.check(self._dir, list(files), listed=listed):
            return
        sample = []
        for name, size in files.items():
            if size <= self._left_to_download:
                sample.append(name)
                self._left_to_download -= size
        if len(sample) < len(files):
            self._notes.append(
                f"the remote has no hash to compare by: {len(files) - len(sample)} of {len(files)} files were compared "
                "by size alone (offsite_download_bytes)"
            )
        if sample:
            self._rclone.check(self._dir, sample, download=True, listed=listed)

    def _check_again(self) -> None:
        """Compare points that were copied long ago: what was compared longest ago first."""
        known = self._state["points"]
        whole = [point for point in self._whole() if point in self._local.points and _good(self._local, point)]
        whole.sort(key=lambda point: known.get(point, {}).get("checked", 0.0))
        for point in whole[: int(self._params["check_points"])]:
            files = {name: size for backup in self._backups(point) for name, size in files_of(backup).items()}
            # What was copied before it was signed has no signature there.
            files = {
                name: size for name, size in files.items() if name in self._remote.sizes or not name.endswith(SIGNATURE)
            }
            files.update(dict.fromkeys(map(self._manifest, self._backups(point)), 0))
            try:
                self._prove(files, listed=True)
            except BackupError:
                if self._still_here([point]):
                    raise
                continue
            self._checked.append(point)

    def _there(self) -> list[str]:
        """The whole points at the remote, oldest first."""
        return sorted({*self._copied, *self._whole()})

    # --- what is remembered and told ----------------------------------------------------------------------------------

    def _remember(self) -> None:
        now, known = time.time(), self._state["points"]
        self._state["points"] = {
            point: {
                "since": now if point in self._copied else known.get(point, {}).get("since", now),
                "checked": now if point in self._checked else known.get(point, {}).get("checked", 0.0),
            }
            for point in self._there()
        }
        state.save(self._dir, self._state)

    def answer(self) -> dict[str, Any]:
        """What was, or in check mode would be, copied; what is there, and what is wrong there."""
        there = self._there()
        return {
            "changed": bool(self._copied),
            "stack": self._stack,
            "remote": self._rclone.remote,
            "copied": [{"id": point, "size": self._size(point)} for point in self._copied],
            "missing": [point for point in reversed(self._missing) if point not in self._copied],
            "there": there,
            "newest": there[-1] if there else None,
            "checked": self._checked,
            "problems": self._remote.problems(),
            "notes": self._notes,
            "seconds": round(time.monotonic() - self._began, 3),
        }


def _good(found: catalog.Catalog, point: str) -> bool:
    return not found.fault(point) and not found.safety(point)
