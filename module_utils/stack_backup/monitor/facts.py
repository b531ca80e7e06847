"""What a check looks at, read once: catalog, job records, disk, journals. Changes nothing, and is never stopped by what is wrong."""

from __future__ import annotations

import calendar
import os
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Callable, Collection, Optional, TypeVar

from .. import catalog, content, cron
from ..errors import BackupError
from ..journal import Journal, journals
from ..offsite import state as offsite
from ..record import is_record
from ..signing import signers_of
from ..stores import ID_PATTERN
from .access import open_to_others

__all__ = ["FUTURE", "Facts", "epoch", "gather", "point_time", "schedule_file", "state_dir"]

FUTURE = 300.0  # seconds by which clocks may differ before a time counts as one of the future
_AGAIN = 1.0  # seconds until a second look at what a job at work may have caused
LOCALTIME, CRON = Path("/etc/localtime"), Path("/run/crond.pid")  # cron writes the latter when it starts
_T = TypeVar("_T")


def state_dir(params: dict[str, Any]) -> Path:
    """Where the host's command keeps the records of its jobs, and the monitor what it remembers."""
    return Path(params.get("state_dir") or f"/var/lib/stack-backup/{params['stack']}")


def schedule_file(params: dict[str, Any]) -> Path:
    """The crontab of the stack's jobs; cron skips files with a dot in their name."""
    return Path(params.get("schedule_file") or f"/etc/cron.d/stack-backup-{params['stack'].replace('.', '__')}")


def epoch(text: Any) -> Optional[float]:
    """Seconds since 1970 of an ISO time; without a zone it is UTC. None for what is no time."""
    try:
        # Python 3.9 and 3.10 read no Z.
        when = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return when.timestamp() if when.tzinfo else float(calendar.timegm(when.timetuple()))


def point_time(point: str) -> Optional[float]:
    """Seconds since 1970 of a recovery point's id. None for one that is no time."""
    # By hand: strptime takes ten times as long, and this is asked of every point again and again.
    if not ID_PATTERN.fullmatch(point):
        return None
    year, month, day, hour, minute, second = (
        int(point[begin:end]) for begin, end in ((0, 4), (4, 6), (6, 8), (9, 11), (11, 13), (13, 15))
    )
    try:
        when = datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None
    return float(calendar.timegm(when.timetuple()))


@dataclass
class Facts:
    """What was found. Times are seconds since 1970; an ``…_error`` says why a part could not be read."""

    now: float
    catalog: Optional[catalog.Catalog] = None
    catalog_error: str = ""
    folder_error: str = ""
    touched: dict[str, float] = field(default_factory=dict)  # when what is wrong in the catalog changed last, by path
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    record_errors: dict[str, str] = field(default_factory=dict)
    scheduled: dict[str, list[str]] = field(default_factory=dict)  # cron times, by job
    scheduled_since: float = 0.0
    zone_since: float = 0.0  # when the host got its time zone
    cron_since: float = 0.0  # when cron began, which keeps the zone of that time; 0 where that is not known
    busy: bool = False  # whether the process that took the stack's lock last is alive
    running: set[str] = field(default_factory=set)  # jobs whose process is alive
    free: Optional[int] = None
    total: int = 0
    open: list[str] = field(default_factory=list)  # of access.open_to_others
    journals: list[Journal] = field(default_factory=list)
    journal_error: str = ""
    digests: dict[str, dict[str, Any]] = field(default_factory=dict)  # of monitor.sample, by path
    growth: Optional[float] = None  # bytes per second
    proofs: set[str] = field(default_factory=set)  # of signatures, see signing.Signers
    set_back: str = ""  # what shows that the folder is as it was before
    offsite: dict[str, Any] = field(default_factory=dict)  # of offsite.state; empty where there is no remote
    undelivered: dict[str, dict[str, Any]] = field(default_factory=dict)  # alert channels that failed, by name
    state_error: str = ""
    _points: Optional[list[tuple[float, str]]] = field(default=None, init=False, repr=False)

    def points(self) -> list[tuple[float, str]]:
        """The complete points that are no safety backups and not of the future, oldest first."""
        found = self.catalog
        if found is None:
            return []
        if self._points is None:  # each check asks, and there may be thousands
            good = [
                (point_time(name), name) for name in found.points if found.complete(name) and not found.safety(name)
            ]
            self._points = sorted((when, name) for when, name in good if when is not None and when <= self.now + FUTURE)
        return self._points


