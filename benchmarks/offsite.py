"""Offsite copies against bare rclone with the same flags."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Callable, Iterator

from module_utils.stack_backup import arguments
from module_utils.stack_backup.offsite.rclone import flags

from .data import MIB
from .measure import say
from .points import BARE, write_point, write_points
from .report import goal, span, table
from .servers import sh

__all__ = ["add_options", "goals", "measure", "text"]

_KEY, _SECRET = "bench-key", "bench-secret"  # noqa: S105 - of a server on loopback that lives for minutes
_JOB = (sys.executable, "-m", "benchmarks.job", "engine", "offsite_copy")
_OLD = 1767225600.0  # the first of January 2026
Seconds = dict[str, list[float]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this section."""
    add = parser.add_argument
    add(
        "--offsite-points", type=int, nargs="+", default=[1000], metavar="N", help="points at the remote (default 1000)"
    )
    add("--offsite-mb", type=int, default=1000, help="MiB of the point that is transferred (default 1000)")


@contextmanager
def _server(scratch: Path) -> Iterator[Path]:
    """rclone's S3 server over ``scratch/remote``; gives the folder of its ``rclone.conf``."""
    (scratch / "remote" / "bucket").mkdir(parents=True)
    (scratch / "conf").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = {"type": "s3", "provider": "Rclone", "endpoint": f"http://{address}", "region": "us-east-1"}
    options.update(access_key_id=_KEY, secret_access_key=_SECRET)
    lines = "".join(f"{name} = {value}\n" for name, value in options.items())
    (scratch / "conf" / "rclone.conf").write_text(f"[s3]\n{lines}")
    argv = ["rclone", "--config", os.devnull, "serve", "s3", "--addr", address, "--auth-key", f"{_KEY},{_SECRET}"]
    with subprocess.Popen(
        [*argv, "--dir-cache-time", "100ms", str(scratch / "remote")], stderr=subprocess.DEVNULL
    ) as server:
        try:
            time.sleep(1)
            yield scratch / "conf"
        finally:
            server.terminate()


def _params(backups: Path, conf: Path, prefix: str, **given: Any) -> dict[str, Any]:
    params = {name: option.get("default") for name, option in arguments.OFFSITE_COPY.items()}
    params.update(stack="bench", backup_dir=str(backups), config_dir=str(conf), runner="host")
    return {**params, "remote": f"s3:bucket/{prefix}", **given}


def _bare(params: dict[str, Any], *args: str) -> None:
    sh("rclone", "--config", f"{params['config_dir']}/rclone.conf", *flags(params), *args)


def _ours(params: dict[str, Any]) -> dict[str, Any]:
    """A job in a process of its own, as the host's command runs it."""
    answer: dict[str, dict[str, Any]] = json.loads(sh(*_JOB, stdin=json.dumps(params)))
    return answer["report"]


def _timed(seconds: Seconds, name: str, call: Callable[[], object]) -> None:
    os.sync()
    began = time.monotonic()
    call()
    seconds.setdefault(name, []).append(time.monotonic() - began)
    say(f"{name}: {seconds[name][-1]:.2f} s")


def _there_already(scratch: Path, conf: Path, points: int, rounds: int) -> Seconds:
    """Every point is at the remote: the bare listing, and our job with and without its comparison of one old point."""
    name = f"many{points}"
    backups = scratch / name
    write_points(backups, points)
    shutil.copytree(backups, scratch / "remote" / "bucket" / name)
    params = _params(backups, conf, name)
    first = _ours(params)  # fetches the manifests, once
    if len(first["there"]) != points:
        raise RuntimeError(f"{len(first['there'])} of {points} points are there")
    seconds: Seconds = {}
    listing = ("lsjson", "--recursive", "--files-only", "--no-modtime", "--no-mimetype", "--fast-list")
    for _ in range(rounds):
        _timed(seconds, "bare listing", lambda: _bare(params, *listing, f"s3:bucket/{name}/"))
        _timed(seconds, "bare reading of the manifests", lambda: sh(*BARE, str(backups)))
        _timed(seconds, "ours", lambda: _ours(params))
        _timed(seconds, "ours, nothing compared again", lambda: _ours({**params, "check_points": 0}))
    return seconds


