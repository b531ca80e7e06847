"""Restores: downtime and total, the runbook's way and ours, at two sizes."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

from module_utils.stack_backup import arguments, point, restore

from .data import MIB
from .measure import say
from .report import goal, span, table
from .servers import PROJECT, Server, Stack, fill, sh

__all__ = ["add_options", "goals", "measure", "text"]

# What depends on the stores: asks the database all the time, and is healthy when it answers.
_APP = """  app:
    image: postgres:17
    init: true
    environment: {PGPASSWORD: bench}
    entrypoint: ["sh", "-c", "while :; do psql -qtA -h postgres17 -U bench -d bench -c 'select count(*) from orders where id < 100' >/dev/null; sleep 0.2; done"]
    healthcheck: {test: ["CMD", "psql", "-qtA", "-h", "postgres17", "-U", "bench", "-d", "bench", "-c", "select 1"], interval: 1s, timeout: 3s}
    depends_on: [postgres17, redis80]
"""
_REDIS_MIB = 10


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this section."""
    parser.add_argument(
        "--restore-sizes",
        type=int,
        nargs="+",
        default=[10, 150],
        metavar="MB",
        help="of Postgres tables (default 10 150)",
    )


def _params(spec: dict[str, Any], server: Server, backups: Path, **given: Any) -> dict[str, Any]:
    params = {name: option.get("default") for name, option in spec.items()}
    stores = [
        {"name": "redis", "engine": "redis", "service": "redis80"},
        {"name": "postgres", "engine": "postgres", "service": server.service},
    ]
    params.update(stack="bench", backup_dir=str(backups), project_dir=str(server.project_dir), project_name=PROJECT)
    return {**params, "stores": stores, **given}


def _healthy() -> None:
    while sh("docker", "inspect", "-f", "{{.State.Health.Status}}", f"{PROJECT}-app-1").strip() != "healthy":
        time.sleep(0.1)


def _runbook(server: Server, dump: Path) -> float:
    """Stop, drop, create, copy, pg_restore, start; all of it is downtime. Postgres alone: its Redis part restores nothing."""
    began = time.monotonic()
    server.compose("stop", "app")
    admin = ("psql", "-XAtq", "-U", "bench", "-d", "postgres", "-c")
    server.exec(*admin, "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'bench'")
    server.exec("dropdb", "-U", "bench", "bench")
    server.exec("createdb", "-U", "bench", "bench")
    server.compose("cp", str(dump), f"{server.service}:/restore.dump")
    server.exec("pg_restore", "-U", "bench", "-d", "bench", "--clean", "--if-exists", "/restore.dump")
    server.compose("start", "app")
    _healthy()
    seconds = time.monotonic() - began
    server.exec("rm", "-f", "/restore.dump")
    return seconds


def _ours(server: Server, backups: Path) -> dict[str, float]:
    """Both stores; the safety backup is part of the total."""
    spec = arguments.STACK_RESTORE
    began = time.monotonic()
    report = restore.restore(_params(spec, server, backups, confirm="bench"))
    total = time.monotonic() - began
    restore.restore(_params(spec, server, backups, confirm="bench", action="drop"))
    phases = {name: float(report["seconds"][name]) for name in ("switch", "safety")}
    return {"downtime": float(report["downtime_seconds"]), "total": total, **phases}


def _counts(server: Server) -> str:
    return server.sql("".join(f"SELECT count(*) FROM {name};" for name in ("orders", "events", "ticks", "documents")))


def _measure(mib: int, rounds: int, scratch: Path) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {}
    with Stack(scratch, ["17"], ["8.0"], more=_APP) as servers:
        server = servers[0]
        fill(servers, {"postgres": mib, "redis": _REDIS_MIB})
        there = _counts(server)
        backups = scratch / "backups"
        backups.mkdir()
        point.take(_params(arguments.RECOVERY_POINT, server, backups))
        runbook_dump = scratch / "runbook.dump"
        server.exec("sh", "-c", "pg_dump -U bench -Fc -f /tmp/runbook.dump bench")
        server.compose("cp", f"{server.service}:/tmp/runbook.dump", str(runbook_dump))
        for number in range(rounds):
            _healthy()
            took = {"runbook": _runbook(server, runbook_dump)}
            runbook = _counts(server)
            took.update(_ours(server, backups))
            if {runbook, _counts(server)} != {there}:
                raise RuntimeError(
                    f"rows are missing after a restore: {there!r} became {runbook!r}, {_counts(server)!r}"
                )
            for name, value in took.items():
                seconds.setdefault(name, []).append(value)
            say(f"restore of {mib} MiB, round {number + 1}: " + ", ".join(f"{n} {v:.1f} s" for n, v in took.items()))
    return seconds


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Both ways at each size."""
    done = {}
    for mib in options.restore_sizes:
        folder = scratch / str(mib)
        folder.mkdir()
        done[str(mib)] = _measure(mib, options.rounds, folder)
    return {"rounds": options.rounds, "seconds": done}


def text(told: dict[str, Any]) -> str:
    """The section of the page."""
    columns = {
        "runbook": "runbook: all of it is downtime",
        "downtime": "ours: downtime",
        "switch": "of it, the switch",
        "safety": "ours: the safety backup",
        "total": "ours: in all",
    }
    rows = [[f"{mib} MiB", *(span(seconds[name]) for name in columns)] for mib, seconds in told["seconds"].items()]
    return (
        f"Postgres 17 and Redis 8.0 ({_REDIS_MIB} MiB) with a dependent that is healthy when it can ask the database; "
        f"{told['rounds']} interleaved rounds,\nmedians (lowest–highest), seconds.\n\n"
        f"{table(['tables', *columns.values()], rows)}\n\n"
        "The runbook's restore is of Postgres alone, into a database that it dropped first; ours is of both stores, with the\n"
        "old data kept and a safety backup in its seconds.\n"
    )


def goals(told: dict[str, Any]) -> list[list[str]]:
    """What was to be reached, and what was."""
    middle = {mib: {name: median(each) for name, each in seconds.items()} for mib, seconds in told["seconds"].items()}
    small, large = min(middle, key=int), max(middle, key=int)
    total = middle[large]["total"] / middle[large]["runbook"]
    rows = goal(f"restore of {large} MiB: stack-backup in all ÷ runbook", total, 0.7, size=int(large) * MIB)
    if small != large:
        growth = middle[large]["downtime"] / middle[small]["downtime"]
        rows += goal(f"restore: downtime at {large} MiB ÷ at {small} MiB", growth, 1.1, size=int(large) * MIB)
    return rows
