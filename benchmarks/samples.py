"""What was measured, and what follows from it: medians and ratios."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median
from typing import Optional, Sequence

__all__ = ["Request", "Sample", "Summary", "longest_gap", "percentile", "ratio", "summaries", "within"]

Request = tuple[float, float]  # when its answer came, seconds since 1970, and how long it took, seconds


@dataclass(frozen=True)
class Sample:
    """One backup. ``data`` is the name of what was backed up, ``way`` that of the way; seconds, bytes."""

    data: str
    way: str
    seconds: float
    size: int
    steps: dict[str, float] = field(default_factory=dict)
    peak: int = 0
    child: int = 0


@dataclass(frozen=True)
class Summary:
    """The samples of one way of backing up the same data: medians, extremes of the seconds, peaks of memory."""

    seconds: float
    low: float
    high: float
    size: int
    steps: dict[str, float]
    peak: int
    child: int

    @property
    def rest(self) -> float:
        """Seconds in none of the steps."""
        return self.seconds - sum(self.steps.values())


def _summary(samples: Sequence[Sample]) -> Summary:
    seconds = [sample.seconds for sample in samples]
    return Summary(
        seconds=median(seconds),
        low=min(seconds),
        high=max(seconds),
        size=int(median(sample.size for sample in samples)),
        steps={name: median(sample.steps[name] for sample in samples) for name in samples[0].steps if name != "total"},
        peak=max(sample.peak for sample in samples),
        child=max(sample.child for sample in samples),
    )


def summaries(samples: Sequence[Sample]) -> dict[tuple[str, str], Summary]:
    """By data and way, in the order in which they first came."""
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.data, sample.way), []).append(sample)
    return {key: _summary(group) for key, group in groups.items()}


def ratio(done: dict[tuple[str, str], Summary], data: str, way: str, other: str) -> Optional[float]:
    """Median seconds of ``way`` for each of ``other``'s; None where one was not measured."""
    above, below = done.get((data, way)), done.get((data, other))
    return above.seconds / below.seconds if above and below else None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all do not exceed; 0 of none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


def within(requests: Sequence[Request], begin: float, end: float) -> list[Request]:
    """Those that were answered in that time."""
    return [request for request in requests if begin <= request[0] < end]


def longest_gap(requests: Sequence[Request], begin: float, end: float) -> float:
    """The longest time without an answer that reaches into ``begin`` to ``end``; the requests are in order of time.

    It counts from ``begin`` on, and also past ``end``: what a backup began may end later than it.
    """
    times = [when for when, _took in requests] or [begin]
    times = [min(begin, times[0]), *times, max(end, times[-1])]  # before the first and after the last nothing is known
    return max(later - max(first, begin) for first, later in zip(times, times[1:]) if later > begin and first < end)
