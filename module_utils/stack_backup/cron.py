"""What a crontab of ``/etc/cron.d`` runs, and when: pure functions of its text and of the host's time zone."""

from __future__ import annotations

import re
import time
from datetime import date, timedelta
from typing import Iterator

__all__ = ["entries", "runs"]

_RUN = re.compile(r"\brun\s+([A-Za-z0-9_-]+)(?=\s|$)")
_NAMES = {
    3: ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    4: ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
}
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def entries(text: str) -> list[tuple[str, str]]:
    """Each job of the host's own command that is run there, with its five fields."""
    found = []
    for line in text.splitlines():
        if not line.lstrip().startswith("#"):
            fields = " ".join(line.split()[: len(_RANGES)])
            found += [(job, fields) for job in _RUN.findall(line)]
    return found


def _values(text: str, place: int) -> set[int]:
    low, high = _RANGES[place]
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin = low if span == "*" else _number(first, place)
        end = high if span == "*" or (step and not last) else _number(last or first, place)
        found.update(range(begin, end + 1, int(step or 1)))
    return found


def _number(text: str, place: int) -> int:
    names = _NAMES.get(place, ())
    return names.index(text.lower()) + _RANGES[place][0] if text.lower() in names else int(text)


def runs(fields: str, after: float, until: float) -> Iterator[float]:
    """When cron starts what has these five fields, in seconds since 1970, oldest first. Raises ValueError for no time.

    A run that falls into the hour which daylight saving leaves out is told for the hour beside it.
    """
    given = fields.split()
    if len(given) != len(_RANGES):
        raise ValueError(f"{fields!r} has not five fields")
    minutes, hours, days, months, weekdays = (_values(text, place) for place, text in enumerate(given))
    weekdays |= {0} if 7 in weekdays else set()
    # As cron has it: where days of the month and of the week are both named, either will do.
    either = not given[2].startswith("*") and not given[4].startswith("*")
    day = date.fromtimestamp(after) - timedelta(days=1)
    last = date.fromtimestamp(until)
    while (day := day + timedelta(days=1)) <= last:
        of_month, of_week = day.day in days, day.isoweekday() % 7 in weekdays
        if day.month not in months or not (of_month or of_week if either else of_month and of_week):
            continue
        starts = {
            time.mktime((day.year, day.month, day.day, hour, minute, 0, 0, 0, -1))
            for hour in hours
            for minute in minutes
        }
        yield from (start for start in sorted(starts) if after < start <= until)
