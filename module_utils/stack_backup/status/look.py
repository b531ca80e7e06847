"""Looks at what there is of a stack's backups, and puts it together as data for people's tables and pages."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Iterable, Optional

from ..catalog import Backup, Catalog
from ..cron import runs
from ..errors import BackupError
from ..journal import needed
from ..monitor.facts import Facts, epoch, gather, point_time
from ..retention import Point, Policy, points_of
from ..sizes import MIN_SHARE, usual
from .preview import DAY, Preview, expected, play

__all__ = ["look"]

_CALENDAR = 26 * 7  # days that are told one by one; what is older, by month
_NEXT = 366 * DAY  # how far a job's next run may be
_DRILLS, _RESTORES = 20, 5
_SHOWN = 5  # ids and reasons of what goes with one prune


def look(params: dict[str, Any], now: Optional[float] = None) -> dict[str, Any]:
    """Everything at once; the parameters are those of the module stack_status. What can't be read is told in ``error``.

    Times are seconds since 1970. A point's ``bytes`` are those of its artifacts, its ``seconds`` those of its slowest store.
    """
    facts = gather(params, time.time() if now is None else now)
    told: dict[str, Any] = {
        "changed": False,
        "stack": params["stack"],
        "at": int(facts.now),
        "error": facts.folder_error or facts.catalog_error,
        "newest": None,
        "trend": None,
        "totals": {"points": 0, "complete": 0, "bytes": 0},
        "points": [],
        "days": [],
        "months": [],
        "drills": [],
        "restores": _restores(facts),
        "offsite": None,
        "retention": None,
        "next": _next(facts),
        "disk": None if facts.free is None else {"free": facts.free, "total": facts.total},
    }
    if facts.catalog is not None:
        told.update(_catalog(facts, facts.catalog, params))
    return told


def _catalog(facts: Facts, found: Catalog, params: dict[str, Any]) -> dict[str, Any]:
    """What the catalog tells."""
    retention, preview, points = _retention(facts, found, params)
    away = facts.offsite.get("points", {})
    rows = [_row(found, point, preview, away) for point in points]
    whole = [row for row in rows if row["complete"] and not row["safety"]]
    ours = {name for _when, name in facts.points()}
    newest = next((row for row in reversed(whole) if row["id"] in ours), None)
    drills = [{"id": row["id"], **row["drill"]} for row in rows if row["drill"]]
    return {
        "newest": newest,
        "trend": _trend(whole, newest, found),
        "totals": {
            "points": len(rows),
            "complete": len(whole),
            "bytes": sum(row["bytes"] for row in rows),
        },
        "points": rows[-int(params["points"]) :],
        "days": _days(rows, facts.now),
        "months": _months(rows, facts.now),
        "drills": sorted(drills, key=lambda drill: drill["at"])[-_DRILLS:],
        "offsite": _offsite(facts, rows, ours),
        "retention": retention,
    }


def _row(found: Catalog, point: Point, preview: Optional[Preview], away: dict[str, Any]) -> dict[str, Any]:
    backups = found.known(point.id).values()
    goes = preview.goes.get(point.id) if preview else None
    return {
        "id": point.id,
        "complete": point.id in found.points and found.complete(point.id),
        "fault": point.fault,
        "safety": point.safety,
        "bytes": sum(point.sizes.values()),
        "seconds": round(max((float(backup.manifest["seconds"]["total"]) for backup in backups), default=0.0), 1),
        "offsite": int(away[point.id]["since"]) if point.id in away else None,
        "drill": _drill(list(found.points.get(point.id, {}).values())),
        "keeps": preview.keep.get(point.id, "") if preview else "",
        "goes": int(goes[0]) if goes else None,
    }


def _drill(backups: list[Backup]) -> Optional[dict[str, Any]]:
    """The last drill of a point's stores, which it restores one after the other; None where there was none."""
    drills = {backup.store: backup.verified for backup in backups if backup.verified}
    if not drills:
        return None
    return {
        "at": int(max(epoch(drill.get("at")) or 0.0 for drill in drills.values())),
        "ok": all(drill["ok"] for drill in drills.values()),
        "stores": sorted(drills),
        "missing": sorted({backup.store for backup in backups} - set(drills)),
        "seconds": round(sum(_number(drill.get("seconds")) for drill in drills.values()), 1),
        "restore_seconds": round(sum(map(_restoring, drills.values())), 1),
        "error": "; ".join(f"{store}: {drill['error']}" for store, drill in drills.items() if drill.get("error")),
    }


def _restoring(drill: dict[str, Any]) -> float:
    """Seconds of a drill in which a server was started, filled and asked, without those in which the backup was proven."""
    checked = drill.get("checked")
    seconds = checked.get("seconds") if isinstance(checked, dict) else None
    return _number(seconds.get("total")) if isinstance(seconds, dict) else 0.0


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _trend(whole: list[dict[str, Any]], newest: Optional[dict[str, Any]], found: Catalog) -> Optional[dict[str, Any]]:
    """The newest point's size against the median of the seven before it that have the same stores."""
    if not newest:
        return None
    stores = found.asked(newest["id"])
    sizes = [row["bytes"] for row in whole if row["id"] <= newest["id"] and found.asked(row["id"]) == stores]
    before = usual(sizes, MIN_SHARE)
    if not before or not before.size:
        return None
    return {"usual": int(before.size), "of": before.of, "change": round(newest["bytes"] / before.size - 1, 4)}


