"""The ways of taking a backup, one function each: a server and an empty folder in, what was written out.

Each function does what a person would have to wait for, and nothing else; the clock is the caller's.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Sequence

from .servers import PROJECT, Server, sh

__all__ = ["WAYS", "Outcome", "Way", "bgsave", "take", "ways_for"]


@dataclass(frozen=True)
class Outcome:
    """What a way wrote, and what the engine told of itself. Bytes, seconds."""

    file: Path
    steps: dict[str, float] = field(default_factory=dict)
    peak: int = 0
    child: int = 0


@dataclass(frozen=True)
class Way:
    """A way of taking a backup. ``words`` tell a person what it does, ``short`` is its name in the plot."""

    name: str
    engine: str
    words: str
    run: Callable[[Server, Path], Outcome]
    since: int = 0  # the first version that has what it takes
    goal: bool = False  # whether a goal is about it: it is measured on every server
    live: bool = False  # whether what the clients feel is measured too


def _compression(server: Server) -> str:
    """What the engine takes by default, as ``pg_dump --compress`` and as its manifest call it."""
    return "zstd:1" if int(server.version) >= 16 else "gzip:1"


def _postgres_runbook(server: Server, folder: Path) -> Outcome:
    dump = 'rm -f /tmp/bench.dump; pg_dump -U "$POSTGRES_USER" -Fc -f /tmp/bench.dump "$POSTGRES_DB"'
    server.compose("exec", "-T", server.service, "sh", "-lc", dump)
    server.compose("cp", f"{server.service}:/tmp/bench.dump", str(folder / "bench.dump"))
    return Outcome(folder / "bench.dump")


def _exec_gzip(server: Server, folder: Path) -> Outcome:
    file = folder / "bench.sql.gz"
    sh("sh", "-c", 'docker exec "$0" pg_dump -U bench bench | gzip > "$1"', server.container, str(file))
    return Outcome(file)


def _dumped_by(name: str, options: str, *, network: bool = False) -> Callable[[Server, Path], Outcome]:
    """pg_dump in a container beside the server; over the network, as one that has its own container does it."""

    def run(server: Server, folder: Path) -> Outcome:
        given = options or f"-Fc --compress={_compression(server).replace('gzip:', '')}"
        host, where = (server.service, {}) if network else ("127.0.0.1", {"network": server.inside})
        server.beside(folder, f"pg_dump -h {host} -U bench -d bench {given} -f /out/{name}", **where)
        return Outcome(folder / name)

    return run


def _volume(server: Server, folder: Path) -> Outcome:
    data = 'data=$(ls -d /var/lib/postgresql/*/docker /var/lib/postgresql/data 2>/dev/null | head -n 1); cd "$data"'
    tar = f"{data}; tar -cz -f /out/bench.tar.gz .; chown {os.getuid()}:{os.getgid()} /out/bench.tar.gz"
    server.compose("stop", server.service)
    try:
        server.beside(folder, tar, "none", ["--user", "0:0", "--volumes-from", server.container])
    finally:
        server.compose("start", server.service)
    return Outcome(folder / "bench.tar.gz")


def _basebackup(server: Server, folder: Path) -> Outcome:
    server.beside(folder, "pg_basebackup -h 127.0.0.1 -U bench -c fast -D /out/base", server.inside)
    return Outcome(folder / "base")


def _redis_runbook(server: Server, folder: Path) -> Outcome:
    server.compose("exec", "-T", server.service, "redis-cli", "-e", "SAVE")
    server.compose("cp", f"{server.service}:/data/dump.rdb", str(folder / "bench.rdb"))
    return Outcome(folder / "bench.rdb")


def _rdb(server: Server, folder: Path) -> Outcome:
    server.beside(folder, f"redis-cli -h {server.service} --rdb /out/bench.rdb")
    return Outcome(folder / "bench.rdb")


def bgsave(server: Server) -> None:
    """Let Redis save by its fork, and wait for the end."""
    wait = "until redis-cli info persistence | grep -q rdb_bgsave_in_progress:0; do sleep 0.02; done"
    server.exec("sh", "-c", f"redis-cli -e BGSAVE && {wait}")


def _redis_bare(server: Server, folder: Path) -> Outcome:
    bgsave(server)
    file = folder / "bench.rdb"
    sh("docker", "cp", f"{server.container}:/data/dump.rdb", str(file))
    with file.open("rb") as copied:
        os.fsync(copied.fileno())
    return Outcome(file)


def take(servers: Sequence[Server], folder: Path, mode: str = "engine", **options: Any) -> Outcome:
    """A recovery point by the engine, or through the module; the steps are those of the first server's store."""
    stores = [
        {"name": server.engine, "engine": server.engine, "service": server.service, **options} for server in servers
    ]
    params = {
        "stack": "bench",
        "backup_dir": str(folder),
        "project_dir": str(servers[0].project_dir),
        "project_name": PROJECT,
        "timeout": 3600,
        "stores": stores,
    }
    argv = (sys.executable, "-m", "benchmarks.job", mode, "recovery_point")
    said = json.loads(sh(*argv, stdin=json.dumps(params)))
    store = said["report"]["stores"][0]
    if store["via"]["used"] != "side":
        raise RuntimeError(f"the engine did not use its side container: {store['via']['reason']}")
    manifest = json.loads(Path(store["file"]).with_suffix(".json").read_text())
    if servers[0].engine == "postgres" and manifest["artifact"]["compression"] != _compression(servers[0]):
        raise RuntimeError(f"the engine compressed by {manifest['artifact']['compression']}: `bare` does not")
    return Outcome(Path(store["file"]), store["steps"], said["peak"], said["child"])


