"""Of what kind a value is that was read from JSON. Pure."""

from __future__ import annotations

import re
from typing import Any, Callable

__all__ = ["Kind", "like", "mapping", "maybe", "named", "one_of", "seconds", "size", "text", "texts", "whole"]

Kind = Callable[[Any], bool]
_LARGEST = 1 << 63
_UNTOLD = re.compile("[\0\ud800-\udfff]")


def text(value: Any) -> bool:
    """Text that a program can be given: neither NUL, at which C ends a text, nor half a character."""
    return isinstance(value, str) and not _UNTOLD.search(value)


def size(value: Any) -> bool:
    """Bytes, or a number of things."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST


def whole(value: Any) -> bool:
    """An integer."""
    return isinstance(value, int) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def seconds(value: Any) -> bool:
    """A length of time, or an instant since 1970."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _LARGEST


def texts(value: Any) -> bool:
    """A list of texts."""
    return isinstance(value, list) and all(map(text, value))


def mapping(value: Any) -> bool:
    """An object."""
    return isinstance(value, dict)


def maybe(kind: Kind) -> Kind:
    """The kind, or null."""
    return lambda value: value is None or kind(value)


def one_of(*values: str) -> Kind:
    """One of some texts."""
    return lambda value: isinstance(value, str) and value in values


def like(pattern: re.Pattern[str]) -> Kind:
    """A text of a form."""
    return lambda value: isinstance(value, str) and bool(pattern.fullmatch(value))


def named(key: Kind, kind: Kind) -> Kind:
    """An object, its names and its values each of a kind."""
    return lambda value: isinstance(value, dict) and all(map(key, value)) and all(map(kind, value.values()))
