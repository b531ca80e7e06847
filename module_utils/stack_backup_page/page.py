"""The page: one file, no script, nothing that is loaded."""

from __future__ import annotations

from typing import Sequence

from .detail import badge, detail
from .fleet import COLUMNS, Stack, clock, counts
from .html import Html, Row, el, table
from .style import STYLE

__all__ = ["page"]

_OPEN = 5  # so few stacks are shown whole at once
_SENTENCES = 3  # of a stack, in the list of problems
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(stacks: Sequence[Stack], now: float, title: str) -> str:
    """The whole document; ``stacks`` in the order in which they are shown."""
    bad = [(number, stack) for number, stack in enumerate(stacks) if stack.verdict != "ok"]
    need = f"{len(bad)} of {len(stacks)} stacks {'needs' if len(bad) == 1 else 'need'} a look"
    summary = need if bad else f"all {len(stacks)} stacks are well"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width,initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("meta", name="robots", content="noindex"),
        el("title", f"{title}: {summary}"),
        el("style", Html(STYLE)),
    )
    numbers = ", ".join(f"{number} {verdict}" for verdict, number in counts(stacks))
    made = el("time", f"{clock(now)} UTC", datetime=f"{clock(now).replace(' ', 'T')}Z")
    top = el(
        "header",
        el("h1", title),
        el("p", el("strong", f"{summary[0].upper()}{summary[1:]}"), f" ({numbers})." if stacks else "."),
        el("p", "As of ", made, ": ages and times to come are counted from then. Times are UTC.", class_="dim"),
    )
    opened = len(stacks) <= _OPEN
    each = [detail(stack, number, opened) for number, stack in enumerate(stacks)]
    main = el(
        "main",
        _problems(bad) if bad else None,
        el("h2", "All stacks", id="all"),
        _overview(stacks),
        el("h2", "Stack by stack"),
        *each,
    )
    skip = el("a", "Skip to all stacks", href="#all", class_="skip")
    body = el(
        "body", skip, top, main, el("footer", el("p", "Made by stack-backup, playbooks/status.yml.", class_="dim"))
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def _problems(bad: Sequence[tuple[int, Stack]]) -> Html:
    items = []
    for number, stack in bad:
        told = stack.bad()
        texts = [el("li", f"{word}: {text}") for word, text in told[:_SENTENCES]]
        if len(told) > _SENTENCES:
            texts.append(el("li", f"and {len(told) - _SENTENCES} more"))
        items.append(el("li", badge(stack.verdict), " ", _link(stack, number), el("ul", *texts)))
    return el("section", el("h2", "What needs a look", id="problems"), el("ul", *items), aria_labelledby="problems")


def _link(stack: Stack, number: int) -> Html:
    return el("a", stack.title, href=f"#s{number}")


def _overview(stacks: Sequence[Stack]) -> Html:
    rows: list[Row] = []
    for number, stack in enumerate(stacks):
        cells = stack.cells()
        rows.append([_link(stack, number), badge(stack.verdict), *(cells[name] for name in COLUMNS[1:])])
    return table(
        "The worst first. Trend: the newest point's size against the median of the seven before it.",
        ["Stack", *COLUMNS],
        rows,
    )
