"""What is wrong with the backups of a stack: pure functions from facts to findings.

A finding is ``{check, status, message}``: status 0 is well, 1 a warning, 2 critical, 3 could not be found out;
the message is one sentence, with the cure where there is something to mend.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator, Mapping, Optional, Sequence

from ..catalog import UNTRUSTED
from ..journal import FINAL
from ..postgres.advisory import outdated
from ..report import size_text
from ..sizes import usual
from .facts import FUTURE, Facts, epoch, point_time

__all__ = ["CRITICAL", "OK", "UNKNOWN", "WARNING", "ago", "findings", "forecast_seconds", "last_drills", "worst"]

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
Finding = dict[str, Any]
Params = Mapping[str, Any]
_HOUR, _DAY = 3600.0, 86400.0
_STARTING = 60.0  # a restore that began so lately may just be ending
_LONGEST = 8 * _HOUR  # two modules of a job, each with the usual time limit of four hours
_SETTLED = _HOUR  # what is half-written or lies without its manifest for less may belong to a job at work
_RESERVE = 256 * 1024 * 1024  # what a backup wants free beside its size (point.py)
_ZONE_NEW = 8 * _DAY  # so long after a change of the time zone a job may be late by it: a week, and the usual slack
_SHOWN = 3


def worst(found: Sequence[Mapping[str, Any]]) -> int:
    """The status of all: critical before unknown before warning."""
    return max((int(item["status"]) for item in found), key=(OK, WARNING, UNKNOWN, CRITICAL).index, default=OK)


def ago(seconds: float) -> str:
    """A length of time in a person's words."""
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (60.0, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.0f} s"


def _finding(check: str, status: int, message: str) -> Finding:
    return {"check": check, "status": status, "message": message}


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more


def _folder(facts: Facts, _params: Params) -> Iterator[Finding]:
    if facts.folder_error:
        yield _finding("folder", CRITICAL, facts.folder_error)


def _state(facts: Facts, _params: Params) -> Iterator[Finding]:
    if facts.state_error:
        yield _finding("state", WARNING, facts.state_error)


def _point(facts: Facts, params: Params) -> Iterator[Finding]:
    if facts.catalog_error:
        yield _finding("point", CRITICAL, facts.catalog_error)
    if facts.catalog is None:
        return
    points = facts.points()
    if not points:
        yield _finding(
            "point", CRITICAL, "there is no complete recovery point: run playbooks/backup.yml and see what it says"
        )
        return
    when, name = points[-1]
    age, limit = facts.now - when, float(params["max_age_hours"]) * _HOUR
    if age > limit:
        yield _finding(
            "point",
            CRITICAL,
            f"the newest complete recovery point {name} is {ago(age)} old, more than {ago(limit)}: "
            "see the last backup's error, whether cron runs and the schedule is there, then run playbooks/backup.yml",
        )
    else:
        yield _finding("point", OK, f"the newest complete recovery point {name} is {ago(max(age, 0))} old")


def _incomplete(facts: Facts, _params: Params) -> Iterator[Finding]:
    found = facts.catalog
    names = [name for name in found.points if not found.safety(name)] if found else []
    if not found or not names or found.complete(names[-1]):
        return
    backups = found.points[names[-1]]
    told = next(iter(backups.values())).manifest["point"]
    missing = sorted(set(told["stores"]) - set(backups))
    failed = told.get("failed") or {}
    why = _some([str(failed[name]) for name in missing if name in failed]) or "its backup is not there"
    yield _finding(
        "incomplete",
        CRITICAL,
        f"the newest recovery point {names[-1]} lacks {', '.join(missing)}: {why}: mend that, then run playbooks/backup.yml",
    )


def _jobs(facts: Facts, params: Params) -> Iterator[Finding]:
    for name, hours in (params.get("jobs") or {}).items():
        yield _job(facts, str(name), float(hours) * _HOUR)
    for name in sorted(set(facts.records) - set(params.get("jobs") or {}) - {"check"}):
        yield _job(facts, name, 0.0)


def _zone(facts: Facts, _params: Params) -> Iterator[Finding]:
    if facts.scheduled and 0 < facts.cron_since < facts.zone_since <= facts.now:
        yield _finding(
            "zone",
            WARNING,
            f"the host's time zone changed {ago(facts.now - facts.zone_since)} ago and cron goes by the old one: "
            "run playbooks/install.yml, or systemctl restart cron",
        )


def _due_since(facts: Facts, since: float) -> float:
    """From when on the next run is waited for: by a new zone's clock it may come nearly a period later than usual."""
    recent = facts.now - facts.zone_since < _ZONE_NEW
    return max(since, facts.zone_since, facts.cron_since) if recent else since