def gather(params: dict[str, Any], now: float, proofs: Collection[str] = ()) -> Facts:
    """Read everything that a check looks at. ``proofs``: of the check before."""
    facts = Facts(now, proofs=set(proofs))
    backup_dir = Path(params["backup_dir"])
    _catalog(facts, backup_dir, params)
    if not facts.folder_error:
        try:
            disk = os.statvfs(backup_dir)
            facts.free, facts.total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        except OSError as error:
            facts.folder_error = f"the disk of {backup_dir} can't be looked at: {error.strerror}"
    if not facts.folder_error:
        try:
            facts.open = _twice(lambda: open_to_others(backup_dir, params))
        except OSError:  # a store's folder that can't be read: the catalog tells of it
            pass
    try:
        facts.journals = journals(backup_dir)
    except BackupError as error:
        facts.journal_error = str(error)
    except OSError as error:
        facts.journal_error = f"the restores' journals can't be read: {error}"
    if params.get("offsite_remote"):
        facts.offsite = offsite.load(backup_dir, str(params["offsite_remote"]))
    _schedule(facts, schedule_file(params))
    facts.busy = _alive(_content(backup_dir / ".lock"))
    _records(facts, state_dir(params))
    if any(not record.get("ended_at") and name not in facts.running for name, record in facts.records.items()):
        time.sleep(_AGAIN)  # it may have ended between the two looks
        _records(facts, state_dir(params))
    return facts


def _twice(read: Callable[[], _T]) -> _T:
    """A job at work may move a file between listing and reading it."""
    try:
        return read()
    except OSError:
        time.sleep(_AGAIN)
        return read()


def _catalog(facts: Facts, backup_dir: Path, params: dict[str, Any]) -> None:
    def look() -> catalog.Catalog:
        signers = signers_of(params)
        if signers:
            signers.known = facts.proofs
        found = catalog.read(backup_dir, params["stack"], signers=signers)
        facts.proofs = signers.proven if signers else set()
        return found

    try:
        found = _twice(look)
        if any(item["problem"] != "foreign" for item in found.problems):
            time.sleep(_AGAIN)  # a file without its manifest may be one that is being published or pruned right now
            before, found = found.problems, _twice(look)
            found.problems = [item for item in found.problems if item in before]
        facts.catalog = found
    except BackupError as error:
        facts.folder_error = str(error)
        return
    except OSError as error:
        facts.catalog_error = f"the catalog of {backup_dir} can't be read: {error}: mend its disk, owner or mode"
        return
    for item in found.problems:
        try:
            facts.touched[item["path"]] = os.lstat(item["path"]).st_ctime  # a rename changes this alone
        except OSError:
            pass


def _schedule(facts: Facts, path: Path) -> None:
    try:
        found = cron.entries(content.read(path).decode("utf-8", "replace"))
        facts.scheduled_since = path.stat().st_mtime
    except (OSError, ValueError):
        return
    facts.zone_since, facts.cron_since = _changed(LOCALTIME), _changed(CRON)
    for job, fields in found:
        facts.scheduled.setdefault(job, []).append(fields)


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_ctime  # a zone is exchanged by a link or a copy, whose own mtime may be old
    except OSError:
        return 0.0


def _records(facts: Facts, folder: Path) -> None:
    facts.records.clear()
    facts.running.clear()
    facts.record_errors.clear()
    for path in sorted(folder.glob("last-*.json")):
        name = path.stem.removeprefix("last-")
        try:
            record = content.load(path)
            if not is_record(record):
                raise ValueError("not of this program")
            facts.records[name] = record
            if _alive(record.get("pid")):
                facts.running.add(name)
        except (OSError, ValueError) as error:
            facts.record_errors[name] = f"{path} can't be read ({error})"


def _content(path: Path) -> str:
    # The lock's own state is not asked for: to ask is to hold it for a moment.
    try:
        return content.read(path, 64).decode("ascii")
    except (OSError, ValueError):
        return ""


def _alive(process: Any) -> bool:
    """Whether there is a process of that number."""
    try:
        return Path("/proc", str(int(process))).exists()
    except (TypeError, ValueError):
        return False
