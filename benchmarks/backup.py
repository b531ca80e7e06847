"""Backups: the runbook's way, those of known tools, the bare best, and ours, side by side and interleaved."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Callable, Sequence

from . import plot
from .data import MIB
from .measure import measure as take_one
from .report import goal, table, times
from .samples import Sample, ratio, summaries
from .servers import Server, Stack, fill
from .ways import WAYS, Outcome, take, ways_for

__all__ = ["bars", "goals", "measure", "text"]

Told = dict[str, Any]
Task = tuple[Server, str, str, Callable[[Path], Outcome]]
_MEMORY = 64  # MiB
_NOTES = """Each row is the median of {rounds} round(s), the ways taking turns; the clock runs from the command to its end. The data
lies in the page cache, nothing else uses the servers; before each backup the disk's queue is emptied. Each way's first
file was read to its end by the program that restores it. *bare* and stack-backup end with the file on the disk (fsync), the
runbook's way does not. stack-backup also reads the file once for its digest, counts rows in the snapshot, dumps the
roles and proves that the archive reads; all of that is in its seconds, and so is the start of Python. Postgres's tables
hold ids, words, JSON and numerics, Redis strings of JSON, hashes, a sorted set and a stream."""


def _tasks(servers: Sequence[Server], names: Sequence[str], number: int) -> list[Task]:
    """What round ``number`` does: server, data, way and the call. A server's ways take turns in being the first."""
    tasks: list[Task] = []
    seen: set[str] = set()
    for server in servers:
        mine = ways_for(server, names, first=server.engine not in seen)
        seen.add(server.engine)
        turn = number % max(1, len(mine))
        tasks += [(server, server.title, way.name, partial(way.run, server)) for way in [*mine[turn:], *mine[:turn]]]
    pair = _pair(servers)
    if len(pair) == 2 and (not names or "both" in names):
        tasks.append((pair[0], _title(pair), "both", lambda folder: take(pair, folder)))
    return tasks


def _pair(servers: Sequence[Server]) -> list[Server]:
    """The first server of each engine."""
    return list({server.engine: server for server in reversed(servers)}.values())[::-1]


def _title(pair: Sequence[Server]) -> str:
    return " + ".join(server.title for server in pair)


def measure(options: argparse.Namespace, scratch: Path) -> Told:
    """Every way on every server, ``options.rounds`` times."""
    samples: list[Sample] = []
    with Stack(scratch, options.postgres, options.redis) as servers:
        fill(servers, {"postgres": options.postgres_mb, "redis": options.redis_mb})
        for number in range(options.rounds):
            for server, data, way, call in _tasks(servers, options.ways, number):
                samples.append(take_one(server, data, way, call, scratch, proof=number == 0))
        pair = _pair(servers)
        module = take_one(pair[0], "all", "module", lambda folder: take(pair, folder, "module"), scratch)
        return {
            "rounds": options.rounds,
            "servers": [_described(server) for server in servers],
            "both": _title(pair),
            "module_peak": module.peak,
            "samples": [asdict(sample) for sample in samples],
        }


def _described(server: Server) -> Told:
    return {
        "engine": server.engine,
        "title": server.title,
        "size": server.size,
        "version": server.exact_version(),
    }


def _words(data: str, way: str) -> str:
    words = {(way.engine, way.name): way.words for way in WAYS}
    return words.get((data.split()[0].lower(), way), "stack-backup, one recovery point")


def text(told: Told) -> str:
    """The section of the page."""
    sizes = {server["title"]: server["size"] for server in told["servers"]}
    done = summaries([Sample(**sample) for sample in told["samples"]])
    rows = []
    for (data, way), summary in done.items():
        size = sizes.get(data, 0)
        rows.append(
            [
                data,
                _words(data, way),
                f"{summary.seconds:.2f}",
                f"{summary.low:.2f}–{summary.high:.2f}",
                f"{size / MIB / summary.seconds:.0f}" if size else "",
                f"{summary.size / MIB:.0f}",
                times(ratio(done, data, way, "bare")),
                times(ratio(done, data, "runbook", way)),
            ]
        )
    servers = ", ".join(f"{item['title']} ({item['version']}) {item['size'] / MIB:.0f} MiB" for item in told["servers"])
    head = ["data", "way", "seconds", "min–max", "MiB/s", "file, MiB", "÷ bare", "runbook ÷ it"]
    child = max(summary.child for summary in done.values()) / MIB
    return (
        f"Data: {servers}.\n\n{_NOTES.format(rounds=told['rounds'])}\n\n{table(head, rows)}\n"
        f"{_steps(done)}\nThe largest program that the engine starts, docker's client, takes {child:.0f} MiB at any size.\n"
    )


def _steps(done: dict[tuple[str, str], Any]) -> str:
    ours = {key: told for key, told in done.items() if told.steps and key[1] != "both"}
    if not ours:
        return ""
    names = list(dict.fromkeys(name for told in ours.values() for name in told.steps))
    rows = [
        [data, way, *(f"{told.steps.get(name, 0):.2f}" for name in names), f"{told.rest:.2f}"]
        for (data, way), told in ours.items()
    ]
    rest = "*rest*: Python's start, finding the containers, removing the throw-away container."
    return f"\nHow stack-backup's seconds divide:\n\n{table(['data', 'way', *names, 'rest'], rows)}\n\n{rest}\n"


def goals(told: Told) -> list[list[str]]:
    """What was to be reached, and what was."""
    done = summaries([Sample(**sample) for sample in told["samples"]])
    rows = []
    for server in told["servers"]:
        data, size = server["title"], server["size"]
        named = f"{data}, {size / MIB:.0f} MiB"
        if server["engine"] == "postgres":
            runbook, bare = (ratio(done, data, way, "ours") for way in ("runbook", "bare"))
            rows += goal(f"{named}: runbook ÷ stack-backup", runbook, 4.5, at_least=True, size=size)
            rows += goal(f"{named}: bare ÷ stack-backup", bare, 0.9, at_least=True, size=size)
        else:
            saved = ratio(done, data, "ours", "bare")
            rows += goal(f"{named}: stack-backup ÷ `BGSAVE` and copy", saved, 1.1, size=size)
    both = done.get((told["both"], "both"))
    alone = [done[(data, "ours")].seconds for data in told["both"].split(" + ") if (data, "ours") in done]
    if both and len(alone) == 2:
        size = max(server["size"] for server in told["servers"])
        rows += goal(f"{told['both']}: together ÷ the longer alone", both.seconds / max(alone), 1.1, size=size)
    peaks = [summary.peak for summary in done.values() if summary.peak]
    if peaks:
        rows += goal("peak memory of the engine", max(peaks) / MIB, _MEMORY, unit=" MiB")
        rows += goal("peak memory of the module `recovery_point`", told["module_peak"] / MIB, _MEMORY, unit=" MiB")
    return rows


def bars(told: Told) -> list[plot.Bar]:
    """What the plot shows."""
    done = summaries([Sample(**sample) for sample in told["samples"]])
    return [
        plot.Bar(data, _words(data, way).replace("`", "").replace("\\", ""), summary.seconds, summary.low, summary.high)
        for (data, way), summary in done.items()
    ]
