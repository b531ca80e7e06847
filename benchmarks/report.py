"""Pieces of the page: Markdown that also reads well on a terminal."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from statistics import median
from typing import Optional, Sequence

from .data import MIB
from .servers import sh

__all__ = ["goal", "machine", "span", "table", "times"]

_FAIR = 1000 * MIB  # below, what it takes to start containers outweighs the data


def machine(folder: Path) -> str:
    """The machine in one line, without its name."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    docker = sh("docker", "version", "--format", "{{.Server.Version}}").strip()
    disk = sh("findmnt", "--noheadings", "--output=FSTYPE", "--target", str(folder)).strip()
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {pages / 1024**3:.0f} GiB memory, {disk}, Linux {platform.release()}, "
        f"Docker {docker}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the start"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, its columns in line."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in [head, *rows]]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def times(value: Optional[float]) -> str:
    """A ratio; nothing where it could not be had."""
    return "" if value is None else f"{value:.2f}"


def span(values: Sequence[float]) -> str:
    """The median with the extremes."""
    return f"{median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def goal(
    text: str,
    measured: Optional[float],
    limit: float,
    *,
    at_least: bool = False,
    unit: str = "",
    size: Optional[int] = None,
) -> list[list[str]]:
    """The row of a goal: what, limit, measured, met. None where it was not measured; ``size``: bytes that it was of."""
    if measured is None:
        return []
    met = "yes" if (measured >= limit if at_least else measured <= limit) else "**no**"
    sign = "≥" if at_least else "≤"
    enough = size is None or size >= _FAIR
    return [[text, f"{sign} {limit:g}{unit}", f"{measured:.2f}{unit}", met if enough else "too small to tell"]]
