"""Measures restores: downtime and total, the runbook's way and ours, at two sizes. ``python -m benchmarks.restore --help``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Optional

from module_utils.stack_backup import arguments, point, restore
from module_utils.stack_backup.artifact import Lock

from .report import machine
from .servers import PROJECT, ROOT, Server, Stack, fill, sh

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


def _options(argv: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restore", description=__doc__)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10, 1000], help="MiB of Postgres tables (default 10 1000)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="restores by each way (default 3)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks-restore.md", help="the report")
    return parser.parse_args(argv)


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


def _ours(server: Server, backups: Path) -> tuple[float, float, dict[str, float]]:
    """Both stores; the safety backup is part of the total."""
    spec = arguments.STACK_RESTORE
    began = time.monotonic()
    report = restore.restore(_params(spec, server, backups, confirm="bench"))
    total = time.monotonic() - began
    restore.restore(_params(spec, server, backups, confirm="bench", action="drop"))
    return float(report["downtime_seconds"]), total, report["seconds"]


def _measure(mib: int, rounds: int, scratch: Path) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {"runbook": [], "downtime": [], "total": []}
    with Stack(scratch, ["17"], ["8.0"], more=_APP) as servers:
        server = servers[0]
        fill(servers, {"postgres": mib, "redis": _REDIS_MIB})
        backups = scratch / "backups"
        backups.mkdir()
        point.take(_params(arguments.RECOVERY_POINT, server, backups))
        runbook_dump = scratch / "runbook.dump"
        server.exec("sh", "-c", "pg_dump -U bench -Fc -f /tmp/runbook.dump bench")
        server.compose("cp", f"{server.service}:/tmp/runbook.dump", str(runbook_dump))
        for number in range(rounds):
            _healthy()
            seconds["runbook"].append(_runbook(server, runbook_dump))
            downtime, total, phases = _ours(server, backups)
            seconds["downtime"].append(downtime)
            seconds["total"].append(total)
            print(
                f"bench: {mib} MiB, round {number + 1}: runbook {seconds['runbook'][-1]:.1f} s, "
                f"ours {downtime:.1f} s of {total:.1f} s {phases}",
                file=sys.stderr,
                flush=True,
            )
    return seconds


def _page(done: dict[int, dict[str, list[float]]], rounds: int, where: str) -> str:
    rows = []
    for mib, seconds in done.items():
        runbook, downtime, total = (median(seconds[name]) for name in ("runbook", "downtime", "total"))
        spans = [
            f"{median(s):.1f} ({min(s):.1f}–{max(s):.1f})"
            for s in (seconds["runbook"], seconds["downtime"], seconds["total"])
        ]
        rows.append(f"| {mib} MiB | {' | '.join(spans)} | {downtime / runbook:.2f} | {total / runbook:.2f} |")
    sizes = list(done)
    growth = median(done[sizes[-1]]["downtime"]) / median(done[sizes[0]]["downtime"])
    return (
        "# Restores, measured\n\n"
        f"Postgres 17 and Redis 8.0 ({_REDIS_MIB} MiB) with a dependent that is healthy when it can ask the database;\n"
        f"{rounds} interleaved rounds, medians (lowest–highest), seconds. {where}.\n"
        "Again: `make bench-restore`, or `python -m benchmarks.restore --help`.\n\n"
        "| tables | runbook: all of it is downtime | ours: downtime | ours: in all, with the safety backup "
        "| downtime / runbook | all / runbook |\n| --- | --- | --- | --- | --- | --- |\n" + "\n".join(rows) + "\n\n"
        f"Downtime at {sizes[-1]} MiB against {sizes[0]} MiB: {growth:.2f} times.\n\n"
        "The runbook's restore is of Postgres alone, into a database that it dropped first; ours is of both stores, with the\n"
        "old data kept.\n"
    )


def main(argv: Optional[list[str]] = None) -> None:
    """Measure, print the report and write it."""
    options = _options(argv)
    for folder in (ROOT / ".cache", options.out.parent):
        folder.mkdir(parents=True, exist_ok=True)
    done = {}
    with Lock(ROOT / ".cache"):
        for mib in options.sizes:
            with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / ".cache") as name:
                where = machine(Path(name))
                done[mib] = _measure(mib, options.rounds, Path(name))
    text = _page(done, options.rounds, where)
    print(text)
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
