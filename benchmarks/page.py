"""The page docs/benchmarks.md: the goals, the plot, and each section that was measured."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Protocol

from . import backup, catalog, growth, live, offsite, plot, restore
from .report import table

__all__ = ["SECTIONS", "page", "write"]


class Section(Protocol):
    """What a section's file gives. Its figures are what JSON can hold."""

    def measure(self, options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
        """The figures."""

    def text(self, told: dict[str, Any]) -> str:
        """Their part of the page."""

    def goals(self, told: dict[str, Any]) -> list[list[str]]:
        """Rows of the table of goals."""


SECTIONS: dict[str, Section] = {
    "backup": backup,
    "live": live,
    "restore": restore,
    "catalog": catalog,
    "growth": growth,
    "offsite": offsite,
}
_TITLES = {
    "backup": "Backup",
    "live": "What the live system feels",
    "restore": "Restore",
    "catalog": "The catalog and what reads it",
    "growth": "Growth",
    "offsite": "Offsite",
}
_TOP = """# Benchmarks

`make bench` writes this page. Within ten minutes on 2 cores it measures backup, live, restore and catalog at small sizes; growth
and offsite take longer: `make bench BENCH="--only growth offsite"`, `--help` tells of all options. Each section below says
by which it was measured. The goals are for 1000 MiB and more, of both databases: below, the start of containers outweighs the
data. `make bench BENCH="--postgres-mb 1000 --redis-mb 1000 --restore-sizes 10 1000"` takes most of an hour.
The figures behind the page are in [benchmarks/](benchmarks/)."""
_PICTURE = "![Seconds by each way of backing up; the table below says the same](benchmarks.svg)"


def page(runs: dict[str, dict[str, Any]]) -> str:
    """The page, of the sections that were measured."""
    rows = [row for name, run in runs.items() for row in SECTIONS[name].goals(run["told"])]
    parts = [_TOP, "## Goals", table(["goal", "limit", "measured", "met"], rows) if rows else "Nothing was measured."]
    for name, run in runs.items():
        parts.append(f"## {_TITLES[name]}")
        asked = f"`{run['options']}`" if run["options"] else "the default options"
        parts.append(f"Measured in {run['seconds']} s with {asked}. {run['machine']}.")
        if name == "backup":
            parts.append(_PICTURE)
        parts.append(SECTIONS[name].text(run["told"]).strip())
    return "\n\n".join(parts) + "\n"


def write(out: Path) -> None:
    """Write page and plot of the figures that lie in ``out``."""
    runs = {}
    for name in SECTIONS:
        file = out / "benchmarks" / f"{name}.json"
        if file.exists():
            runs[name] = json.loads(file.read_text(encoding="utf-8"))
    (out / "benchmarks.md").write_text(page(runs), encoding="utf-8")
    if "backup" in runs:
        picture = plot.svg("Seconds by each way of backing up", backup.bars(runs["backup"]["told"]))
        (out / "benchmarks.svg").write_text(picture, encoding="utf-8")
