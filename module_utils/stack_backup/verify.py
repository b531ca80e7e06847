"""Reads backups to their end: digest first, structure after. Changes nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable

from . import catalog, postgres, redis
from .artifact import digest
from .containers import Docker
from .errors import BackupError
from .process import Deadline, raise_on_signals

__all__ = ["info", "verify"]

_CHECKS: dict[str, Callable[..., dict[str, Any]]] = {"postgres": postgres.check, "redis": redis.check}


def info(params: dict[str, Any]) -> dict[str, Any]:
    """The catalog as data; the parameters are those of the module backup_info."""
    found = catalog.read(Path(params["backup_dir"]), params.get("stack"))
    points = [
        {"id": point, "complete": found.complete(point), "backups": [backup.report() for backup in backups.values()]}
        for point, backups in found.points.items()
    ]
    whole = [point["id"] for point in points if point["complete"]]
    return {"changed": False, "points": points, "latest": whole[-1] if whole else None, "problems": found.problems}


def verify(params: dict[str, Any]) -> dict[str, Any]:
    """Check the backups of one recovery point; the parameters are those of the module backup_verify.

    Raises BackupError, with the report as details, when one is not good.
    """
    backup_dir = Path(params["backup_dir"])
    found = catalog.read(backup_dir, params.get("stack"))
    point = params.get("point") or "latest"
    mine = [item for item in found.problems if f"-{point}." in Path(item["path"]).name]
    if mine:
        raise BackupError(f"recovery point {point}: {mine[0]['path']}: {mine[0]['message']}", problems=mine)
    point = found.choose(point)
    docker = Docker(Deadline(float(params["timeout"])))
    reports = []
    with raise_on_signals():
        for name, backup in found.points[point].items():
            if params.get("only") and name not in params["only"]:
                continue
            began = time.monotonic()
            report: dict[str, Any] = {"store": name, "file": str(backup.artifact), "ok": True, "error": ""}
            try:
                report["checked"] = _verify_one(docker, backup_dir, backup)
            except BackupError as error:
                report.update(ok=False, error=str(error))
            report["seconds"] = round(time.monotonic() - began, 3)
            reports.append(report)
    if not reports:
        raise BackupError(f"recovery point {point} has none of the stores {', '.join(params['only'])}")
    complete = found.complete(point)
    answer = {"changed": False, "point": point, "complete": complete, "stores": reports}
    errors = [report["error"] for report in reports if not report["ok"]]
    if errors:
        raise BackupError(f"recovery point {point} is not good: {' | '.join(errors)}", **answer)
    return answer


def _verify_one(docker: Docker, backup_dir: Path, backup: catalog.Backup) -> dict[str, Any]:
    for path, expected in backup.files().items():
        # Before any program reads it: an archive can attack the program that restores it.
        actual = digest(path)["sha256"]
        if actual != expected["sha256"]:
            raise BackupError(
                f"{path} is not what was written: its sha256 is {actual}, the manifest says {expected['sha256']}"
            )
    image = backup.manifest["source"]["image_id"]
    if docker.call("image", "inspect", image, "--format", "x", check=False).code:
        image = backup.manifest["source"]["image"]
        docker.call("image", "inspect", image, "--format", "x")
    return _CHECKS[backup.manifest["engine"]](docker, image, backup_dir, backup.store, backup.artifact)
