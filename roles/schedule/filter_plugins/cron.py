"""Cron times: what is wrong with one, and the minute that stands for M."""

from __future__ import annotations

import re
from typing import Any, Callable

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_NAMES = {
    "month": ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    "day of week": ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}
_PART = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?", re.ASCII)
_OWN = re.compile(r"M(?:/(?P<step>\d+))?", re.ASCII)


def _number(text: str, field: str, low: int, high: int) -> int:
    names = _NAMES.get(field, [])
    number = names.index(text.lower()) + low if text.lower() in names else int(text) if text.isdigit() else -1
    if not low <= number <= high:
        raise ValueError(f"{text} is no {field} ({low}-{high})")
    return number


def _check(text: str, field: str, low: int, high: int) -> None:
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if not match:
            raise ValueError(f"{part!r} is no {field}")
        if match["step"] is not None and not 0 < int(match["step"]) <= high:
            raise ValueError(f"{part!r}: the step of a {field} is 1 to {high}")
        if match["first"]:
            first = _number(match["first"], field, low, high)
            if match["last"] and _number(match["last"], field, low, high) < first:
                raise ValueError(f"{part!r} ends before it begins")
            if match["step"] and not match["last"]:
                raise ValueError(f"{part!r}: a step needs a range or *")


def cron_fault(time: Any) -> str:
    """What is wrong with a cron time; empty when cron takes it. cron ignores a whole file for one wrong line."""
    fields = time.split() if isinstance(time, str) else []
    if len(fields) != len(_FIELDS):
        return f"{time!r} has not the five fields minute, hour, day of month, month, day of week"
    try:
        for text, (field, low, high) in zip(fields, _FIELDS):
            own = _OWN.fullmatch(text) if field == "minute" else None
            _check(f"*/{own['step'] or 1}" if own else text, field, low, high)
    except ValueError as error:
        return str(error)
    return ""


def cron_at(time: str, minute: int) -> str:
    """The time with the host's own minute for M; M/15 is every 15 minutes from ``minute`` modulo 15 on."""
    first, rest = time.split(maxsplit=1)
    own = _OWN.fullmatch(first)
    if not own:
        return time
    if not own["step"]:
        return f"{minute} {rest}"
    return f"{minute % int(own['step'])}-59/{own['step']} {rest}"


class FilterModule:
    """The filters, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """By name."""
        return {"cron_fault": cron_fault, "cron_at": cron_at}