def _job(facts: Facts, name: str, period: float) -> Finding:
    check, log = f"job_{name}", "see the job's log"
    record = facts.records.get(name)
    if name in facts.record_errors:
        return _finding(check, UNKNOWN, f"{facts.record_errors[name]}: move it away, the next run writes a new one")
    if record is None:
        if name not in facts.scheduled:
            return _finding(check, OK, f"job {name} is not scheduled on this host")
        waited = facts.now - facts.scheduled_since
        if facts.now - _due_since(facts, facts.scheduled_since) > period:
            return _finding(
                check,
                CRITICAL,
                f"job {name} never ran, though it is scheduled for {ago(waited)}: "
                f"see that cron runs (systemctl status cron), and run stack-backup run {name} by hand",
            )
        return _finding(check, OK, f"job {name} is scheduled and did not run yet")
    started, ended = epoch(record["started_at"]) or 0.0, epoch(record.get("ended_at"))
    age = facts.now - started
    if ended is None:
        if name in facts.running and age < _LONGEST:
            return _finding(check, OK, f"job {name} runs since {ago(max(age, 0))}")
        return _finding(
            check,
            CRITICAL,
            f"job {name} started {ago(age)} ago and never ended: it hangs, was killed or the machine went down: "
            f"{log}, then run stack-backup run {name}",
        )
    if not record.get("ok"):
        points = facts.points()
        if name == "backup" and points and points[-1][0] > ended:
            return _finding(
                check, OK, f"job backup failed {ago(age)} ago; the recovery point {points[-1][1]} was complete since"
            )
        if name == "offsite" and facts.offsite and facts.offsite["at"] > ended:
            return _finding(check, OK, f"job offsite failed {ago(age)} ago; a copy ended well since")
        error = str(record.get("error") or "it says no error").strip()
        return _finding(check, CRITICAL, f"job {name} failed {ago(age)} ago: {error}: mend that, {log}")
    if period and facts.now - _due_since(facts, started) > period and name in facts.scheduled:
        return _finding(
            check,
            CRITICAL,
            f"job {name} ran last {ago(age)} ago, more than {ago(period)}: "
            "see that cron runs (systemctl status cron) and that the schedule is as it should be",
        )
    return _finding(check, OK, f"job {name} ran {ago(max(age, 0))} ago")


def _programs(facts: Facts, _params: Params) -> Iterator[Finding]:
    """Of the newest point: what took it has holes that are known."""
    points = facts.points()
    for store, backup in sorted(facts.catalog.points[points[-1][1]].items()) if facts.catalog and points else ():
        told = backup.manifest.get("client_version")
        if backup.manifest["engine"] == "postgres" and isinstance(told, int):
            image = str((backup.manifest.get("source") or {}).get("image"))
            wrong = outdated(told, image)
            yield _finding(
                f"programs_{store}", WARNING if wrong else OK, wrong or f"no hole is known in the programs of {image}"
            )


def _catalog(facts: Facts, _params: Params) -> Iterator[Finding]:
    if facts.catalog is None:
        return
    lost: list[str] = []
    left: list[str] = []
    others: list[str] = []
    foreign = 0
    for item in facts.catalog.problems:
        text, kind = f"{item['path']}: {item['message']}", item["problem"]
        if kind == "damaged" or (kind == "orphaned" and item["path"].endswith(".json")):
            lost.append(text)
        elif kind == "foreign":
            foreign += 1
        elif kind in UNTRUSTED:
            continue  # as _signatures tells
        elif facts.now - facts.touched.get(item["path"], facts.now) > _SETTLED:
            (others if kind == "orphaned" else left).append(text)
    if lost:
        yield _finding(
            "catalog", CRITICAL, f"{_some(lost)}: not usable: find what changed it, and take a new recovery point"
        )
    if left:
        yield _finding("leftovers", WARNING, f"{_some(left)}: of no use: run playbooks/prune.yml, or remove it")
    if others:
        cure = "stack-backup adopt takes a whole dump into the catalog; else remove it"
        yield _finding("leftovers", WARNING, f"{_some(others)}: {cure}")
    if not lost and not left and not others:
        more = f", beside {foreign} files of others" if foreign else ""
        yield _finding("catalog", OK, f"all {len(facts.catalog.points)} recovery points have their files{more}")


def _signatures(facts: Facts, params: Params) -> Iterator[Finding]:
    if facts.catalog is None or not params.get("allowed_signers"):
        return
    found: dict[str, list[str]] = {kind: [] for kind in UNTRUSTED}
    for item in facts.catalog.problems:
        if item["problem"] in found:
            found[item["problem"]].append(f"{item['path']}: {item['message']}")
    wrong = [*found["untrusted"], *found["removed"]]
    if facts.set_back:
        wrong.append(facts.set_back)
    if wrong:
        yield _finding("signatures", CRITICAL, _some(wrong))
    elif found["unchained"]:
        yield _finding("signatures", WARNING, _some(found["unchained"]))
    else:
        yield _finding(
            "signatures", OK, f"all {len(facts.catalog.points)} recovery points are signed, and none is missing"
        )


