"""Measures offsite copies against bare rclone with the same flags. ``python -m benchmarks.offsite --help``."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Callable, Iterator, Optional

from module_utils.stack_backup import arguments
from module_utils.stack_backup.artifact import Lock
from module_utils.stack_backup.offsite.rclone import flags

from .data import MIB
from .report import machine
from .servers import ROOT, sh

_KEY, _SECRET = "bench-key", "bench-secret"  # noqa: S105 - of a server on loopback that lives for minutes
_JOB = (
    "import json, sys; from module_utils.stack_backup.offsite import copy; "
    "print(json.dumps(copy.copy(json.load(sys.stdin))))"
)
Seconds = dict[str, list[float]]


def _options(argv: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.offsite", description=__doc__)
    parser.add_argument("--points", type=int, default=1000, help="recovery points that are there (default 1000)")
    parser.add_argument("--mb", type=int, default=1000, help="MiB of the point that is transferred (default 1000)")
    parser.add_argument("--rounds", type=int, default=5, help="of each (default 5)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks-offsite.md", help="the report")
    return parser.parse_args(argv)


def _point(backups: Path, point: str, size: int) -> None:
    """One recovery point of two stores; ``size`` bytes of Postgres."""
    for store, suffix, length in (("postgres", ".dump", size), ("redis", ".rdb", 1000)):
        folder = backups / store
        folder.mkdir(parents=True, exist_ok=True)
        artifact, digest = folder / f"{store}-{point}{suffix}", hashlib.sha256()
        with artifact.open("wb") as file:
            for begin in range(0, length, MIB):
                block = os.urandom(min(MIB, length - begin))
                digest.update(block)
                file.write(block)
        manifest = {
            **{"format": 1, "stack": "bench", "store": store, "engine": store},
            "artifact": {"name": artifact.name, "size": length, "sha256": digest.hexdigest()},
            "point": {"id": point, "purpose": "backup", "stores": ["postgres", "redis"]},
            **{"pin": {"at": "2026-01-01T00:00:00+00:00"}, "seconds": {"total": 1.0}},
        }
        (folder / f"{store}-{point}.json").write_text(json.dumps(manifest))


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
    answer: dict[str, Any] = json.loads(sh(sys.executable, "-c", _JOB, stdin=json.dumps(params)))
    return answer


def _timed(seconds: Seconds, name: str, call: Callable[[], object]) -> None:
    os.sync()
    began = time.monotonic()
    call()
    seconds.setdefault(name, []).append(time.monotonic() - began)
    print(f"bench: {name}: {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)


def _there_already(scratch: Path, conf: Path, points: int, rounds: int) -> Seconds:
    """Every point is at the remote: the bare listing, and our job with and without its comparison of one old point."""
    backups = scratch / "many"
    for number in range(points):
        _point(backups, time.strftime("%Y%m%d-%H%M%S", time.gmtime(1767225600 + 3600 * number)), 1000)
    shutil.copytree(backups, scratch / "remote" / "bucket" / "many")
    params = _params(backups, conf, "many")
    first = _ours(params)  # fetches the manifests, once
    if len(first["there"]) != points:
        raise RuntimeError(f"{len(first['there'])} of {points} points are there")
    seconds: Seconds = {}
    listing = ("lsjson", "--recursive", "--files-only", "--no-modtime", "--no-mimetype", "--fast-list")
    for _ in range(rounds):
        _timed(seconds, "bare listing", lambda: _bare(params, *listing, "s3:bucket/many/"))
        _timed(seconds, "ours", lambda: _ours(params))
        _timed(seconds, "ours, nothing compared again", lambda: _ours({**params, "check_points": 0}))
    return seconds


def _transfer(scratch: Path, conf: Path, mib: int, rounds: int) -> Seconds:
    """One large point, new where a small one is already: bare copy and check of the same files, and our job."""
    backups = scratch / "large"
    _point(backups, "20260101-000000", 1000)
    bare, ours = _params(backups, conf, "bare"), _params(backups, conf, "ours", check_points=0)
    source = (str(backups), "s3:bucket/bare/", "--exclude", ".offsite/**")
    small = (*source[:2], "--include", "/*/*-20260101-*")
    _bare(bare, "copy", "--immutable", *source)
    _ours(ours)
    _point(backups, "20260102-000000", mib * MIB)
    seconds: Seconds = {}
    for _ in range(rounds):
        _timed(seconds, "bare copy", lambda: _bare(bare, "copy", "--immutable", *source))
        _timed(seconds, "bare check", lambda: _bare(bare, "check", "--one-way", *source))
        _timed(seconds, "bare check of the small one", lambda: _bare(bare, "check", "--one-way", *small))
        _timed(seconds, "ours", lambda: _ours(ours))
        for file in (scratch / "remote" / "bucket").glob("*/*/*-20260102-*"):
            file.unlink()
    return seconds


def _table(seconds: Seconds) -> str:
    rows = [f"| {name} | {median(each):.2f} | {min(each):.2f}–{max(each):.2f} |\n" for name, each in seconds.items()]
    return "| | seconds | lowest–highest |\n| --- | --- | --- |\n" + "".join(rows)


def _page(options: argparse.Namespace, where: str, listing: Seconds, transfer: Seconds) -> str:
    middle = {name: median(each) for name, each in transfer.items()}
    both = middle["bare copy"] + middle["bare check"]
    again = middle["bare check of the small one"]
    listed = {name: median(each) for name, each in listing.items()}
    return (
        "# Offsite copies, measured\n\n"
        f"To `rclone serve s3` on the same machine, {options.rounds} interleaved rounds, medians. {where}.\n"
        "Again: `make bench-offsite`, or `python -m benchmarks.offsite --help`.\n\n"
        f"## {options.points} recovery points that are there already\n\n{_table(listing)}\n"
        f"Ours ÷ bare listing: {listed['ours'] / listed['bare listing']:.2f}. Ours is the start of Python, the listing, the\n"
        "file that says whose the prefix is, the catalogs of both sides, and one point compared by hash.\n\n"
        f"## {options.mb} MiB that are not there\n\n{_table(transfer)}\n"
        f"Ours ÷ (bare copy + bare check): {middle['ours'] / both:.2f}; the goal is 1.10. This server reads every\n"
        "object anew for each listing that gives hashes, also where a small file alone is compared (third row); S3 itself\n"
        "keeps them. Ours compares twice, the data and then the manifests. Without the second reading: "
        f"{(middle['ours'] - again) / both:.2f}.\n"
    )


def main(argv: Optional[list[str]] = None) -> None:
    """Measure, print the report and write it."""
    options = _options(argv)
    for folder in (ROOT / ".cache", options.out.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with Lock(ROOT / ".cache"), tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / ".cache") as name:
        scratch = Path(name)
        where = machine(scratch)
        with _server(scratch) as conf:
            listing = _there_already(scratch, conf, options.points, options.rounds)
            transfer = _transfer(scratch, conf, options.mb, options.rounds)
    text = _page(options, where, listing, transfer)
    print(text)
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
