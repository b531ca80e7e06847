"""Reads backups to their end: digest first, structure after. Changes nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Sequence

from . import catalog, postgres, progress, redis
from .age import identity_of
from .artifact import digest
from .containers import Docker
from .errors import ANOTHER, BackupError, NoImage, Unsound
from .manifest import require_whole
from .process import Deadline, raise_on_signals
from .signing import signers_of

__all__ = ["image_of", "prove", "refuse_damaged", "taken_with", "verify"]

_CHECKS: dict[str, Callable[..., dict[str, Any]]] = {"postgres": postgres.check, "redis": redis.check}


def verify(params: dict[str, Any]) -> dict[str, Any]:
    """Check the backups of one recovery point; the parameters are those of the module backup_verify.

    Of an encrypted backup whose identity is not given the digest is all: its report says ``structure: False``.
    Raises BackupError, with the report as details, when one is not good.
    """
    backup_dir = Path(params["backup_dir"])
    found = catalog.read(backup_dir, params.get("stack"), identity_of(params), signers_of(params))
    point = params.get("point") or "latest"
    refuse_damaged(found, point)
    point = found.choose(point)
    docker = Docker(Deadline(float(params["timeout"])))
    reports = []
    with raise_on_signals(docker.deadline):
        for name, backup in found.points[point].items():
            if params.get("only") and name not in params["only"]:
                continue
            began = time.monotonic()
            progress.step(name, "prove")
            report: dict[str, Any] = {"store": name, "file": str(backup.artifact), "ok": True, "error": ""}
            try:
                report["checked"] = prove(docker, backup_dir, backup, locked=True)
            except BackupError as error:
                report.update(ok=False, error=str(error))
            report["seconds"] = round(time.monotonic() - began, 3)
            reports.append(report)
    if not reports:
        raise BackupError(
            f"recovery point {point} has none of the stores {', '.join(params['only'])}: it has {', '.join(found.points[point])}"
        )
    complete = found.complete(point)
    answer = {"changed": False, "point": point, "complete": complete, "stores": reports}
    errors = [report["error"] for report in reports if not report["ok"]]
    if errors:
        raise BackupError(f"recovery point {point} is not good: {' | '.join(errors)}", **answer)
    return answer


def refuse_damaged(found: catalog.Catalog, point: str) -> None:
    """Raise BackupError when the catalog names something wrong with a point."""
    mine = [item for item in found.problems if f"-{point}." in Path(item["path"]).name]
    if mine:
        raise BackupError(f"recovery point {point}: {mine[0]['path']}: {mine[0]['message']}: {ANOTHER}", problems=mine)


def prove(
    docker: Docker, backup_dir: Path, backup: catalog.Backup, images: Sequence[str] = (), *, locked: bool = False
) -> dict[str, Any]:
    """Read one backup to its end: its files' digests, then its structure. Raises BackupError when it is not good.

    ``locked``: the digests will do for an encrypted one whose identity is not known. ``images``: as for ``image_of``.
    Raises NoImage when the digests are right, and nothing is here that reads the structure.
    """
    require_whole(backup.manifest, backup.artifact)
    readable = not backup.encrypted or backup.identity is not None or not locked
    if readable and backup.encrypted:
        backup.head(docker.deadline)  # the wrong identity is told at once
    for path, expected in backup.files().items():
        # Before any program reads it: an archive can attack the program that restores it.
        try:
            actual = digest(path)["sha256"]
        except OSError as error:
            raise BackupError(f"{path} can't be read: {error.strerror}: mend its disk, owner or mode") from None
        if actual != expected["sha256"]:
            raise Unsound(
                f"{path} is not what was written: its sha256 is {actual}, the manifest says {expected['sha256']}: {ANOTHER}"
            )
    if not readable:
        return {"program": "sha256", "structure": False}
    if backup.encrypted:
        backup.globals(docker.deadline)
    check = _CHECKS[backup.manifest["engine"]]
    return {**check(docker, image_of(docker, backup, images), backup_dir, backup), "structure": True}


def taken_with(backup: catalog.Backup) -> list[str]:
    """The image that the backup was taken with, by its id and by its name."""
    source = backup.manifest["source"]
    return [str(source["image_id"]), str(source["image"])]


def image_of(docker: Docker, backup: catalog.Backup, images: Sequence[str] = ()) -> str:
    """The first of ``images`` that is on this host, by default of those it was taken with. Raises NoImage."""
    wanted = images or taken_with(backup)
    for image in wanted:
        if docker.image_id(image):
            return image
    raise NoImage(f"none of the images {', '.join(wanted)} is on this host: docker pull one that can read the backup")