def _digest(facts: Facts, _params: Params) -> Iterator[Finding]:
    if facts.catalog is None:
        return
    bad = [entry["error"] for _path, entry in sorted(facts.digests.items(), reverse=True) if entry["error"]]
    if bad:
        yield _finding(
            "digest",
            CRITICAL,
            f"{_some(bad)}: the disk or someone changed it: check the disk (smartctl, dmesg), take a new recovery point",
        )
        return
    if not facts.digests:
        yield _finding("digest", OK, "no file was read again yet: each check on the host reads some")
        return
    oldest = min(entry["at"] for entry in facts.digests.values())
    yield _finding(
        "digest", OK, f"{len(facts.digests)} files were as written when read, within {ago(max(facts.now - oldest, 0))}"
    )


def _sizes(facts: Facts, params: Params) -> Iterator[Finding]:
    found, share = facts.catalog, float(params["min_size_share"])
    series: dict[str, list[int]] = {}
    for _when, name in facts.points():
        for store, backup in (found.points[name] if found else {}).items():
            series.setdefault(store, []).append(int(backup.manifest["artifact"]["size"]))
    for store, sizes in sorted(series.items()):
        before, last = usual(sizes, share), size_text(sizes[-1])
        if before and not before.kept:
            yield _finding(
                f"size_{store}",
                CRITICAL,
                f"the newest backup of {store} has {last}, its predecessors had {size_text(before.size)}: see that the data is "
                "still there; if so, this clears with the next backups, or lower monitor_min_size_share",
            )
        elif before:
            yield _finding(f"size_{store}", OK, f"the newest backup of {store} has {last}, as usual")


def last_drills(facts: Facts) -> dict[str, dict[str, Any]]:
    """Each store's newest drill, whatever backup it was of."""
    drills = [
        (epoch(backup.verified.get("at")) or 0.0, store, backup.verified)
        for backups in (facts.catalog.points if facts.catalog else {}).values()
        for store, backup in backups.items()
        if backup.verified
    ]
    return {store: drill for _when, store, drill in sorted(drills, key=lambda item: item[0])}


def _drill(facts: Facts, params: Params) -> Iterator[Finding]:
    found, days = facts.catalog, float(params["max_drill_days"])
    points = facts.points()
    if found is None or not points or not days:
        return
    last = last_drills(facts)
    cure = "run playbooks/verify.yml and see what it says"
    stores = sorted(found.points[points[-1][1]])
    failed = [f"{store}: {last[store].get('error')}" for store in stores if store in last and not last[store]["ok"]]
    never = [store for store in stores if store not in last]
    if failed:
        yield _finding("drill", CRITICAL, f"the last drill failed: {_some(failed)}: mend that, then {cure}")
        return
    if never:
        late = facts.now - points[0][0] > days * _DAY
        yield _finding(
            "drill",
            WARNING if late else OK,
            f"no backup of {', '.join(never)} was ever drilled: {cure}"
            if late
            else f"{', '.join(never)}: not drilled yet",
        )
        return
    age = max(facts.now - (epoch(last[store].get("at")) or 0) for store in stores)
    if age > days * _DAY:
        yield _finding("drill", WARNING, f"the last drill was {ago(age)} ago, more than {days:g} d: {cure}")
    else:
        yield _finding("drill", OK, f"the last drill, {ago(max(age, 0))} ago, restored every store")


def _offsite(facts: Facts, params: Params) -> Iterator[Finding]:
    if not facts.offsite or facts.catalog is None:
        return
    remote, limit = params["offsite_remote"], float(params["offsite_max_age_hours"]) * _HOUR
    cure = "see what job offsite says, or run playbooks/offsite.yml"
    points, last, there = facts.points(), facts.offsite["at"], facts.offsite["points"]
    known = {*there, *facts.offsite["pruned"]}
    behind = [name for when, name in points if name not in known and facts.now - when > limit]
    if not last:
        # Since when it could have been copied: a schedule that is new has its first night before it.
        since = max(points[0][0] if points else facts.now, facts.scheduled_since if "offsite" in facts.scheduled else 0)
        late = facts.now - since > limit
        text = f"nothing was ever copied to {remote}"
        yield _finding("offsite", CRITICAL if late else OK, f"{text}: {cure}" if late else f"{text} yet")
    elif facts.now - last > limit:
        yield _finding(
            "offsite",
            CRITICAL,
            f"the last copy to {remote} that ended well was {ago(facts.now - last)} ago, more than {ago(limit)}: {cure}",
        )
    elif behind:
        yield _finding(
            "offsite",
            CRITICAL,
            f"not at {remote}, and older than {ago(limit)}: {_some(['recovery point ' + name for name in behind[::-1]])}: {cure}",
        )
    else:
        age = ago(max(facts.now - last, 0))
        yield _finding("offsite", OK, f"{len(there)} recovery points are at {remote}, copied last {age} ago")


