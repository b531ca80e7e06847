"""When a backup is suspiciously small: one rule, by which retention stops and monitoring speaks up."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

__all__ = ["MIN_SHARE", "Usual", "usual"]

MIN_SHARE = 0.5  # of its predecessors' median
_PREDECESSORS = 7  # so many that long growth does not hide a loss, so few that what shrank for good counts soon


class Usual(NamedTuple):
    """What a store's backups had before the newest one."""

    size: float  # bytes, the median
    of: int  # how many they are
    kept: bool  # whether the newest one has its share of it


def usual(sizes: Sequence[int], min_share: float) -> Optional[Usual]:
    """Compare the last of a store's ``sizes`` (bytes, oldest first) with those before it; None when there are none."""
    *before, last = sizes
    before = before[-_PREDECESSORS:]
    if not before:
        return None
    from statistics import median  # a third of the start of who only reads arguments

    size = median(before)
    return Usual(size, len(before), last >= min_share * size)
