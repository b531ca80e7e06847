"""The fleet as a table of plain text."""

from __future__ import annotations

from typing import Iterator, Sequence

from .fleet import COLUMNS, Stack, counts
from .html import plain

__all__ = ["lines"]

_LONGEST = 40  # of a stack's name


def _name(stack: Stack) -> str:
    text = plain(stack.title)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def lines(stacks: Sequence[Stack]) -> Iterator[str]:
    """A line for each stack, the worst first, and how many there are of which verdict."""
    rows = [["STACK", *(name.upper() for name in COLUMNS)]]
    rows += [[_name(stack), *(text or "-" for text in stack.cells().values())] for stack in stacks]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip()
    yield f"{len(stacks)} stacks: {', '.join(f'{number} {verdict}' for verdict, number in counts(stacks))}"
