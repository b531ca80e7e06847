"""What the host's command says, in lines for a person."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Callable, Iterator

__all__ = ["adopted", "age_text", "listing", "size_text", "status", "summary"]


def size_text(size: float) -> str:
    """Bytes, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def age_text(since: datetime) -> str:
    """How long ago, in the largest two units at most."""
    minutes = int((datetime.now(timezone.utc) - since).total_seconds() // 60)
    if minutes < 60:
        return f"{max(minutes, 0)} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _when(text: str) -> str:
    return age_text(datetime.fromisoformat(text))


def _point_age(point: str) -> str:
    try:
        return age_text(datetime.strptime(point, "%Y%m%d-%H%M%S").replace(tzinfo=timezone.utc))
    except ValueError:  # an id that is no time
        return "-"


def _taken(result: dict[str, Any]) -> str:
    stores = ", ".join(f"{store['store']} {size_text(store['size'])}" for store in result["stores"])
    return f"recovery point {result['id']}: {stores}"


def _drilled(result: dict[str, Any]) -> str:
    stores = ", ".join(f"{store['store']} in {store['seconds']:.1f} s" for store in result["stores"])
    return f"recovery point {result['point']} restores{'' if result['complete'] else ', but is INCOMPLETE'}: {stores}"


def _copied(result: dict[str, Any]) -> str:
    size = size_text(sum(point["size"] for point in result["copied"]))
    told = f"{len(result['copied'])} recovery points copied, {size}; {len(result['there'])} at {result['remote']}"
    return "; ".join([told, *result["notes"]])


def _fetched(result: dict[str, Any]) -> str:
    told = f"recovery point {result['point']} is in {result['dir']}, {size_text(result['bytes'])} of it fetched"
    return "; ".join([told, *result["notes"]])


def _thinned(result: dict[str, Any]) -> str:
    if result["off"]:
        return ""
    told = f"{len(result['removed'])} recovery points removed from {result['remote']}, {len(result['kept'])} stay"
    refused = [f"it refused to remove {item['id']}: {item['why']}" for item in result["refused"][:3]]
    return "; ".join([told, *refused])


def _expired(result: dict[str, Any]) -> str:
    return f"removed {', '.join(result['removed'])}" if result.get("removed") else ""


_SUMMARIES: dict[str, Callable[[dict[str, Any]], str]] = {
    "recovery_point": _taken,
    "backup_drill": _drilled,
    "offsite_copy": _copied,
    "offsite_fetch": _fetched,
    "offsite_prune": _thinned,
    "stack_restore": _expired,
}


def summary(results: dict[str, Any]) -> str:
    """What the modules of a job did, in a few words."""
    return "; ".join(
        text for module, result in results.items() if module in _SUMMARIES and (text := _SUMMARIES[module](result))
    )


def _result(record: dict[str, Any]) -> str:
    """What the record of a job says of its modules; nothing where another version wrote it."""
    try:
        return summary(record.get("result") or {})
    except (KeyError, TypeError, ValueError, AttributeError):
        return ""


def adopted(done: dict[str, Any], check: bool) -> Iterator[str]:
    """What was taken into the catalog, what not, and why; ``done``: backup_adopt's answer."""
    for point in done["points"]:
        state = "complete" if point["complete"] else "INCOMPLETE"
        yield f"{'would adopt' if check else 'adopted'} as recovery point {point['id']}, {state}:"
        for store in point["stores"]:
            yield f"  {store['store']} {size_text(store['size'])}: {store['source']}"
    if done["there"]:
        yield f"{len(done['there'])} were adopted before"
    if done["passed_over"]:
        yield f"passed over: {', '.join(done['passed_over'])}"
    for item in done["refused"]:
        yield f"REFUSED: {item['path']}: {item['why']}"


def listing(found: dict[str, Any]) -> Iterator[str]:
    """What can be restored, newest last, and what is wrong; ``found``: backup_info's answer, and ``offsite``: its state."""
    here, there = {point["id"]: point for point in found["points"]}, found["offsite"]["points"]
    if not here and not there:
        yield "there is no recovery point yet"
    row = "{:<17} {:>12}  {:<10}  {:<9} {:<13}  {}"
    if here or there:
        yield row.format("RECOVERY POINT", "AGE", "STATE", "DRILL", "OFFSITE SINCE", "STORES")
    for name in sorted({*here, *there}):
        # Not here: pruned, or not fetched yet (restore_from=offsite).
        state, drill, stores = _told(here[name]) if name in here else ("offsite", "-", "")
        yield row.format(name, _point_age(name), state, drill, _since(there, name), stores).rstrip()
    for problem in found["problems"]:
        yield f"PROBLEM: {problem['path']}: {problem['message']}"


def _told(point: dict[str, Any]) -> tuple[str, str, str]:
    """State, drill and stores of a point."""
    results = [backup["verified"] for backup in point["backups"]]
    drill = "-" if None in results else "ok" if all(result["ok"] for result in results) else "FAILED"
    stores = ", ".join(f"{backup['store']} {size_text(backup['size'])}" for backup in point["backups"])
    state = "INCOMPLETE" if not point["complete"] else "safety" if point["safety"] else "complete"
    return state, drill, stores


def _ago(when: float) -> str:
    try:
        return f"{age_text(datetime.fromtimestamp(when, timezone.utc))} ago"
    except (ValueError, OverflowError, OSError):  # of a clock that was wrong
        return "-"


def _since(there: dict[str, Any], point: str) -> str:
    return _ago(there[point]["since"]) if point in there else "-"


def status(told: dict[str, Any]) -> Iterator[str]:
    """How each job went last, and the newest point."""
    row = "{:<10} {:<8} {:>13}  {:>9}  {}"
    yield row.format("JOB", "STATE", "STARTED", "SECONDS", "").rstrip()
    for job, record in told["jobs"].items():
        if record["state"] == "never":
            yield row.format(job, "never", "-", "-", "").rstrip()
            continue
        seconds = f"{record.get('seconds') or 0:.1f}" if record.get("ended_at") else "-"
        said = record.get("error") or _result(record)
        yield row.format(job, record["state"], f"{_when(record['started_at'])} ago", seconds, said).rstrip()
    latest = told["latest"]
    yield f"newest complete recovery point: {f'{latest}, {_point_age(latest)} old' if latest else 'none'}"
    offsite = told["offsite"]
    if offsite["remote"]:
        newest = max(offsite["points"], default=None)
        point = f"{newest}, since {_since(offsite['points'], newest)}" if newest else "none"
        last = f"copied last {_ago(offsite['at'])}" if offsite["at"] else "no copy ended well yet"
        yield f"newest recovery point at {offsite['remote']}: {point}; {last}"
    if told["problems"]:
        yield f"{len(told['problems'])} problems in the catalog: stack-backup list"
