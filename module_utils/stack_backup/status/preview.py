"""What retention will remove, and when: the days to come, played through by retention's own plan. Pure functions."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Iterable, Iterator, Mapping, NamedTuple, Sequence

from ..cron import runs
from ..retention import Point, Policy, plan

__all__ = ["Event", "Preview", "expected", "play"]

DAY = 86400.0
_JOBS = ("backup", "verify", "prune")


class Event(NamedTuple):
    """A job that is going to run."""

    at: float  # seconds since 1970
    job: str


class Preview(NamedTuple):
    """The points that go, by id: when and why. ``keep``: why each stays for now; ``held``: why nothing may go now."""

    goes: dict[str, tuple[float, str]]
    keep: dict[str, str]
    held: str


def expected(scheduled: Mapping[str, Sequence[str]], newest: float, now: float, days: int) -> tuple[list[Event], bool]:
    """The runs of the days to come, and whether they are only supposed: where nothing is scheduled, a point each day.

    Of a day's prunes the first is played, so what goes is told to the day: with thousands of points each takes its time.
    """
    until = now + days * DAY
    known = {job: scheduled[job] for job in _JOBS if job in scheduled}
    if not known:
        first = newest + max(0.0, (now - newest) // DAY + 1) * DAY
        starts = [first + number * DAY for number in range(days)]
        return [Event(at, job) for at in starts if at <= until for job in ("backup", "prune")], True
    events, pruned = [], set()
    for event in sorted(Event(at, job) for job, times in known.items() for at in _all(times, now, until)):
        day = event.at // DAY
        if event.job != "prune" or day not in pruned:
            events.append(event)
        if event.job == "prune":
            pruned.add(day)
    return events, False


def _all(times: Iterable[str], now: float, until: float) -> Iterator[float]:
    for fields in times:
        try:
            yield from runs(fields, now, until)
        except ValueError:
            continue  # not of this program, and cron may know it


def play(points: Sequence[Point], policy: Policy, events: Iterable[Event], now: float) -> Preview:
    """Play the ``events`` through, as if each went well: a backup makes a point like the newest one, a drill proves it."""
    first = plan(points, policy, _utc(now))
    left = {point.id: point for point in points}
    good = [point for point in points if point.good]
    model = max(good, key=lambda point: point.id, default=None)
    goes: dict[str, tuple[float, str]] = {}
    for event in events:
        name = f"{_utc(event.at):%Y%m%d-%H%M%S}"
        if event.job == "backup" and model:
            left[name] = Point(name, model.stores, model.sizes)
        elif event.job == "verify":
            newest = max((name for name, point in left.items() if point.good), default=None)
            if newest:
                left[newest] = replace(left[newest], verified=left[newest].stores)
        elif event.job == "prune":
            # A moment later: a point of the same second is one of the past.
            for gone, why in plan(list(left.values()), policy, _utc(event.at) + timedelta(seconds=1)).remove.items():
                del left[gone]
                goes[gone] = (event.at, why)
    ours = {point.id for point in points}
    return Preview(
        {name: told for name, told in goes.items() if name in ours},
        {name: ", ".join(why) for name, why in first.keep.items()},
        first.held,
    )


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, timezone.utc)
