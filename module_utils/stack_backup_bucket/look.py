"""Looks at a bucket: points against their manifests, and what guards it. Changes nothing."""

from __future__ import annotations

import time
from typing import Any, Optional

from ..stack_backup.monitor.check import worst
from ..stack_backup.signing import signers_of
from .bucket import Bucket
from .findings import findings
from .guards import NOT_TOLD, guards, retention
from .points import Points

__all__ = ["look"]


def look(params: dict[str, Any], now: Optional[float] = None) -> dict[str, Any]:
    """Look at everything; the parameters are those of the module offsite_info. Raises BackupError where it can't be read."""
    bucket = Bucket(params)
    points = Points(bucket, str(params["stack"]), signers_of(params))
    download = params["download"]
    if download == "all":
        for point in points.ids():
            points.compare(point, download=True)
    newest = _newest(points, compare=download != "all", download=download == "newest")
    told: dict[str, Any] = {
        "changed": False,
        "url": bucket.url(),
        "owner": points.owner,
        "points": [points.report(point) for point in points.ids()],
        "newest": newest,
        "compared": points.compared(newest) if newest else None,
        "problems": points.problems,
        "bucket": guards(bucket),
        "retention": {"mode": None, "until": None},
    }
    if newest and told["bucket"]["object_lock"] not in ("off", NOT_TOLD):
        told["retention"] = retention(bucket, points.names(newest))
    told["findings"] = findings(told, time.time() if now is None else now, float(params["max_age_hours"]))
    return {**told, "status": worst(told["findings"])}


def _newest(points: Points, *, compare: bool, download: bool) -> Optional[str]:
    """The newest point that is whole, also after its checksums were compared; no safety backup."""
    for point in reversed(points.ids()):
        if points.fault(point) or points.safety(point):
            continue
        if compare:
            points.compare(point, download=download)
        if not points.fault(point):
            return point
    return None