def _disk(facts: Facts, params: Params) -> Iterator[Finding]:
    if facts.free is None:
        return
    points = facts.points()
    backups = facts.catalog.points[points[-1][1]].values() if facts.catalog and points else ()
    needs = sum(int(backup.manifest["artifact"]["size"]) for backup in backups) * 6 // 5 + _RESERVE
    cure = "free some, keep fewer points (retention_keep_*), or move stack_backup_dir to a larger disk"
    room = f"the backups' disk has {size_text(facts.free)} of {size_text(facts.total)} free"
    forecast = forecast_seconds(facts)
    if backups and facts.free < needs:
        yield _finding("disk", CRITICAL, f"{room}, the next recovery point may take {size_text(needs)}: {cure}")
    elif facts.free < facts.total * float(params["min_free_share"]):
        yield _finding("disk", WARNING, f"{room}, less than {float(params['min_free_share']):.0%}: {cure}")
    elif forecast is not None and forecast < float(params["forecast_days"]) * _DAY:
        yield _finding("disk", WARNING, f"{room}, and at the pace of late is full in {ago(forecast)}: {cure}")
    else:
        yield _finding("disk", OK, room)


def forecast_seconds(facts: Facts) -> Optional[float]:
    """Seconds until the disk is full if the backups go on growing as they did, None when they don't."""
    if facts.free is None or not facts.growth or facts.growth <= 0:
        return None
    return facts.free / facts.growth


def _access(facts: Facts, _params: Params) -> Iterator[Finding]:
    if facts.free is None:
        return
    if facts.open:
        yield _finding("access", WARNING, f"others can read or replace it: {_some(facts.open)}: chmod go-rwx")
    else:
        yield _finding("access", OK, "backups and secrets are their owner's alone")


def _restore(facts: Facts, _params: Params) -> Iterator[Finding]:
    if facts.journal_error:
        yield _finding("restore", CRITICAL, facts.journal_error)
        return
    for journal in facts.journals:
        age = facts.now - float(journal.data.get("began_at") or 0)
        if journal.phase in FINAL:
            continue
        if facts.busy and age < _LONGEST:
            yield _finding("restore", OK, f"restore {journal.id} is at work, in phase {journal.phase}")
        elif age > _STARTING:
            yield _finding(
                "restore",
                CRITICAL,
                f"restore {journal.id} of point {journal.data.get('point')} was interrupted in phase {journal.phase}: "
                "take it back with playbooks/restore.yml -e restore_resume=back",
            )


def _clock(facts: Facts, _params: Params) -> Iterator[Finding]:
    names = facts.catalog.points if facts.catalog else ()
    ahead = [f"recovery point {name}" for name in names if (point_time(name) or 0) > facts.now + FUTURE]
    ahead += [
        f"the record of job {name}"
        for name, record in sorted(facts.records.items())
        if (epoch(record["started_at"]) or 0) > facts.now + FUTURE
    ]
    if ahead:
        yield _finding(
            "clock",
            CRITICAL,
            f"of the future: {_some(ahead)}: the clock jumped: see that it is right (timedatectl), and move "
            "recovery points with a wrong time out of the backup folder",
        )


def _alerts(facts: Facts, _params: Params) -> Iterator[Finding]:
    for channel, failed in sorted(facts.undelivered.items()):
        yield _finding(
            "alerts",
            WARNING,
            f"{channel} could not be reached since {ago(max(facts.now - float(failed['since']), 0))}: {failed['error']}: "
            "mend the address, the secret's file or the way there",
        )


_CHECKS: dict[str, Callable[[Facts, Params], Iterator[Finding]]] = {
    "folder": _folder,
    "point": _point,
    "incomplete": _incomplete,
    "jobs": _jobs,
    "zone": _zone,
    "catalog": _catalog,
    "programs": _programs,
    "signatures": _signatures,
    "digest": _digest,
    "size": _sizes,
    "drill": _drill,
    "offsite": _offsite,
    "disk": _disk,
    "access": _access,
    "restore": _restore,
    "clock": _clock,
    "state": _state,
    "alerts": _alerts,
}


def findings(facts: Facts, params: Params) -> list[Finding]:
    """Every finding. A check that fails by itself is one of status 3, and keeps no other from being done."""
    found: list[Finding] = []
    for name, look in _CHECKS.items():
        try:
            found += look(facts, params)
        except Exception as error:  # noqa: BLE001 - a monitor that dies of one odd file tells nothing of the others
            found.append(_finding(name, UNKNOWN, f"check {name} ended in an error: {type(error).__name__}: {error}"))
    return found
