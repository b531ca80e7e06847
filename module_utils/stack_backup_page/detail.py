"""What the page tells of one stack."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Mapping

from ..stack_backup.monitor.check import ago
from ..stack_backup.report import size_text
from .charts import calendar, curve, series
from .fleet import Stack, clock
from .html import Html, Row, el, table

__all__ = ["badge", "detail"]

_POINTS, _DRILLS = 14, 10  # rows


def badge(verdict: str) -> Html:
    """A verdict: a word in a box, so that the colour is never all that tells it."""
    return el("span", verdict, class_=f"v {verdict}")


def detail(stack: Stack, number: int, opened: bool) -> Html:
    """A section; what is not well stands in it for all to see, the rest behind a disclosure."""
    key = f"s{number}"
    bad = [el("li", el("strong", word, class_=word), " ", text) for word, text in stack.bad()]
    parts = [
        el("h3", stack.title, " ", badge(stack.verdict), id=key),
        el("ul", *bad) if bad else None,
    ]
    if stack.told or stack.well():
        inside = el("div", *(_inside(stack, key) if stack.told else ()), _well(stack))
        summary = el("summary", f"Points, growth, drills and retention of {stack.title}")
        parts.append(el("details", summary, inside, open="" if opened else None))
    return el("section", *parts, class_="stack", aria_labelledby=key)


def _well(stack: Stack) -> Html | None:
    well = stack.well()
    if not well:
        return None
    return el("div", el("h4", f"{len(well)} checks are well"), el("ul", *(el("li", text) for text in well)))


def _inside(stack: Stack, key: str) -> list[Html]:
    told = stack.told
    return [
        *_history(stack, key),
        el("h4", "Newest recovery points"),
        _points(told),
        el("h4", "What retention removes, and when"),
        *_retention(told),
        el("h4", "Drills and restores"),
        *_drills(stack),
        el("h4", "Offsite, schedule and disk"),
        _rest(stack),
    ]


def _history(stack: Stack, key: str) -> list[Html]:
    told = stack.told
    today = datetime.fromtimestamp(told["at"], timezone.utc).date()
    legend = (
        "A filled square is a day with a complete point, a crossed box one with incomplete points only, a speck one without any. "
        "A dot inside: drilled, and it restored; a cross inside: it did not."
    )
    found = [el("figure", calendar(f"{key}c", stack.title, told["days"], today), el("figcaption", legend))]
    sizes, seconds = series(told, "bytes"), series(told, "seconds")
    if len(sizes) > 1:
        title = f"of the recovery points of {stack.title}"
        drawn = [
            curve(f"{key}b", f"Size {title}", sizes, size_text, _date),
            curve(f"{key}t", f"Seconds {title}", seconds, "{:.3g} s".format, _date),
        ]
        names = ("Size of a point", "How long a backup took")
        figures = [el("figure", el("figcaption", name), svg) for name, svg in zip(names, drawn)]
        found.append(el("div", *figures, class_="charts"))
    return found


def _date(at: float) -> str:
    return clock(at)[:10]


def _points(told: Mapping[str, Any]) -> Html:
    shown = told["points"][: -_POINTS - 1 : -1]
    totals = told["totals"]
    rows: list[Row] = [
        [
            el("code", point["id"]),
            _state(point),
            size_text(point["bytes"]),
            f"{point['seconds']:g} s",
            _drilled(point["drill"]),
            clock(point["offsite"]) if point["offsite"] else "",
            _fate(point),
        ]
        for point in shown
    ]
    caption = f"{len(shown)} of {totals['points']} points, {size_text(totals['bytes'])} in all; times are UTC"
    return table(caption, ["Point", "State", "Size", "Took", "Drill", "Offsite since", "Stays as, goes on"], rows)


def _state(point: Mapping[str, Any]) -> Html | str:
    if point["safety"]:
        return "safety backup of a restore"
    if point["fault"]:
        return el("span", point["fault"], class_="critical")
    return "complete"


def _drilled(drill: Mapping[str, Any] | None) -> Html | str:
    if not drill:
        return ""
    if not drill["ok"]:
        return el("span", f"failed {clock(drill['at'])}", class_="critical")
    some = f" ({', '.join(drill['stores'])} only)" if drill["missing"] else ""
    return f"restored {clock(drill['at'])}{some}"


def _fate(point: Mapping[str, Any]) -> str:
    goes = f"goes {clock(point['goes'])}" if point["goes"] else ""
    keeps = point["keeps"].removeprefix(f"{point['fault']}: ")  # which stands beside it
    return "; ".join(text for text in (keeps, goes) if text)


def _retention(told: Mapping[str, Any]) -> list[Html]:
    retention = told["retention"]
    if retention is None:
        return [el("p", told["error"] or "The backups can't be read.")]
    if retention["error"]:
        return [el("p", retention["error"])]
    found = []
    if retention["held"]:
        found.append(el("p", el("strong", "Nothing goes now", class_="critical"), f": {retention['held']}"))
    if not retention["goes"]:
        why = "" if retention["prunes"] else ": no prune is scheduled"
        return [*found, el("p", f"Nothing in the next {retention['days']} days{why}.")]
    basis = (
        "if a point is taken and a prune run each day" if retention["supposed"] else "if each scheduled job goes well"
    )
    rows: list[Row] = [
        [clock(item["at"]), str(item["points"]), size_text(item["bytes"]), _ids(item), "; ".join(item["why"])]
        for item in retention["goes"]
    ]
    caption = f"The next {retention['days']} days, {basis}; times are UTC"
    return [*found, table(caption, ["Goes", "Points", "Frees", "Which", "Why"], rows)]


def _ids(item: Mapping[str, Any]) -> Html:
    more = item["points"] - len(item["ids"])
    names = [part for name in item["ids"] for part in (", ", el("code", name))]
    return el("span", *([f"{more} older", *names] if more > 0 else names[1:]))


def _drills(stack: Stack) -> list[Html]:
    told = stack.told
    rows: list[Row] = [
        [
            clock(drill["at"]),
            el("code", drill["id"]),
            "restored" if drill["ok"] else el("span", f"failed: {drill['error']}", class_="critical"),
            f"{drill['seconds']:g} s",
            f"{drill['restore_seconds']:g} s" if drill["restore_seconds"] else "",
        ]
        for drill in told["drills"][: -_DRILLS - 1 : -1]
    ]
    found = [el("p", "No point that is here was ever drilled: run playbooks/verify.yml.")]
    if rows:
        caption = "The last drill of each point that is still here; times are UTC"
        found = [table(caption, ["Drilled", "Point", "Result", "In all", "Restore alone"], rows)]
    if told["restores"]:
        away: list[Row] = [
            [el("code", item["id"]), el("code", item["point"]), f"{item['downtime']:g} s"]
            for item in reversed(told["restores"])
        ]
        found.append(table("Restores of the stack itself", ["Restore", "Point", "Data was away"], away))
    return found


def _rest(stack: Stack) -> Html:
    told, offsite = stack.told, stack.told["offsite"]
    items: list[tuple[str, str]] = [("Remote", offsite["remote"] if offsite else "none: no copy leaves this machine")]
    if offsite:
        items += [
            ("Copied last", f"{clock(offsite['at'])} UTC" if offsite["at"] else "never"),
            ("There", f"{offsite['points']} points, newest {offsite['newest'] or 'none'}"),
            ("Not there yet", f"{offsite['lacking']} points that are here"),
            ("Only there", f"{offsite['only_there']} points"),
        ]
    runs = sorted(told["next"].items(), key=lambda item: item[1])
    items += [(f"Next {job}", f"{clock(at)} UTC, in {ago(max(at - told['at'], 0))}") for job, at in runs]
    if not runs:
        items.append(("Schedule", "none on this host: playbooks/install.yml makes one"))
    if told["disk"]:
        items.append(("Disk", f"{size_text(told['disk']['free'])} of {size_text(told['disk']['total'])} free"))
    return el("dl", *(part for name, text in items for part in (el("dt", name), el("dd", text))))
