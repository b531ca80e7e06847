"""Which recovery points stay and which go, and why: pure functions, without disk and clock.

The rules are restic's (``restic-forget(1)``, "Removing snapshots according to a policy" in its manual): each counts by
itself, and a point stays when any of them keeps it; ``keep_daily: 7`` keeps the newest point of each of the last seven
calendar days *that have a good one*, so that days without a backup use nothing up (borg counts on where the rule before
it stopped); weeks are ISO weeks, from Monday; ``keep_within`` reaches back from the newest point, not from now. So time
alone removes nothing, and a second run finds nothing to do. Unlike restic from 0.17 on, the oldest point isn't kept for
a count that isn't full.

Where restic groups snapshots by what they hold, a set of stores is judged by all points that have at least these: a dump
of Redis alone never displaces a point that has Postgres too, and goes when whole points have taken its place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, Callable, Mapping, Optional, Sequence
from zoneinfo import ZoneInfo

from .catalog import Catalog
from .errors import BackupError
from .sizes import MIN_SHARE, usual

__all__ = ["LEFTOVER_AGE", "Plan", "Point", "Policy", "is_stale", "plan", "points_of"]

LEFTOVER_AGE = timedelta(days=1)
_SPAN = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
# The period a local time is in. The hour that daylight saving repeats is two hours: their offsets differ.
_PERIODS: dict[str, Callable[[datetime], str]] = {
    "last": lambda local: local.astimezone(timezone.utc).strftime("%Y%m%d-%H%M%S"),
    "hourly": lambda local: local.strftime("%Y-%m-%dT%H%z"),
    "daily": lambda local: local.strftime("%Y-%m-%d"),
    "weekly": lambda local: local.strftime("%G-W%V"),
    "monthly": lambda local: local.strftime("%Y-%m"),
    "yearly": lambda local: local.strftime("%Y"),
}


@dataclass(frozen=True)
class Point:
    """A recovery point, as far as retention goes."""

    id: str
    stores: frozenset[str]  # what it was taken of
    sizes: Mapping[str, int]  # bytes of the artifact, of each store whose backup is whole
    fault: str = ""  # why it is not good
    verified: frozenset[str] = frozenset()  # stores whose last drill restored
    safety: bool = False  # taken by a restore of what it was to replace
    pinned: str = ""  # why it stays whatever the rules say
    begun: bool = False  # its removal was interrupted

    @property
    def good(self) -> bool:
        """Whether it counts for the rules."""
        return not (self.fault or self.safety or self.begun)


@dataclass(frozen=True)
class Policy:
    """What to keep. ``counts`` by the names of the periods; ``prefix`` begins the names of the variables it came from."""

    counts: Mapping[str, int]
    prefix: str = "retention"
    within: Optional[timedelta] = None
    zone: tzinfo = timezone.utc
    incomplete: timedelta = timedelta(days=7)
    safety: timedelta = timedelta(days=7)
    max_age: Optional[timedelta] = None
    min_share: float = MIN_SHARE
    force: bool = False

    @classmethod
    def parse(cls, params: Mapping[str, Any], prefix: str = "retention") -> Policy:
        """The policy in the parameters of backup_prune. Raises BackupError that names the variable and the cure."""
        counts = {name: _count(f"{prefix}_keep_{name}", params.get(f"keep_{name}")) for name in _PERIODS}
        within = params.get("keep_within")
        if not any(counts.values()) and not within:
            raise BackupError(
                f"every {prefix}_keep_* is 0 or not given, which would keep no history at all: "
                f"set at least one, e.g. {prefix}_keep_daily: 7"
            )
        hours = _number(f"{prefix}_max_age_hours", params.get("max_age_hours"), 26.0)
        return cls(
            counts=counts,
            prefix=prefix,
            within=_span(f"{prefix}_keep_within", within) if within else None,
            zone=_zone(f"{prefix}_timezone", params.get("timezone") or "UTC"),
            incomplete=_span(f"{prefix}_keep_incomplete", params.get("keep_incomplete") or "7d"),
            safety=_span(f"{prefix}_keep_safety", params.get("keep_safety") or "7d"),
            max_age=timedelta(hours=hours) if hours else None,
            min_share=_number(f"{prefix}_min_share", params.get("min_share"), MIN_SHARE, at_most=1.0),
            force=bool(params.get("force")),
        )

    @staticmethod
    def is_off(params: Mapping[str, Any]) -> bool:
        """Whether no rule is given at all."""
        return not any(params.get(f"keep_{name}") for name in (*_PERIODS, "within"))


def _count(name: str, value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BackupError(f"{name} is {value!r}: give how many to keep, 0 or more")
    return value


def _number(name: str, value: Any, default: float, at_most: float = 1e6) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= at_most:
        raise BackupError(f"{name} is {value!r}: give a number from 0 (never asks) to {at_most:g}")
    return float(value)


def _span(name: str, value: Any) -> timedelta:
    match = _SPAN.fullmatch(str(value))
    if not match:
        raise BackupError(f"{name} is {value!r}: give hours, days or weeks, as in '48h', '14d' or '4w'")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _zone(option: str, name: str) -> tzinfo:
    if name == "UTC":
        return timezone.utc  # also where the host has no time zone data
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise BackupError(
            f"{option} is {name!r}, which this host does not know: "
            "take a name as in 'Europe/Berlin', and install tzdata there"
        ) from None


@dataclass
class Plan:
    """Every point's fate by its id: the reasons to keep it, or the one to remove it."""

    keep: dict[str, list[str]] = field(default_factory=dict)
    remove: dict[str, str] = field(default_factory=dict)
    held: str = ""  # why nothing may be removed now

    def refusal(self, policy: Policy, **details: Any) -> BackupError:
        """The error of a plan that is held."""
        return BackupError(
            f"nothing was removed, because {self.held}. Mend what is wrong and take a new recovery point "
            f"(playbooks/backup.yml); if it is as it should be, prune once with -e {policy.prefix}_force=true",
            **details,
        )


