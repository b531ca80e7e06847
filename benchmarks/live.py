"""What the live system feels: its clients' waiting before, while and after a backup is taken, and the server's memory."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from statistics import median
from typing import Any, Callable, Sequence

from .data import MIB
from .kernel import Memory, evicted
from .load import RATES, load, service
from .measure import say, written
from .report import goal, table
from .samples import Request, longest_gap, percentile, within
from .servers import Server, Stack, fill
from .ways import Outcome, Way, bgsave, ways_for

__all__ = ["add_options", "goals", "measure", "summary", "text"]

Told = dict[str, Any]
_WHEN = ("before", "during", "after")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this section."""
    parser.add_argument("--live-seconds", type=float, default=2.0, help="of load before and after each way (default 2)")


def _fork_alone(server: Server, folder: Path) -> Outcome:
    bgsave(server)
    return Outcome(folder)


_FORK = Way("fork", "redis", "`BGSAVE` alone", _fork_alone, live=True)


def summary(requests: Sequence[Request], begin: float, end: float) -> dict[str, float]:
    """What the clients felt in that time: requests a second, and milliseconds."""
    inside = within(requests, begin, end)
    took = [seconds * 1000 for _when, seconds in inside]
    return {
        "rate": len(inside) / (end - begin),
        "p50": percentile(took, 0.5),
        "p99": percentile(took, 0.99),
        "stall": longest_gap(requests, begin, end) * 1000,
    }


def _fork(server: Server) -> float:
    """Milliseconds of Redis's last fork, in which it answers nobody."""
    told = server.exec("redis-cli", "info", "stats")
    return int(told.split("latest_fork_usec:")[1].split()[0]) / 1000


def _one(server: Server, way: Way, quiet: float, scratch: Path) -> Told:
    """Take one backup between two quiet times; gives the three times and what the kernel saw."""
    os.sync()
    idle = time.time()
    with Memory(server) as before:
        time.sleep(quiet)
    with written(scratch) as folder:
        stolen = evicted()
        with Memory(server) as memory:
            began = time.time()
            way.run(server, folder)
            ended = time.time()
        gone = evicted() - stolen
        time.sleep(quiet)
        last = time.time()
    fork = _fork(server) if server.engine == "redis" and way.name not in ("runbook", "rdb") else None
    say(f"{server.title} under load, {way.name}: {ended - began:.2f} s")
    return {
        "way": way.name,
        "words": way.words,
        "times": [[idle, began], [began, ended], [ended, last]],
        "memory": [before.peak, memory.peak],
        "evicted": gone,
        "fork": fork,
    }


def _measure(server: Server, ways: Sequence[Way], rounds: int, quiet: float, scratch: Path, folder: Path) -> list[Told]:
    """Every way, taking turns, under a load that goes on all the time."""
    with load(server, folder) as read:
        time.sleep(2)  # the clients connect
        done = []
        for number in range(rounds):
            turn = number % len(ways)
            done += [_one(server, way, quiet, scratch) for way in [*ways[turn:], *ways[:turn]]]
        requests = read()
    for one in done:
        one["felt"] = [summary(requests, begin, end) for begin, end in one.pop("times")]
    return done


def measure(options: argparse.Namespace, scratch: Path) -> Told:
    """The ways of which it matters, on the first server of each engine."""
    folder = scratch / "load"
    folder.mkdir()
    more = [service(server, folder) for server in Stack(scratch, options.postgres[:1], []).servers]
    servers = []
    with Stack(scratch, options.postgres[:1], options.redis[:1], "".join(more)) as running:
        fill(running, {"postgres": options.postgres_mb, "redis": options.redis_mb})
        for server in running:
            ways = [way for way in ways_for(server, options.ways, first=True) if way.live]
            ways += [_FORK] if server.engine == "redis" else []
            done = _measure(server, ways, options.rounds, options.live_seconds, scratch, folder) if ways else []
            servers.append({"engine": server.engine, "title": server.title, "size": server.size, "done": done})
    return {"rounds": options.rounds, "seconds": options.live_seconds, "servers": servers}


def _middle(done: Sequence[Told], number: int, name: str) -> float:
    return median(float(one["felt"][number][name]) for one in done)


def _by_way(server: Told) -> dict[str, list[Told]]:
    ways: dict[str, list[Told]] = {}
    for one in server["done"]:
        ways.setdefault(one["way"], []).append(one)
    return ways


def _row(done: Sequence[Told], redis: bool) -> list[str]:
    cells: list[Callable[[int], str]] = [
        lambda number: f"{_middle(done, number, 'rate'):.0f}",
        lambda number: f"{_middle(done, number, 'p50'):.1f}",
        lambda number: f"{_middle(done, number, 'p99'):.1f}",
        lambda number: f"{_middle(done, number, 'stall'):.0f}",
    ]
    told = [" / ".join(cell(number) for number in range(len(_WHEN))) for cell in cells]
    memory = " / ".join(f"{max(one['memory'][number] for one in done) / MIB:.0f}" for number in (0, 1))
    forks = [one["fork"] for one in done if one["fork"] is not None]
    fork = [f"{median(forks):.1f}" if forks else ""] if redis else []
    return [done[0]["words"], *told, *fork, memory, f"{median(one['evicted'] for one in done) / MIB:.0f}"]


def text(told: Told) -> str:
    """The section of the page."""
    parts = []
    for server in told["servers"]:
        redis = server["engine"] == "redis"
        head = ["way", "answers/s", "median, ms", "p99, ms", "longest stall, ms", *(["fork, ms"] if redis else [])]
        rows = [_row(done, redis) for done in _by_way(server).values()]
        if rows:
            name = f"{server['title']}, {server['size'] / MIB:.0f} MiB, {RATES[server['engine']]} requests/s"
            parts.append(f"{name}:\n\n{table([*head, 'server’s memory, MiB', 'evicted, MiB'], rows)}")
    return (
        f"Clients (pgbench; one of Redis) ask at a steady rate all the time; each cell is before / during / after the backup,\n"
        f"{told['seconds']:g} s before and after, the median of {told['rounds']} round(s), the ways taking turns. A request's time counts from when it\n"
        "was due. The longest stall is the longest time in which no answer came, to any client: pgbench asks at random\n"
        "moments, so some tens of ms are no stall. The server's memory is the peak of what its container holds without\n"
        "the page cache, before / during. Evicted is what the kernel took from the page cache of the whole machine.\n\n"
        + "\n\n".join(parts)
        + "\n"
    )


def goals(told: Told) -> list[list[str]]:
    """What was to be reached, and what was."""
    rows = []
    for server in told["servers"]:
        ways = _by_way(server)
        if server["engine"] == "redis" and {"ours", "fork"} <= set(ways):
            measured = _middle(ways["ours"], 1, "stall") / _middle(ways["fork"], 1, "stall")
            rows += goal(f"{server['title']}: longest stall, stack-backup ÷ `BGSAVE` alone", measured, 1.1)
    return rows