def _age(row: dict[str, Any], now: float) -> float:
    when = point_time(row["id"])
    return now - when if when is not None else float("inf")


def _days(rows: list[dict[str, Any]], now: float) -> list[dict[str, Any]]:
    """The days of the last half year that have points, in UTC, with the last complete one's size and seconds."""
    days: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["safety"] or _age(row, now) > _CALENDAR * DAY:
            continue
        empty = {
            "day": row["id"][:8],
            "points": 0,
            "complete": 0,
            "drilled": 0,
            "failed": 0,
            "bytes": None,
            "seconds": None,
        }
        day = days.setdefault(row["id"][:8], empty)
        day["points"] += 1
        if row["drill"]:
            day["drilled" if row["drill"]["ok"] else "failed"] += 1
        if row["complete"]:
            day.update(complete=day["complete"] + 1, bytes=row["bytes"], seconds=row["seconds"])
    return list(days.values())


def _months(rows: list[dict[str, Any]], now: float) -> list[dict[str, Any]]:
    """The months before that, with the median of their complete points' sizes and seconds."""
    from statistics import median  # as in sizes.py

    months: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["complete"] and not row["safety"] and _CALENDAR * DAY < _age(row, now) < float("inf"):
            months.setdefault(row["id"][:6], []).append(row)
    return [
        {
            "month": month,
            "points": len(group),
            "bytes": int(median(row["bytes"] for row in group)),
            "seconds": round(median(row["seconds"] for row in group), 1),
        }
        for month, group in months.items()
    ]


def _restores(facts: Facts) -> list[dict[str, Any]]:
    """The last restores that measured how long the data was away."""
    return [
        {
            "id": journal.id,
            "point": str(journal.data.get("point")),
            "downtime": _number(journal.data["downtime_seconds"]),
        }
        for journal in facts.journals
        if journal.data.get("downtime_seconds")
    ][-_RESTORES:]


def _offsite(facts: Facts, rows: list[dict[str, Any]], ours: Iterable[str]) -> Optional[dict[str, Any]]:
    """What is known of the remote; None where there is none."""
    if not facts.offsite:
        return None
    there = facts.offsite["points"]
    here = {row["id"] for row in rows}
    lacking = sorted(set(ours) - set(there) - set(facts.offsite["pruned"]))
    return {
        "remote": facts.offsite["remote"],
        "at": int(facts.offsite["at"]) or None,
        "points": len(there),
        "newest": max(there, default=None),
        "lacking": len(lacking),
        "only_there": len(set(there) - here),
    }


def _retention(
    facts: Facts, found: Catalog, params: dict[str, Any]
) -> tuple[dict[str, Any], Optional[Preview], list[Point]]:
    """What goes in the days to come, or why that can't be told; and every point."""
    days = int(params["preview_days"])
    told: dict[str, Any] = {"days": days, "error": "", "held": "", "supposed": False, "prunes": 0, "goes": []}
    try:
        policy = Policy.parse(params)
        points = points_of(found, needed(Path(params["backup_dir"])))
    except (BackupError, OSError) as error:
        return {**told, "error": str(error)}, None, points_of(found, {})
    newest = max((when for when, _name in facts.points()), default=facts.now)
    events, supposed = expected(facts.scheduled, newest, facts.now, days)
    preview = play(points, policy, events, facts.now)
    told.update(held=preview.held, supposed=supposed, goes=_groups(preview, points))
    told["prunes"] = sum(event.job == "prune" for event in events)
    return told, preview, points


def _groups(preview: Preview, points: list[Point]) -> list[dict[str, Any]]:
    """What goes, by the prune that removes it: after a change of the rules that may be thousands at once."""
    sizes = {point.id: sum(point.sizes.values()) for point in points}
    prunes: dict[float, list[str]] = {}
    for name, (at, _why) in preview.goes.items():
        prunes.setdefault(at, []).append(name)
    return [
        {
            "at": int(at),
            "points": len(names),
            "bytes": sum(sizes[name] for name in names),
            "ids": sorted(names)[-_SHOWN:],
            "why": sorted({preview.goes[name][1] for name in names})[:_SHOWN],
        }
        for at, names in sorted(prunes.items())
    ]


def _next(facts: Facts) -> dict[str, int]:
    """When each scheduled job runs next."""
    found: dict[str, int] = {}
    for job, times in facts.scheduled.items():
        for fields in times:
            try:
                start = next(runs(fields, facts.now, facts.now + _NEXT), None)
            except ValueError:
                continue  # not of this program, and cron may know it
            if start is not None:
                found[job] = min(int(start), found.get(job, int(start)))
    return found
