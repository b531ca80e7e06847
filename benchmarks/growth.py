"""Growth: the same backup of ever more data; its time is to be linear, its memory flat."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from .data import MIB
from .measure import measure as take_one
from .report import goal, span, table
from .samples import Sample
from .servers import Stack, fill
from .ways import take

__all__ = ["add_options", "goals", "measure", "text"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this section."""
    parser.add_argument(
        "--growth-sizes", type=int, nargs="+", default=[100, 1000, 5000], metavar="MB", help="(default 100 1000 5000)"
    )


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Ours at each size, on a server of its own."""
    sizes = []
    for mib in options.growth_sizes:
        with Stack(scratch, options.postgres[:1], []) as servers:
            fill(servers, {"postgres": mib})
            call = partial(take, servers)
            samples = [
                take_one(servers[0], f"{mib} MiB", "ours", call, scratch, proof=not number)
                for number in range(options.rounds)
            ]
            sizes.append({"size": servers[0].size, "samples": [asdict(sample) for sample in samples]})
    return {"rounds": options.rounds, "sizes": sizes}


def _samples(entry: dict[str, Any]) -> list[Sample]:
    return [Sample(**sample) for sample in entry["samples"]]


def _pace(entry: dict[str, Any]) -> float:
    """Seconds for each GiB."""
    return median(sample.seconds for sample in _samples(entry)) / float(entry["size"]) * 1024 * MIB


def _peak(entry: dict[str, Any]) -> float:
    return max(sample.peak for sample in _samples(entry)) / MIB


def text(told: dict[str, Any]) -> str:
    """The section of the page."""
    rows = [
        [
            f"{entry['size'] / MIB:.0f} MiB",
            span([sample.seconds for sample in _samples(entry)]),
            f"{_pace(entry):.1f}",
            f"{_peak(entry):.1f}",
            f"{max(sample.child for sample in _samples(entry)) / MIB:.0f}",
        ]
        for entry in told["sizes"]
    ]
    head = ["Postgres tables", "seconds", "seconds for each GiB", "engine's memory, MiB", "docker's client, MiB"]
    return f"stack-backup alone, median (lowest–highest) of {told['rounds']} rounds, memory at its peak.\n\n{table(head, rows)}\n"


def goals(told: dict[str, Any]) -> list[list[str]]:
    """What was to be reached, and what was: from 1000 MiB on, below it the start of containers is most of the time."""
    sizes = sorted(told["sizes"], key=lambda entry: float(entry["size"]))
    large = [entry for entry in sizes if entry["size"] >= 1000 * MIB]
    rows = []
    if len(large) > 1:
        rows += goal(f"growth: seconds for each GiB, {_of(large)}", _pace(large[-1]) / _pace(large[0]), 1.1)
    if len(sizes) > 1:
        rows += goal(f"growth: peak memory of the engine, {_of(sizes)}", _peak(sizes[-1]) / _peak(sizes[0]), 1.1)
    return rows


def _of(sizes: list[dict[str, Any]]) -> str:
    return f"{sizes[-1]['size'] / MIB:.0f} ÷ {sizes[0]['size'] / MIB:.0f} MiB"
