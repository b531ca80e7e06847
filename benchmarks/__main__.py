"""Measures stack-backup on real databases and writes docs/benchmarks.md: ``make bench``.

Each section that is measured leaves its figures in docs/benchmarks/SECTION.json; the page is made of all that are there.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

from module_utils.stack_backup.artifact import Lock

from . import catalog, growth, live, offsite, restore
from .measure import say
from .page import SECTIONS, write
from .report import machine
from .servers import ROOT
from .ways import WAYS

_DEFAULT = ["backup", "live", "restore", "catalog"]


def _options(argv: Optional[list[str]]) -> argparse.Namespace:
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=shown)
    add = parser.add_argument
    add("--only", nargs="*", choices=SECTIONS, default=_DEFAULT, help=f"sections (default {' '.join(_DEFAULT)})")
    add("--postgres-mb", type=int, default=100, help="MiB of Postgres tables (default 100; goals want 1000)")
    add("--redis-mb", type=int, default=30, help="MiB of Redis's memory (default 30; goals want 1000)")
    add("--rounds", type=int, default=3, help="of everything (default 3)")
    names = [*dict.fromkeys(way.name for way in WAYS), "both"]
    add("--ways", nargs="+", choices=names, default=[], help="of backup and live (default: all on the first version)")
    add("--postgres", nargs="*", default=["17", "15"], metavar="VERSION", help="default 17 15")
    add("--redis", nargs="*", default=["8.0"], metavar="VERSION", help="default 8.0")
    add("--folder", type=Path, default=ROOT / ".cache", help="where backups go for the moment")
    add("--out", type=Path, default=ROOT / "docs", help="where benchmarks.md, .svg and the figures go")
    for section in (live, restore, catalog, growth, offsite):
        section.add_options(parser)
    options = parser.parse_args(argv)
    if not options.postgres + options.redis:
        parser.error("give at least one server")
    # What makes the figures other than by default, for the page.
    given = {name: value for name, value in vars(options).items() if value != parser.get_default(name)}
    options.given = " ".join(
        f"--{name.replace('_', '-')} {' '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in given.items()
        if name not in ("only", "folder", "out")
    )
    return options


def _keep(folder: Path, name: str, told: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def main(argv: Optional[list[str]] = None) -> None:
    """Measure the sections asked for and write the page; without any, only write it."""
    options = _options(argv)
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    for folder in (ROOT / ".cache", options.folder):
        folder.mkdir(parents=True, exist_ok=True)
    with Lock(ROOT / ".cache"):
        for name in options.only:
            say(f"{name}")
            with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as scratch:
                where, began = machine(Path(scratch)), time.monotonic()
                told = SECTIONS[name].measure(options, Path(scratch))
            run = {"machine": where, "options": options.given, "seconds": round(time.monotonic() - began)}
            _keep(options.out / "benchmarks", name, {**run, "told": told})
            print(f"\n{SECTIONS[name].text(told)}", flush=True)
        write(options.out)


if __name__ == "__main__":
    main()
