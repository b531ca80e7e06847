"""The recovery points of a bucket: judged by the catalog's rules, then object by object against the manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable, Optional

from ..stack_backup.catalog import Backup, Catalog
from ..stack_backup.offsite import picture
from ..stack_backup.signing import Signers
from .bucket import Bucket
from .errors import Unreadable

__all__ = ["Points"]

_ROOT = Path("/bucket")  # of paths that are nowhere on disk
_SIZE_ONLY, _KEPT, _DOWNLOADED = "size only", "sha256 that the bucket keeps", "sha256 by download"


def _listed(ways: Iterable[str]) -> str:
    return ", ".join(sorted(set(ways)))


class Points:
    """What a prefix holds. Raises BackupError where the bucket can't be read."""

    def __init__(self, bucket: Bucket, stack: str, signers: Optional[Signers] = None) -> None:
        """``signers``: who must have signed the manifests."""
        self._bucket, self._stack, self._signers = bucket, stack, signers
        self._sizes = bucket.sizes()
        self._faults: dict[str, str] = {}  # what the catalog, which knows sizes only, does not see, by point
        self._compared: dict[str, str] = {}
        self.problems: list[dict[str, str]] = []
        self.owner = self._owner()
        self._found = self._catalog()

    def _problem(self, name: str, problem: str, message: str) -> None:
        self.problems.append({"key": self._bucket.url(name), "problem": problem, "message": message})

    def _owner(self) -> Optional[str]:
        """Whose prefix it is, by its mark; None where it has none that can be read."""
        if picture.MARK not in self._sizes:
            return None
        try:
            owner = picture.owner(self._bucket.read(picture.MARK))
        except (Unreadable, ValueError) as error:
            self._problem(picture.MARK, "damaged", str(error))
            return None
        if owner != self._stack:
            self._problem(picture.MARK, "foreign", f"the prefix is of stack {owner}, not {self._stack}")
        return owner

    def _catalog(self) -> Catalog:
        lost: dict[str, str] = {}

        def content(name: str) -> bytes:
            try:
                return self._bucket.read(name)
            except Unreadable as error:
                lost[name] = str(error)
                return b""

        names = [*picture.manifests(self._sizes), *(picture.signatures(self._sizes) if self._signers else [])]
        contents = dict(zip(names, self._bucket.side_by_side(content, names)))
        found = picture.read(_ROOT, self._sizes, lambda name: contents.get(name, b""), self._stack, self._signers)
        for item in found.problems:
            name = str(Path(item["path"]).relative_to(_ROOT))
            self._problem(name, item["problem"], lost.get(name, item["message"]))
        return found

    def _wrong(self, point: str, name: str, message: str) -> None:
        self._faults.setdefault(point, f"{name}: {message}")
        self._problem(name, "damaged", message)

    # --- what is asked of it ------------------------------------------------------------------------------------------

    def ids(self) -> list[str]:
        """Every point with a manifest, oldest first."""
        found = self._found
        return sorted({*found.points, *found.broken, *found.unreadable, *found.untrusted})

    def fault(self, point: str) -> str:
        """Why a point is not whole; empty when it is."""
        return self._found.fault(point) or self._faults.get(point, "")

    def safety(self, point: str) -> bool:
        """Whether a restore took it of what it was about to replace."""
        return self._found.safety(point)

    def names(self, point: str) -> list[str]:
        """The objects of a whole point, manifests too."""
        backups = self._found.points[point].values()
        manifests = [f"{backup.store}/{backup.store}-{point}.json" for backup in backups]
        data = [name for backup in backups for name in (*picture.entries(backup), *picture.signature(backup))]
        return data + manifests

    def compare(self, point: str, *, download: bool) -> None:
        """Compare sha256 of a point's objects: by reading them, or with those that the bucket keeps, where it does."""
        wanted = {
            name: str(entry["sha256"])
            for backup in self._found.points.get(point, {}).values()
            for name, entry in picture.entries(backup).items()
            if self._sizes.get(name) == entry["size"]
        }

        def read(name: str) -> tuple[Optional[str], str]:
            try:
                return (self._bucket.digest(name) if download else self._bucket.head(name).sha256), ""
            except Unreadable as error:
                return None, str(error)

        run = self._bucket.few if download else self._bucket.side_by_side
        for (name, expected), (actual, error) in zip(wanted.items(), run(read, wanted)):
            if error:
                self._wrong(point, name, f"can't be read: {error}")
            elif actual is not None:
                self._compared[name] = _DOWNLOADED if download else _KEPT
                if actual != expected:
                    self._wrong(point, name, f"its sha256 is {actual}, the manifest says {expected}")

    def compared(self, point: str) -> str:
        """How the checksums of a point's objects were compared."""
        backups = self._found.known(point).values()
        return _listed(self._compared.get(name, _SIZE_ONLY) for backup in backups for name in picture.entries(backup))

    def report(self, point: str) -> dict[str, Any]:
        """A point in a person's terms."""
        stores = [self._store(backup) for _store, backup in sorted(self._found.known(point).items())]
        fault = self.fault(point)
        return {
            "id": point,
            "whole": not fault,
            "fault": fault,
            "safety": self.safety(point),
            "size": sum(store["size"] for store in stores),
            "stores": stores,
        }

    def _store(self, backup: Backup) -> dict[str, Any]:
        files: dict[str, list[str]] = {}
        for name in picture.entries(backup):
            files.setdefault("/".join(name.split("/")[:2]), []).append(name)
        told = [
            {
                "name": file,
                "objects": len(names),
                "size": sum(self._sizes.get(name, 0) for name in names),
                "compared": _listed(self._compared.get(name, _SIZE_ONLY) for name in names),
            }
            for file, names in files.items()
        ]
        return {
            "store": backup.store,
            "engine": backup.manifest["engine"],
            "encrypted": backup.encrypted,
            "size": sum(item["size"] for item in told),
            "files": told,
        }
