"""The findings as a Prometheus textfile: written whole, for every reader, or left as it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Mapping, Sequence

from .check import OK, forecast_seconds, last_drills, worst
from .facts import Facts, epoch, point_time

__all__ = ["collect", "render", "write"]

_RPO_WINDOW = 30 * 86400.0
_HELP = {
    "check_status": "Worst finding: 0 well, 1 warning, 2 critical, 3 unknown.",
    "check_timestamp_seconds": "When the check ran.",
    "finding_status": "Status of each finding.",
    "points": "Complete recovery points.",
    "point_timestamp_seconds": "Time of the newest complete recovery point.",
    "point_age_seconds": "Age of the newest complete recovery point.",
    "size_bytes": "Size of each store's newest backup.",
    "duration_seconds": "Seconds that each store's newest backup took.",
    "job_success": "Whether the last run of each job that ended was good.",
    "job_last_run_timestamp_seconds": "When each job started last.",
    "job_last_success_timestamp_seconds": "When each job last ended well.",
    "job_duration_seconds": "Seconds that each job's last run took.",
    "drill_timestamp_seconds": "When each store was drilled last.",
    "drill_age_seconds": "Age of each store's last drill.",
    "drill_success": "Whether each store's last drill restored it.",
    "drill_duration_seconds": "Seconds that each store's last drill took.",
    "offsite_points": "Recovery points at the offsite remote.",
    "offsite_point_timestamp_seconds": "Time of the newest recovery point at the offsite remote.",
    "offsite_last_success_timestamp_seconds": "When a copy to the offsite remote last ended well.",
    "disk_free_bytes": "Free bytes of the backups' disk.",
    "disk_size_bytes": "Size of the backups' disk.",
    "disk_full_forecast_seconds": "Seconds until the disk is full at the growth of late; absent when it does not grow.",
    "rpo_seconds": "Largest gap between complete recovery points of the last 30 days, the one until now included.",
    "rto_seconds": "Seconds that data was away in the last restore, and that the last drill of all stores took.",
    "alert_failed": "Whether an alert channel could not be reached.",
}
Sample = tuple[str, dict[str, str], float]


def collect(
    facts: Facts, findings: Sequence[Mapping[str, Any]], successes: Mapping[str, float], channels: Sequence[str]
) -> list[Sample]:
    """The samples: name without prefix, labels without the stack, value."""
    status: dict[str, int] = {}
    for item in findings:
        status[item["check"]] = worst([item, {"status": status.get(item["check"], OK)}])
    found: list[Sample] = [("check_status", {}, worst(findings)), ("check_timestamp_seconds", {}, facts.now)]
    found += [("finding_status", {"check": name}, value) for name, value in status.items()]
    found += _points(facts)
    found += _offsite(facts)
    for name, record in facts.records.items():
        job = {"job": name}
        found.append(("job_last_run_timestamp_seconds", job, epoch(record["started_at"]) or 0.0))
        if record.get("ended_at"):
            found.append(("job_success", job, float(bool(record.get("ok")))))
            found.append(("job_duration_seconds", job, float(record.get("seconds") or 0)))
    found += [("job_last_success_timestamp_seconds", {"job": name}, when) for name, when in successes.items()]
    if facts.free is not None:
        found += [("disk_free_bytes", {}, facts.free), ("disk_size_bytes", {}, facts.total)]
    forecast = forecast_seconds(facts)
    if forecast is not None:
        found.append(("disk_full_forecast_seconds", {}, forecast))
    found += [("alert_failed", {"channel": name}, float(name in facts.undelivered)) for name in channels]
    return found


def _points(facts: Facts) -> list[Sample]:
    points = facts.points()
    found: list[Sample] = []
    if facts.catalog is not None:
        found.append(("points", {}, len(points)))
    if facts.catalog is not None and points:
        found.append(("point_timestamp_seconds", {}, points[-1][0]))
        found.append(("point_age_seconds", {}, facts.now - points[-1][0]))
        for store, backup in facts.catalog.points[points[-1][1]].items():
            found.append(("size_bytes", {"store": store}, backup.manifest["artifact"]["size"]))
            found.append(("duration_seconds", {"store": store}, backup.manifest["seconds"]["total"]))
        recent = [when for when, _name in points if when > facts.now - _RPO_WINDOW] or [points[-1][0]]
        gaps = [later - earlier for earlier, later in zip(recent, [*recent[1:], max(facts.now, recent[-1])])]
        found.append(("rpo_seconds", {}, max(gaps)))
    drills = last_drills(facts)
    for store, drill in drills.items():
        when, label = epoch(drill.get("at")) or 0.0, {"store": store}
        found.append(("drill_timestamp_seconds", label, when))
        found.append(("drill_age_seconds", label, facts.now - when))
        found.append(("drill_success", label, float(drill["ok"])))
        found.append(("drill_duration_seconds", label, float(drill.get("seconds") or 0)))
    downtimes = [journal.data["downtime_seconds"] for journal in facts.journals if journal.data.get("downtime_seconds")]
    if downtimes:
        found.append(("rto_seconds", {"source": "restore"}, float(downtimes[-1])))
    if drills and all(drill["ok"] for drill in drills.values()):
        took = sum(float(drill.get("seconds") or 0) for drill in drills.values())
        found.append(("rto_seconds", {"source": "drill"}, took))
    return found


def _offsite(facts: Facts) -> list[Sample]:
    if not facts.offsite:
        return []
    there = facts.offsite["points"]
    found: list[Sample] = [("offsite_points", {}, len(there))]
    if there:
        found.append(("offsite_point_timestamp_seconds", {}, point_time(max(there)) or 0.0))
    if facts.offsite["at"]:
        found.append(("offsite_last_success_timestamp_seconds", {}, facts.offsite["at"]))
    return found


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def render(stack: str, samples: Sequence[Sample]) -> str:
    """The text of the file: the samples of a name stand together, below its help and type."""
    lines: list[str] = []
    for name, told in _HELP.items():
        mine = [(labels, value) for given, labels, value in samples if given == name]
        if mine:
            lines += [f"# HELP stack_backup_{name} {told}", f"# TYPE stack_backup_{name} gauge"]
        for labels, value in mine:
            pairs = ",".join(f'{key}="{_escape(text)}"' for key, text in {"stack": stack, **labels}.items())
            lines.append(f"stack_backup_{name}{{{pairs}}} {float(value)!r}")
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Replace the file; the exporter, another user, reads the old one or the new one. Raises OSError."""
    draft = path.with_name(f".{path.name}.new")  # the exporter takes *.prom only
    draft.unlink(missing_ok=True)  # one that is left may be a pipe, or another name of a file elsewhere
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)  # whatever the umask
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
