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

__all__ = ["WAYS", "Outcome", "Way", "take"]


@dataclass(frozen=True)
class Outcome:
    """What a way wrote, and what the engine told of itself. Bytes, seconds."""

    file: Path
    steps: dict[str, float] = field(default_factory=dict)
    peak: int = 0
    child: int = 0


@dataclass(frozen=True)
class Way:
    """A way of taking a backup. ``words`` tell a person what it does."""

    name: str
    engine: str
    words: str
    run: Callable[[Server, Path], Outcome]


def _compression(server: Server) -> str:
    """What the engine takes by default, as ``pg_dump --compress`` and as its manifest call it."""
    return "zstd:1" if int(server.version) >= 16 else "gzip:1"


def postgres_runbook(server: Server, folder: Path) -> Outcome:
    """pg_dump in the container, then a copy to the host."""
    dump = 'rm -f /tmp/bench.dump; pg_dump -U "$POSTGRES_USER" -Fc -f /tmp/bench.dump "$POSTGRES_DB"'
    server.compose("exec", "-T", server.service, "sh", "-lc", dump)
    server.compose("cp", f"{server.service}:/tmp/bench.dump", str(folder / "bench.dump"))
    return Outcome(folder / "bench.dump")


def _beside(server: Server, folder: Path, *options: str, program: Sequence[str]) -> None:
    options += ("--rm", "--user", f"{os.getuid()}:{os.getgid()}", "--mount", f"type=bind,source={folder},target=/out")
    sh("docker", "run", *options, "--entrypoint", program[0], server.image, *program[1:])


def postgres_bare(server: Server, folder: Path) -> Outcome:
    """pg_dump by hand in a container of the same image beside the server; it does its own fsync."""
    level = _compression(server)
    program = ["pg_dump", "-w", "-h", "127.0.0.1", "-U", "bench", "-d", "bench", "-Fc", "-f", "/out/bench.dump"]
    program += ["--compress", level if level.startswith("zstd") else level.split(":")[1]]
    _beside(server, folder, "--network", f"container:{server.container}", program=program)
    return Outcome(folder / "bench.dump")


def redis_runbook(server: Server, folder: Path) -> Outcome:
    """SAVE, then a copy to the host."""
    server.compose("exec", "-T", server.service, "redis-cli", "-e", "SAVE")
    server.compose("cp", f"{server.service}:/data/dump.rdb", str(folder / "bench.rdb"))
    return Outcome(folder / "bench.rdb")


def redis_bare(server: Server, folder: Path) -> Outcome:
    """BGSAVE, wait for its end, a copy to the host and its fsync."""
    wait = "until redis-cli info persistence | grep -q rdb_bgsave_in_progress:0; do sleep 0.02; done"
    server.exec("sh", "-c", f"redis-cli -e BGSAVE && {wait}")
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
    argv = (sys.executable, "-m", "benchmarks.job", mode)
    said = json.loads(sh(*argv, stdin=json.dumps(params)))
    store = said["report"]["stores"][0]
    if store["via"]["used"] != "side":
        raise RuntimeError(f"the engine did not use its side container: {store['via']['reason']}")
    manifest = json.loads(Path(store["file"]).with_suffix(".json").read_text())
    if servers[0].engine == "postgres" and manifest["artifact"]["compression"] != _compression(servers[0]):
        raise RuntimeError(f"the engine compressed by {manifest['artifact']['compression']}: postgres_bare does not")
    return Outcome(Path(store["file"]), store["steps"], said["peak"], said["child"])


def ours(server: Server, folder: Path) -> Outcome:
    """A recovery point of this one store."""
    return take([server], folder)


def ours_directory(server: Server, folder: Path) -> Outcome:
    """The same with format: directory."""
    return take([server], folder, format="directory")


WAYS = [
    Way("runbook", "postgres", "`pg_dump -Fc` (gzip) in the container, then `docker compose cp`", postgres_runbook),
    Way("bare", "postgres", "`pg_dump -Fc` by hand beside the server, compressed as ours", postgres_bare),
    Way("ours", "postgres", "stack-backup", ours),
    Way("directory", "postgres", "stack-backup, `format: directory`, 2 jobs", ours_directory),
    Way("runbook", "redis", "`SAVE`, then `docker compose cp`", redis_runbook),
    Way("bare", "redis", "`BGSAVE` and `docker cp` by hand, fsync", redis_bare),
    Way("ours", "redis", "stack-backup", ours),
]