def points_of(found: Catalog, needed: Mapping[str, str]) -> list[Point]:
    """Every point of a catalog; ``needed``: by id, why a point stays whatever the rules say."""
    points = []
    for name in sorted({*found.points, *found.broken, *found.unreadable, *found.untrusted, *found.begun}):
        whole = found.points.get(name, {})
        pinned = needed.get(name, "")
        if name in found.unreadable:
            pinned = f"it may not be ours, see what it is: {found.unreadable[name]}"
        elif name in found.untrusted:
            pinned = "it may not be ours, see what it is, then sign it or remove it by hand"
        points.append(
            Point(
                id=name,
                stores=frozenset(found.asked(name)),
                sizes={store: backup.manifest["artifact"]["size"] for store, backup in whole.items()},
                fault=found.fault(name),
                verified=frozenset(store for store, backup in whole.items() if (backup.verified or {}).get("ok")),
                safety=found.safety(name),
                pinned=pinned,
                begun=name in found.begun,
            )
        )
    return points


def is_stale(point: str, now: datetime) -> bool:
    """Whether what a job of that id left, and did not end, is older than a day."""
    return point < (now - LEFTOVER_AGE).strftime("%Y%m%d-%H%M%S")


def _time(point: str) -> Optional[datetime]:
    try:
        at = datetime.strptime(point, "%Y%m%d-%H%M%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return at if at.year >= 1970 else None


def plan(points: Sequence[Point], policy: Policy, now: datetime) -> Plan:
    """What to keep and to remove of ``points``, in any order, at ``now`` (UTC).

    The newest good point and the newest verified one always stay. When the newest point is not as it should be,
    ``held`` says so, and nothing goes.
    """
    answer = Plan()
    past: list[tuple[datetime, Point]] = []
    for point in sorted(points, key=lambda item: item.id):
        at = _time(point.id)
        if at is None:
            answer.keep[point.id] = ["its id is no time"]
        elif at > now:
            answer.keep[point.id] = ["it is of the future: the clock was set back"]
        else:
            past.append((at, point))
    good = [(at, point) for at, point in reversed(past) if point.good]
    reasons = _rules(good, policy)
    for at, point in past:
        why = [*([point.pinned] if point.pinned else []), *reasons.get(point.id, [])]
        if why:
            answer.keep[point.id] = why
        elif point.begun:
            answer.remove[point.id] = "its removal was interrupted"
        elif point.good:
            answer.remove[point.id] = "no rule keeps it"
        else:
            stays, text = _apart(point, now - at, [item for _, item in good], policy)
            answer.keep.update({point.id: [text]} if stays else {})
            answer.remove.update({} if stays else {point.id: text})
    if not policy.force:
        answer.held = "; ".join(_troubles(past, good, policy, now))
    if answer.held:
        answer.keep.update({name: [f"nothing goes now ({text})"] for name, text in answer.remove.items()})
        answer.remove.clear()
    return answer


def _rules(good: list[tuple[datetime, Point]], policy: Policy) -> dict[str, list[str]]:
    """The reasons to keep good points, which come newest first; always in the same order."""
    reasons: dict[str, set[tuple[int, str]]] = {}

    def keep(point: Point, rank: int, why: str) -> None:
        reasons.setdefault(point.id, set()).add((rank, why))

    for stores in {point.stores for _, point in good}:
        having = [(at, point) for at, point in good if point.stores >= stores]
        keep(having[0][1], 0, "newest")
        for _, point in [item for item in having if item[1].verified >= item[1].stores][:1]:
            keep(point, 1, "newest verified")
        for rank, (name, period) in enumerate(_PERIODS.items(), 2):
            # Not in order of time: where clocks go back over midnight, a date comes twice.
            seen: set[str] = set()
            for at, point in having:
                if len(seen) == policy.counts.get(name, 0):
                    break
                key = period(at.astimezone(policy.zone))
                if key not in seen:
                    seen.add(key)
                    keep(point, rank, name if name == "last" else f"{name} {key}")
        for at, point in having:
            if policy.within and at > having[0][0] - policy.within:
                keep(point, 9, f"within {_text(policy.within)}")
    # Where drills are of some stores only.
    for store in {name for _, point in good for name in point.stores}:
        for _, point in [item for item in good if store in item[1].verified][:1]:
            keep(point, 1, "newest verified" if point.verified >= point.stores else f"newest verified {store}")
    return {name: [why for _, why in sorted(found)] for name, found in reasons.items()}


def _apart(point: Point, age: timedelta, good: list[Point], policy: Policy) -> tuple[bool, str]:
    """Whether a point stays that no rule counts, and why."""
    what, limit = ("a restore's safety backup", policy.safety) if point.safety else (point.fault, policy.incomplete)
    if age <= limit:
        return True, f"{what}: stays for {_text(limit)}"
    if not any(item.id > point.id and item.stores >= set(point.sizes) for item in good):
        return True, f"{what}: no newer good point has what it has"
    return False, f"{what}: older than {_text(limit)}"


def _troubles(
    past: list[tuple[datetime, Point]], good: list[tuple[datetime, Point]], policy: Policy, now: datetime
) -> list[str]:
    """Why the newest points are no ground to remove older ones."""
    if not good:
        return ["there is no good recovery point up to now"]
    newest_at, newest = good[0]
    troubles = []
    for at, point in reversed(past):
        replaced = any(item.id > point.id and item.stores >= point.stores for _, item in good)
        recent = point.id > newest.id or now - at <= policy.incomplete
        if point.fault and not point.safety and not point.begun and recent and not replaced:
            troubles.append(f"recovery point {point.id} is the newest of its stores and not good: {point.fault}")
            break
    if policy.max_age and now - newest_at > policy.max_age:
        age = (now - newest_at).total_seconds() / 3600
        troubles.append(
            f"the newest good recovery point, {newest.id}, is {age:.1f} hours old, "
            f"more than {policy.prefix}_max_age_hours ({_text(policy.max_age)})"
        )
    for store in sorted({name for _, point in good for name in point.sizes}):
        having = [point for _, point in reversed(good) if store in point.sizes]
        before = usual([point.sizes[store] for point in having], policy.min_share)
        if before and not before.kept:
            troubles.append(
                f"store {store} has {having[-1].sizes[store]} bytes in recovery point {having[-1].id}, less than "
                f"{policy.min_share:g} ({policy.prefix}_min_share) of {before.size:.0f}, the median of the {before.of} before it"
            )
    return troubles


def _text(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours / 24:g}d" if hours % 24 == 0 else f"{hours:g}h"