def _transfer(scratch: Path, conf: Path, mib: int, rounds: int) -> Seconds:
    """One large point, new where a small one is already: bare copy and check of the same files, and our job."""
    backups = scratch / "large"
    write_point(backups, _OLD)
    bare, ours = _params(backups, conf, "bare"), _params(backups, conf, "ours", check_points=0)
    source = (str(backups), "s3:bucket/bare/", "--exclude", ".offsite/**")
    small = (*source[:2], "--include", "/*/*-20260101-*")
    _bare(bare, "copy", "--immutable", *source)
    _ours(ours)
    write_point(backups, _OLD + 86400, mib * MIB)
    seconds: Seconds = {}
    for _ in range(rounds):
        _timed(seconds, "bare copy", lambda: _bare(bare, "copy", "--immutable", *source))
        _timed(seconds, "bare check", lambda: _bare(bare, "check", "--one-way", *source))
        _timed(seconds, "bare check of the small one", lambda: _bare(bare, "check", "--one-way", *small))
        _timed(seconds, "ours", lambda: _ours(ours))
        for file in (scratch / "remote" / "bucket").glob("*/*/*-20260102-*"):
            file.unlink()
    return seconds


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Listings at each number of points, then a transfer."""
    with _server(scratch) as conf:
        listings = {str(n): _there_already(scratch, conf, n, options.rounds) for n in options.offsite_points}
        transfer = _transfer(scratch, conf, options.offsite_mb, options.rounds)
    return {"rounds": options.rounds, "mb": options.offsite_mb, "listings": listings, "transfer": transfer}


def _table(first: str, seconds: Seconds) -> str:
    return table([first, "seconds"], [[name, span(each)] for name, each in seconds.items()])


def _ratio(seconds: Seconds, above: str, *below: str) -> float:
    return median(seconds[above]) / sum(median(seconds[name]) for name in below)


def text(told: dict[str, Any]) -> str:
    """The section of the page."""
    transfer = told["transfer"]
    listings = "\n\n".join(_table(f"{points} points that are there", each) for points, each in told["listings"].items())
    again = median(transfer["bare check of the small one"])
    both = median(transfer["bare copy"]) + median(transfer["bare check"])
    return (
        f"To `rclone serve s3` on the same machine, {told['rounds']} interleaved rounds, medians (lowest–highest); *bare* is rclone\n"
        f"by hand with the same flags.\n\n{listings}\n\n"
        "Ours is the start of Python, the listing, the file that says whose the prefix is, the catalogs of both sides, and one\n"
        f"point compared by hash.\n\n{_table(str(told['mb']) + ' MiB that are not there', transfer)}\n\n"
        "This server reads every object anew for each listing that gives hashes, also where a small file alone is compared\n"
        "(third row); S3 itself keeps them. Ours compares twice, the data and then the manifests. Without the second reading,\n"
        f"ours ÷ (bare copy + bare check) is {(median(transfer['ours']) - again) / both:.2f}.\n"
    )


def goals(told: dict[str, Any]) -> list[list[str]]:
    """What was to be reached, and what was."""
    listings, rows = told["listings"], []
    for points, each in listings.items():
        bare = ("bare listing", "bare reading of the manifests")
        rows += goal(
            f"offsite, {points} points that are there: ours ÷ listing and reading", _ratio(each, "ours", *bare), 2
        )
    few, many = min(listings, key=int), max(listings, key=int)
    if few != many:
        growth = median(listings[many]["ours"]) / int(many) / (median(listings[few]["ours"]) / int(few))
        rows += goal(f"offsite: seconds for each point, {many} ÷ {few}", growth, 1.1)
    new = _ratio(told["transfer"], "ours", "bare copy", "bare check")
    return rows + goal(f"offsite, {told['mb']} MiB that are new: ours ÷ copy and check", new, 1.1)