def _ours(server: Server, folder: Path) -> Outcome:
    return take([server], folder)


def _ours_directory(server: Server, folder: Path) -> Outcome:
    return take([server], folder, format="directory")


_gzip_sql = _dumped_by("bench.sql.gz", "-Z1", network=True)
_zstd = _dumped_by("bench.dump", "-Fc --compress=zstd:5", network=True)
WAYS = [
    Way(
        "runbook",
        "postgres",
        "the runbook: `pg_dump -Fc` in the container, `cp`",
        _postgres_runbook,
        goal=True,
        live=True,
    ),
    Way("exec", "postgres", "`docker exec … pg_dump \\| gzip`", _exec_gzip),
    Way("databasus", "postgres", "Databasus: `-Fc --compress=zstd:5` over the network", _zstd, since=16, live=True),
    Way("prodrigestivill", "postgres", "prodrigestivill: `-Z1`, SQL over the network", _gzip_sql),
    Way("volume", "postgres", "offen: stop, tar.gz of the volume, start", _volume, live=True),
    Way("uncompressed", "postgres", "bare: `pg_dump -Fc -Z0`, uncompressed", _dumped_by("bench.dump", "-Fc -Z0")),
    Way("basebackup", "postgres", "bare: `pg_basebackup`", _basebackup),
    Way("bare", "postgres", "bare: `pg_dump -Fc`, compressed as ours", _dumped_by("bench.dump", ""), goal=True),
    Way("ours", "postgres", "stack-backup", _ours, goal=True, live=True),
    Way("directory", "postgres", "stack-backup, `format: directory`", _ours_directory),
    Way("runbook", "redis", "the runbook: `SAVE`, `cp`", _redis_runbook, goal=True, live=True),
    Way("rdb", "redis", "`redis-cli --rdb` over the network", _rdb, live=True),
    Way("bare", "redis", "bare: `BGSAVE`, `docker cp`, fsync", _redis_bare, goal=True, live=True),
    Way("ours", "redis", "stack-backup", _ours, goal=True, live=True),
]


def ways_for(server: Server, names: Sequence[str], *, first: bool) -> list[Way]:
    """The ways that are measured on a server: of these names; where none is given all on the ``first`` of its engine,
    and on another version of it what the goals are about."""
    return [
        way
        for way in WAYS
        if way.engine == server.engine
        and float(server.version) >= way.since
        and (way.name in names if names else first or way.goal)
    ]
