"""Removes recovery points from the remote that its own policy does not keep, and what copies left there.

The manifests of a point go first, then its files: a removal that is cut off leaves files that are no backup, and the next
one ends it. What the remote still lists after it was told to delete it was refused, as by an object lock.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Iterable

from .. import catalog, retention
from ..errors import BackupError
from ..journal import needed
from ..process import Deadline, raise_on_signals
from ..signing import signature_path, signers_of
from . import state
from .picture import MARK
from .rclone import Rclone
from .remote import survey

__all__ = ["prune"]


def prune(params: dict[str, Any], check_mode: bool = False) -> dict[str, Any]:
    """Remove what the policy does not keep; the parameters are those of the module offsite_prune.

    Returns what stays and goes, with reasons and bytes, and what the remote refused to remove. Raises BackupError, with the
    same as details, when the newest point there is not as it should be: nothing was removed then.
    """
    if retention.Policy.is_off(params):
        return {"changed": False, "stack": params["stack"], "remote": params["remote"], "off": True, **_NOTHING}
    policy = retention.Policy.parse(params, "offsite")
    deadline = Deadline(float(params["timeout"]))
    with raise_on_signals(deadline), state.work_dir(Path(params["backup_dir"])) as work:
        job = _Prune(params, Rclone(params, deadline, work), work)
        job.plan(policy)
        if not check_mode:
            job.run()
        return job.answer()


_NOTHING: dict[str, Any] = {"kept": [], "removed": [], "cleaned": [], "refused": [], "freed": 0, "problems": []}


@dataclass
class _Removal:
    """A point, or what a copy left of one: names at the remote."""

    name: str
    why: str
    manifests: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    point: bool = True


class _Prune:
    def __init__(self, params: dict[str, Any], rclone: Rclone, work: Path) -> None:
        self._dir, self._stack = Path(params["backup_dir"]), str(params["stack"])
        self._rclone = rclone
        self._state = state.load(self._dir, rclone.remote)
        signers = signers_of(params)
        self._local = catalog.read(self._dir, self._stack, signers=signers)
        self._remote = survey(rclone, work, state.folder(self._dir) / "manifests", self._stack, signers)
        if not self._remote.stack:
            raise BackupError(
                f"offsite_remote {rclone.remote} has no {MARK}, which says whose it is: nothing is removed there; "
                "see that offsite_remote is right, and copy first (playbooks/offsite.yml)"
            )
        self._found = _with_drills(self._remote.found, self._local)
        self._kept: list[dict[str, Any]] = []
        self._removals: list[_Removal] = []
        self._refused: dict[str, str] = {}
        self._left = self._remote.sizes
        self._problems = self._remote.problems()

    # --- what goes ----------------------------------------------------------------------------------------------------

    def plan(self, policy: retention.Policy) -> None:
        """By the rules of the local retention. Raises BackupError when the newest point there is not as it should be."""
        now = datetime.now(timezone.utc)
        plan = retention.plan(retention.points_of(self._found, needed(self._dir)), policy, now)
        self._kept = [
            {"id": name, "why": ", ".join(why), "size": self._size(self._point(name, ""))}
            for name, why in sorted(plan.keep.items())
        ]
        if plan.held:
            raise plan.refusal(policy, **self.answer())
        self._removals = [self._point(name, why) for name, why in plan.remove.items()]
        self._removals += self._leftovers(now)

    def _point(self, name: str, why: str) -> _Removal:
        removal = _Removal(name, why)
        for store, backup in self._found.known(name).items():
            manifest = backup.artifact.parent / f"{store}-{name}.json"
            removal.manifests += self._below([manifest])
            removal.files += self._below([*backup.files(), signature_path(manifest)])
        return removal

    def _leftovers(self, now: datetime) -> list[_Removal]:
        """What copies left that did not end, older than a day by its name; not what the next copy goes on with."""
        coming = set(self._local.points) - set(self._state["pruned"])
        removals = []
        for point, paths in self._found.leftovers.items():
            names = self._below(paths)
            if point not in coming and retention.is_stale(point, now):
                removals += [
                    _Removal(name, "left by a copy that did not end", files=[name], point=False) for name in names
                ]
        return removals

    def _below(self, paths: Iterable[Path]) -> list[str]:
        """The remote's files that a path of the picture is, or that lie in it."""
        tops = {str(path.relative_to(self._remote.picture)) for path in paths}
        return [name for name in self._remote.sizes if name in tops or name.rpartition("/")[0] in tops]

    def _size(self, removal: _Removal) -> int:
        return sum(self._remote.sizes[name] for name in (*removal.manifests, *removal.files))

    # --- remove it ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Remove what was planned, and remember it: a copy must not bring back what is here still."""
        points = [removal for removal in self._removals if removal.point]
        self._remember({removal.name for removal in points})
        self._delete({removal.name: removal.manifests for removal in self._removals})
        self._delete({removal.name: removal.files for removal in self._removals if removal.name not in self._refused})
        self._remember({removal.name for removal in points if not self._left.keys() >= set(removal.manifests)})

    def _delete(self, names: dict[str, list[str]]) -> None:
        """Delete files by name; what is listed after that was refused."""
        files = [name for mine in names.values() for name in mine]
        if not files:
            return
        said = self._rclone.delete(files)
        self._left = self._rclone.list()
        for owner, mine in names.items():
            still = [name for name in mine if name in self._left]
            if still:
                self._refused[owner] = f"{still[0]} is there still: {said or 'the remote said nothing'}"

    def _remember(self, gone: set[str]) -> None:
        here = self._local.points.keys() | self._local.broken.keys()
        pruned = sorted({*self._state["pruned"], *gone} & here)
        points = {point: known for point, known in self._state["points"].items() if point not in gone}
        state.save(self._dir, {**self._state, "pruned": pruned, "points": points})

    def answer(self) -> dict[str, Any]:
        """What stays, and what went or in check mode would go."""
        done = [removal for removal in self._removals if removal.name not in self._refused]
        gone = {self._rclone.remote.rstrip("/") + f"/{name}" for removal in done for name in removal.files}
        told = {removal.name: {"why": removal.why, "size": self._size(removal)} for removal in done}
        return {
            "changed": bool(done),
            "stack": self._stack,
            "remote": self._rclone.remote,
            "off": False,
            "kept": self._kept,
            "removed": [{"id": item.name, **told[item.name]} for item in done if item.point],
            "cleaned": [{"path": item.name, **told[item.name]} for item in done if not item.point],
            "refused": [{"id": name, "why": why} for name, why in sorted(self._refused.items())],
            "freed": sum(item["size"] for item in told.values()),
            "problems": [item for item in self._problems if item["path"] not in gone],
        }


def _with_drills(found: catalog.Catalog, local: catalog.Catalog) -> catalog.Catalog:
    """The remote's catalog with what drills found of the same backups here."""
    points = {
        point: {
            store: replace(backup, verified=mine.verified)
            if (mine := local.points.get(point, {}).get(store)) and mine.manifest == backup.manifest
            else backup
            for store, backup in backups.items()
        }
        for point, backups in found.points.items()
    }
    return replace(found, points=points)
