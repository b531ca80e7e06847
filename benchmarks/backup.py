"""Measures backups: the runbook's way, by hand, and ours, side by side. ``python -m benchmarks.backup --help``."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Callable, Optional

from module_utils.stack_backup.artifact import Lock

from .report import Run, machine, page
from .samples import Sample, summaries
from .servers import ROOT, Server, Stack, fill
from .ways import WAYS, Outcome, take

Task = tuple[str, str, Callable[[Path], Outcome]]


def _options(argv: Optional[list[str]]) -> argparse.Namespace:
    names = [*dict.fromkeys(way.name for way in WAYS), "both"]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backup", description=__doc__)
    parser.add_argument("--postgres-mb", type=int, default=1000, help="MiB of tables (default 1000)")
    parser.add_argument("--redis-mb", type=int, default=200, help="MiB of Redis's memory (default 200)")
    parser.add_argument("--rounds", type=int, default=3, help="backups by each way (default 3)")
    parser.add_argument("--ways", nargs="+", choices=names, default=names, help="default: all")
    parser.add_argument("--postgres", nargs="*", default=["17", "15"], metavar="VERSION", help="default 17 15")
    parser.add_argument("--redis", nargs="*", default=["8.0"], metavar="VERSION", help="default 8.0")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache", help="where backups go for the moment")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md", help="the report")
    options = parser.parse_args(argv)
    engines = {"postgres": options.postgres, "redis": options.redis}
    fits = any(engines[way.engine] and way.name in options.ways for way in WAYS)
    if not fits and not ("both" in options.ways and all(engines.values())):
        parser.error("none of these ways fits one of these servers")
    return options


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _tasks(servers: list[Server], ways: list[str], number: int) -> list[Task]:
    """What round ``number`` does: data, way and the call. The ways of one server take turns in being the first."""
    tasks: list[Task] = []
    for server in servers:
        mine = [way for way in WAYS if way.engine == server.engine and way.name in ways]
        turn = number % max(1, len(mine))
        tasks += [(server.title, way.name, partial(way.run, server)) for way in [*mine[turn:], *mine[:turn]]]
    pair = _pair(servers)
    if pair and "both" in ways:
        tasks.append((_title(pair), "both", lambda folder: take(pair, folder)))
    return tasks


def _pair(servers: list[Server]) -> list[Server]:
    """The first server of each engine."""
    firsts = {server.engine: server for server in reversed(servers)}
    return [firsts["postgres"], firsts["redis"]] if len(firsts) == 2 else []


def _title(pair: list[Server]) -> str:
    return " + ".join(server.title for server in pair)


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _measure(task: Task, scratch: Path) -> Sample:
    """Run one task in an empty folder with the disk's queue empty."""
    data, way, call = task
    folder = scratch / "backup"
    folder.mkdir()
    try:
        os.sync()
        began = time.monotonic()
        outcome = call(folder)
        seconds = time.monotonic() - began
        size = _bytes(outcome.file)
        with (outcome.file / "toc.dat" if outcome.file.is_dir() else outcome.file).open("rb") as file:
            if file.read(5) not in (b"PGDMP", b"REDIS"):
                raise RuntimeError(f"{data}, {way}: {outcome.file.name} is no backup")
    finally:
        shutil.rmtree(folder)
    _say(f"{data}, {way}: {seconds:.2f} s")
    return Sample(data, way, seconds, size, outcome.steps, outcome.peak, outcome.child)


def main(argv: Optional[list[str]] = None) -> None:
    """Measure, print the report and write it."""
    options = _options(argv)
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    began = time.monotonic()
    for folder in (ROOT / ".cache", options.folder, options.out.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with Lock(ROOT / ".cache"), tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as name:
        scratch = Path(name)
        where = machine(scratch)
        with Stack(scratch, options.postgres, options.redis) as servers:
            _say(f"filling {', '.join(server.title for server in servers)}")
            fill(servers, {"postgres": options.postgres_mb, "redis": options.redis_mb})
            samples = []
            for number in range(options.rounds):
                samples += [_measure(task, scratch) for task in _tasks(servers, options.ways, number)]
            module = _measure(
                ("all", "module", lambda folder: take(_pair(servers) or servers[:1], folder, "module")), scratch
            )
            run = Run(
                options=f"--postgres-mb {options.postgres_mb} --redis-mb {options.redis_mb} --rounds {options.rounds}",
                rounds=options.rounds,
                servers=servers,
                both=_title(_pair(servers)),
                machine=where,
                module_peak=module.peak,
                seconds=time.monotonic() - began,
            )
            text = page(run, summaries(samples))
    print(text)
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
