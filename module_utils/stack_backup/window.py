"""The hours in which a restore may begin."""

from __future__ import annotations

from datetime import datetime, time
from typing import Any, Mapping, Optional
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .errors import BackupError

__all__ = ["require_window"]


def _time(window: Mapping[str, Any], key: str) -> time:
    try:
        return time.fromisoformat(str(window[key]))
    except (KeyError, ValueError):
        raise BackupError(
            f'restore_window: {key} must be a time such as "02:00" (quoted), not {window.get(key)!r}'
        ) from None


def require_window(window: Optional[Mapping[str, Any]], now: datetime) -> None:
    """Refuse a moment outside ``{from, to, timezone}``; ``now`` is aware of its zone. Raises BackupError.

    From the first minute on, up to but not including the last; past midnight when ``to`` is before ``from``.
    """
    if not window:
        return
    begin, end = _time(window, "from"), _time(window, "to")
    name = str(window.get("timezone") or "UTC")
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BackupError(
            f"restore_window: this host knows no timezone {name!r}: use a name such as Europe/Zurich, or install tzdata"
        ) from None
    local = now.astimezone(zone).time()
    inside = begin <= local < end if begin <= end else local >= begin or local < end
    if not inside:
        raise BackupError(
            f"it is {local:%H:%M} in {name}, outside the restore window {begin:%H:%M} to {end:%H:%M}: "
            "wait for it, or give -e restore_outside_window=true"
        )
