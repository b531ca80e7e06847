"""Elements of a page: what is no element already is text, and escaped. So no name becomes markup."""

from __future__ import annotations

from html import escape
from typing import Optional, Union

__all__ = ["Html", "Row", "cell", "el", "plain", "table"]

_VOID = ("meta", "br", "circle", "path", "line")
_SHORT = 16  # letters of a cell that stay on one line, which leaves the width to those that have more
Content = Union["Html", str, None]


def plain(text: str) -> str:
    """Text without what does things instead of being read: control characters, changes of direction, halves of letters."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "\ufffd" for letter in text)


class Html(str):
    """Markup, made by ``el`` alone."""


def el(name: str, /, *content: Content, **attributes: Optional[str]) -> Html:
    """An element; ``class_`` is the attribute class, ``data_l`` data-l. An attribute that is None is left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{given}>" if name in ("meta", "br") else f"<{name}{given}/>")
    inner = "".join(item if isinstance(item, Html) else escape(plain(item)) for item in content if item is not None)
    return Html(f"<{name}{given}>{inner}</{name}>")


Row = list[Union[Html, str]]


def cell(label: str, content: Content) -> Html:
    """A cell that says its column by itself where a table is shown as cards."""
    return el("td", content or "–", role="cell", data_l=label, class_=_short(content))


def _short(content: Content) -> Optional[str]:
    return "n" if not isinstance(content, Html) and len(content or "") <= _SHORT else None


def table(caption: Content, heads: list[str], rows: list[Row], **attributes: Optional[str]) -> Html:
    """A table whose first column names the row. Roles are written out: on small screens CSS makes cards of its rows."""
    head = el(
        "thead",
        el("tr", *(el("th", name, scope="col", role="columnheader") for name in heads), role="row"),
        role="rowgroup",
    )
    body = [
        el(
            "tr",
            el("th", first, scope="row", role="rowheader", class_=_short(first)),
            *(cell(name, content) for name, content in zip(heads[1:], rest)),
            role="row",
        )
        for first, *rest in rows
    ]
    return el("table", el("caption", caption), head, el("tbody", *body, role="rowgroup"), role="table", **attributes)
