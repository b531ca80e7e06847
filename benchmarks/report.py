"""Writes the report: a page of Markdown that also reads well on a terminal."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

from .data import MIB
from .samples import Summary, ratio
from .servers import Server, sh
from .ways import WAYS

__all__ = ["Run", "machine", "page", "table"]

Done = dict[tuple[str, str], Summary]
_MEMORY = 64  # MiB
_NOTES = """Each row is the median of {rounds} round(s), the ways taking turns; the clock runs from the command to its end.
The data lies in the page cache, nothing else uses the servers. Before each backup the disk's queue is emptied. *bare* and
*stack-backup* end with the file on the disk (fsync), the runbook's way does not. stack-backup also reads the file once for
its digest, counts rows in the snapshot, dumps the roles and proves that the archive reads; all of that is in its seconds,
and so is the start of Python. Postgres's tables hold ids, words, JSON and numerics, Redis strings of JSON, hashes, a sorted
set and a stream."""


@dataclass(frozen=True)
class Run:
    """What the page tells of the run itself. ``both`` names the data of the recovery point of two stores."""

    options: str
    rounds: int
    servers: Sequence[Server]
    both: str
    machine: str
    module_peak: int
    seconds: float


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
    """A table that also reads well as text."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in [head, *rows]]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _times(value: Optional[float]) -> str:
    return "" if value is None else f"{value:.2f}"


def _backups(run: Run, done: Done) -> str:
    sizes = {server.title: server.size for server in run.servers}
    words = {(way.engine, way.name): way.words for way in WAYS}
    rows = []
    for (data, way), told in done.items():
        size = sizes.get(data, 0)
        rows.append(
            [
                data,
                words.get((data.split()[0].lower(), way), "stack-backup, one recovery point"),
                f"{told.seconds:.2f}",
                f"{told.low:.2f}–{told.high:.2f}",
                f"{size / MIB / told.seconds:.0f}" if size else "",
                f"{told.size / MIB:.0f}",
                _times(ratio(done, data, way, "bare")),
                _times(ratio(done, data, "runbook", way)),
            ]
        )
    return table(["data", "way", "seconds", "min–max", "MiB/s", "file, MiB", "÷ bare", "runbook ÷ it"], rows)


def _steps(done: Done) -> str:
    ours = {key: told for key, told in done.items() if told.steps and key[1] != "both"}
    if not ours:
        return ""
    names = list(dict.fromkeys(name for told in ours.values() for name in told.steps))
    rows = [
        [data, way, *(f"{told.steps.get(name, 0):.2f}" for name in names), f"{told.rest:.2f}"]
        for (data, way), told in ours.items()
    ]
    text = "*rest*: Python's start, finding the containers, removing the throw-away container."
    return f"\n## How stack-backup's seconds divide\n\n{table(['data', 'way', *names, 'rest'], rows)}\n\n{text}\n"


def _goals(run: Run, done: Done) -> str:
    rows = []

    def goal(text: str, measured: Optional[float], limit: float, *, at_least: bool = False, unit: str = "") -> None:
        if measured is not None:
            met = measured >= limit if at_least else measured <= limit
            sign = "≥" if at_least else "≤"
            rows.append([text, f"{sign} {limit:g}{unit}", f"{measured:.2f}{unit}", "yes" if met else "**no**"])

    for server in run.servers:
        goal(f"{server.title}: stack-backup ÷ bare", ratio(done, server.title, "ours", "bare"), 1.1)
        if server.engine == "postgres":
            measured = ratio(done, server.title, "runbook", "ours")
            goal(f"{server.title}: runbook ÷ stack-backup", measured, 4.5, at_least=True)
    both = done.get((run.both, "both"))
    alone = [done[(data, "ours")].seconds for data in run.both.split(" + ") if (data, "ours") in done]
    if both and len(alone) == 2:
        goal(f"{run.both}: together ÷ the longer alone", both.seconds / max(alone), 1.1)
        goal(f"{run.both}: together ÷ one after the other", both.seconds / sum(alone), 1.0)
    peaks = [told.peak for told in done.values() if told.peak]
    if peaks:
        goal("peak memory of the engine", max(peaks) / MIB, _MEMORY, unit=" MiB")
        goal("peak memory of the module `recovery_point`", run.module_peak / MIB, _MEMORY, unit=" MiB")
    text = ""
    if peaks:
        child = max(told.child for told in done.values()) / MIB
        text = f"\n\nThe largest program that the engine starts, docker's client, takes {child:.0f} MiB at any size."
    return table(["goal", "limit", "measured", "met"], rows) + text if rows else "Nothing to compare was measured."


def page(run: Run, done: Done) -> str:
    """The whole report. Ratios mean little below 1000 MiB: there what it takes to start containers outweighs the data."""
    sizes = ", ".join(f"{server.title} {server.size / MIB:.0f} MiB" for server in run.servers)
    versions = ", ".join(f"{server.title}: {server.exact_version()}" for server in run.servers)
    return f"""# Benchmarks

`make bench` measured this in {run.seconds:.0f} s with `{run.options}`: that is `make bench BENCH="…"`, `--help` tells of all.

- Data: {sizes}
- Machine: {run.machine}
- Servers: {versions}

{_NOTES.format(rounds=run.rounds)}

## Backup

{_backups(run, done)}

## Goals, from 1000 MiB on

{_goals(run, done)}
{_steps(done)}"""
