"""The catalog and what reads it, at ever more backups: against a bare listing that reads the manifests."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, Sequence

from module_utils.stack_backup.install import install

from .measure import say
from .points import BARE, write_points
from .report import goal, span, table
from .servers import ROOT

__all__ = ["add_options", "goals", "measure", "text"]

Seconds = dict[str, list[float]]
_PYTHON = (sys.executable, "-I", "-c", "pass")
_STARTED = ("list", "status")
_READERS = ("list", "prune", "check")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this section."""
    default = [100, 1000, 20000]
    parser.add_argument(
        "--catalog-sizes", type=int, nargs="+", default=default, metavar="N", help="backups (default 100 1000 20000)"
    )


def _installed(folder: Path) -> str:
    """The host's own command, as playbooks/install.yml puts it there."""
    where = {"path": str(folder / "engine"), "link": str(folder / "link" / "stack-backup")}
    return str(install({**where, "state": "present"})["program"])


def _configured(folder: Path, backups: Path) -> None:
    params = {"stack": "bench", "backup_dir": str(backups)}
    quiet = {**params, "schedule_file": str(folder / "cron"), "jobs": {}}
    told = {"format": 1, "stack": "bench", "check": [["stack_check", quiet]], "prune": [["backup_prune", params]]}
    (folder / "etc").mkdir(exist_ok=True)
    (folder / "etc" / "bench.json").write_text(json.dumps(told), encoding="utf-8")


def _timed(seconds: Seconds, name: str, argv: Sequence[str], env: dict[str, str], given: str = "") -> str:
    """Seconds of a program; a check that finds something to say ends with 1 or 2, and is as good."""
    began = time.monotonic()
    done = subprocess.run(argv, env=env, input=given, capture_output=True, text=True, check=False, cwd=ROOT)
    seconds.setdefault(name, []).append(time.monotonic() - began)
    if done.returncode not in ((0, 1, 2) if name == "check" else (0,)):
        raise RuntimeError(f"{name}: {(done.stderr or done.stdout)[-500:]}")
    return done.stdout


def _measure(count: int, rounds: int, folder: Path, program: str) -> Seconds:
    backups = folder / "backups"
    write_points(backups, count // 2)
    _configured(folder, backups)
    env = {**os.environ, "STACK_BACKUP_ETC": str(folder / "etc"), "STACK_BACKUP_VAR": str(folder / "var")}
    check_mode = (sys.executable, "-m", "benchmarks.job", "engine", "backup_prune", "--check")
    policy = json.dumps({"stack": "bench", "backup_dir": str(backups), "keep_daily": 7, "keep_weekly": 4})
    seconds: Seconds = {}
    for _ in range(rounds):
        _timed(seconds, "python", _PYTHON, env)
        _timed(seconds, "bare", (*BARE, str(backups)), env)
        shown = json.loads(_timed(seconds, "list", (program, "list", "--json"), env))
        _timed(seconds, "status", (program, "status"), env)
        plan = json.loads(_timed(seconds, "prune", check_mode, env, policy))["report"]
        _timed(seconds, "check", (program, "check"), env)
        if len(shown["points"]) != count // 2 or shown["problems"]:
            raise RuntimeError(f"{len(shown['points'])} of {count // 2} points were listed: {shown['problems'][:3]}")
        if len(plan["kept"]) + len(plan["removed"]) != count // 2:
            raise RuntimeError(f"prune told of {len(plan['kept'])} + {len(plan['removed'])} of {count // 2} points")
    shutil.rmtree(backups)
    say(f"catalog of {count}: " + ", ".join(f"{name} {median(each):.2f} s" for name, each in seconds.items()))
    return seconds


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Each reader at each size."""
    program = _installed(scratch)
    sizes = {str(count): _measure(count, options.rounds, scratch, program) for count in options.catalog_sizes}
    return {"rounds": options.rounds, "sizes": sizes}


def text(told: dict[str, Any]) -> str:
    """The section of the page."""
    names = {
        "python": "Python alone",
        "bare": "bare",
        "list": "`list`",
        "status": "`status`",
        "prune": "prune's plan",
        "check": "`check`",
    }
    rows = [[count, *(span(each[name]) for name in names)] for count, each in told["sizes"].items()]
    return (
        f"Seconds, median (lowest–highest) of {told['rounds']} rounds, each a process of its own. Half of the backups are of Postgres, half of\n"
        "Redis, their manifests real ones with other ids. *bare* lists the folders and reads every manifest, and nothing else; ours\n"
        "also sees to it that each file is there and of the right size. `list` and `status` are the installed `stack-backup`.\n\n"
        f"{table(['backups', *names.values()], rows)}\n"
    )


def goals(told: dict[str, Any]) -> list[list[str]]:
    """What was to be reached, and what was."""
    middle = {
        int(count): {name: median(seconds) for name, seconds in each.items()} for count, each in told["sizes"].items()
    }
    few, *between, many = [min(middle), *sorted(middle)[1:-1], max(middle)]
    rows = []
    for name in _STARTED:
        rows += goal(f"{few} backups: `{name}` ÷ Python's start", middle[few][name] / middle[few]["python"], 1.5)
    for name in _READERS:
        rows += goal(f"{many} backups: {name} ÷ listing and reading", middle[many][name] / middle[many]["bare"], 2)
    large = between[-1] if between else few
    if large != many:
        for name in _READERS:
            pace = (middle[many][name] / many) / (middle[large][name] / large)
            rows += goal(f"{name}: seconds for each backup, {many} ÷ {large}", pace, 1.1)
    return rows
