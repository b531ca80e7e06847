"""Pictures of a stack's history as SVG inside the page: each with a title and, in words, what it shows."""

from __future__ import annotations

import calendar as months
from datetime import date, timedelta
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence

from .fleet import day as as_date
from .html import Html, el

__all__ = ["WEEKS", "calendar", "curve", "series"]

WEEKS = 26
_CELL, _STEP, _LEFT, _TOP = 10, 12, 28, 16
_WIDTH, _HEIGHT = 340, 110
_NAMED = 10  # days that a description names


def _svg(key: str, title: str, told: str, height: int, *drawn: Html) -> Html:
    names = (el("title", title, id=f"{key}t"), el("desc", told, id=f"{key}d"))
    box = f"0 0 {_WIDTH} {height}"
    return el("svg", *names, *drawn, viewBox=box, role="img", aria_labelledby=f"{key}t {key}d")


def _text(x: float, y: float, text: str, anchor: Optional[str] = None) -> Html:
    return el("text", text, x=f"{x:g}", y=f"{y:g}", text_anchor=anchor)


def _named(days: Sequence[str]) -> str:
    more = f" and {len(days) - _NAMED} more" if len(days) > _NAMED else ""
    return f" ({', '.join(map(as_date, days[-_NAMED:]))}{more})" if days else ""


def calendar(key: str, stack: str, days: Sequence[Mapping[str, Any]], today: date) -> Html:
    """A square for each day of the last half year, a column for each week from Monday on."""
    begin = today - timedelta(days=today.weekday() + 7 * (WEEKS - 1))
    known = {item["day"]: item for item in days}
    paths: dict[str, list[str]] = {name: [] for name in ("good", "part", "void", "dot", "cross")}
    whole: list[str] = []
    part: list[str] = []
    empty = 0
    first = min(known, default="")
    for number in range((today - begin).days + 1):
        name = f"{begin + timedelta(days=number):%Y%m%d}"
        x, y = _LEFT + number // 7 * _STEP, _TOP + number % 7 * _STEP
        item = known.get(name)
        if item is None:
            empty += name >= first
            paths["void"].append(f"M{x + 4} {y + 4}h2v2h-2z")
            continue
        if item["complete"]:
            whole.append(name)
            paths["good"].append(f"M{x} {y}h{_CELL}v{_CELL}h-{_CELL}z")
        else:
            part.append(name)
            paths["part"].append(f"M{x + 1} {y + 1}h8v8h-8zl8 8m0-8l-8 8")
        if item["complete"] and item["failed"]:
            paths["cross"].append(f"M{x + 2} {y + 2}l6 6m0-6l-6 6")
        elif item["complete"] and item["drilled"]:
            paths["dot"].append(f"M{x + 3} {y + 3}h4v4h-4z")
    told = (
        f"From {begin} to {today}: {len(whole)} days have a complete point, {len(part)} only an incomplete one"
        f"{_named(part)}, {empty} since the oldest have none."
    )
    drawn = [el("path", class_=name, d="".join(path)) for name, path in paths.items() if path]
    labels = [_text(0, _TOP + row * _STEP + 9, name) for row, name in ((0, "Mon"), (2, "Wed"), (4, "Fri"))]
    return _svg(key, f"Recovery points of {stack} by day", told, _TOP + 7 * _STEP, *labels, *_months(begin), *drawn)


def _months(begin: date) -> Iterator[Html]:
    """The name of each month above the week in which it begins."""
    for week in range(WEEKS - 1):
        monday = begin + timedelta(days=7 * week)
        if monday.day <= 7:
            yield _text(_LEFT + week * _STEP, 10, f"{monday:%b}")


def series(told: Mapping[str, Any], field: str) -> list[tuple[float, float]]:
    """What days and months tell of ``bytes`` or ``seconds``, oldest first: seconds since 1970, value."""
    found = [(item["month"] + "15", item[field]) for item in told["months"]]
    found += [(item["day"], item[field]) for item in told["days"] if item[field] is not None]
    return [
        (float(months.timegm((int(name[:4]), int(name[4:6]), int(name[6:8]), 12, 0, 0))), float(value))
        for name, value in found
    ]


def curve(
    key: str,
    title: str,
    values: Sequence[tuple[float, float]],
    text: Callable[[float], str],
    when: Callable[[float], str],
) -> Html:
    """A line over time, from zero on, so that its height does not make a small change look large."""
    (begin, _), (end, newest) = values[0], values[-1]
    highest = max(value for _, value in values)
    lowest = min(value for _, value in values)
    top, bottom = 18.0, _HEIGHT - 16.0
    across, up = (_WIDTH - 8) / max(end - begin, 1.0), (bottom - top) / (highest or 1.0)
    places = [(4 + (at - begin) * across, bottom - value * up) for at, value in values]
    line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    told = (
        f"From {when(begin)} to {when(end)}: smallest {text(lowest)}, largest {text(highest)}, newest {text(newest)}."
    )
    return _svg(
        key,
        title,
        told,
        _HEIGHT,
        el("path", class_="axis", d=f"M0 {bottom:g}h{_WIDTH}M0 {top:g}h{_WIDTH}"),
        el("path", class_="trend", d=line),
        el("circle", class_="end", cx=f"{places[-1][0]:.1f}", cy=f"{places[-1][1]:.1f}", r="3.5"),
        _text(0, 12, f"largest {text(highest)}"),
        _text(_WIDTH, 12, f"newest {text(newest)}", "end"),
        _text(0, _HEIGHT - 3, when(begin)),
        _text(_WIDTH, _HEIGHT - 3, when(end), "end"),
    )
