"""The drill: a recovery point restored into throw-away containers, asked the smoke queries, and removed again."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable

from . import catalog, postgres, progress, redis
from .age import identity_of
from .artifact import Lock, manifest_path, write_json
from .containers import Docker
from .errors import BackupError, Unsound
from .process import Deadline, raise_on_signals
from .signing import signers_of
from .verify import image_of, prove, refuse_damaged

__all__ = ["drill"]

_DRILLS: dict[str, Callable[..., dict[str, Any]]] = {"postgres": postgres.drill, "redis": redis.drill}


def drill(params: dict[str, Any]) -> dict[str, Any]:
    """Restore a point into containers without network; the parameters are those of the module backup_drill.

    Writes beside each backup what the drill showed of it. Raises BackupError, with the report as details, when one does not restore.
    """
    backup_dir = Path(params["backup_dir"])
    docker = Docker(Deadline(float(params["timeout"])))
    with raise_on_signals(docker.deadline), Lock(backup_dir):
        docker.remove_leftovers(str(backup_dir))
        found = catalog.read(backup_dir, params.get("stack"), identity_of(params), signers_of(params))
        refuse_damaged(found, params["point"])
        point = found.choose(params["point"])
        backups = [
            found.points[point][name]
            for name in params.get("only") or found.points[point]
            if name in found.points[point]
        ]
        missing = sorted(set(params.get("only") or []) - {backup.store for backup in backups})
        if missing:
            raise BackupError(
                f"recovery point {point} has no store {', '.join(missing)}: it has {', '.join(found.points[point])}"
            )
        reports = [_one(docker, params, backup_dir, backup) for backup in backups]
    answer = {"changed": True, "point": point, "complete": found.complete(point), "stores": reports}
    told = []
    for report in reports:
        if not report["ok"]:
            what = "does not restore" if report["conclusive"] else "could not be tried to the end"
            told.append(f"store {report['store']} {what}: {report['error']}")
    if told:
        raise BackupError(f"the drill of recovery point {point} failed: {' | '.join(told)}", **answer)
    return answer


def _one(docker: Docker, params: dict[str, Any], backup_dir: Path, backup: catalog.Backup) -> dict[str, Any]:
    began, conclusive = time.monotonic(), True
    result: dict[str, Any] = {"ok": True, "error": "", "at": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    try:
        progress.step(backup.store, "prove")
        prove(docker, backup_dir, backup)
        progress.step(backup.store, "restore")
        run = _DRILLS[backup.manifest["engine"]]
        result["checked"] = run(
            docker,
            image_of(docker, backup),
            backup,
            backup_dir,
            memory=params["memory"],
            queries=params.get("smoke_queries") or [],
        )
    except BackupError as error:
        # What is held against a backup makes retention drop it sooner: so only what the backup itself is to blame for.
        result.update(ok=False, error=str(error))
        conclusive = isinstance(error, Unsound)
    progress.step(backup.store, "done" if result["ok"] else "failed")
    result["seconds"] = round(time.monotonic() - began, 3)
    told = {"store": backup.store, "engine": backup.manifest["engine"], "file": str(backup.artifact)}
    if not conclusive:
        return {**told, **result, "conclusive": False}
    record = catalog.verified_path(manifest_path(backup_dir, backup.store, backup.point))
    try:
        write_json(record, result)
    except OSError as error:
        unknown = f"the drill's result {record} can't be written, so the catalog does not know it: {error.strerror}"
        result.update(ok=False, error=f"{unknown}: mend the backup folder's disk, owner or mode")
    return {**told, **result, "conclusive": True}
