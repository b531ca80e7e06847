"""The servers that are measured: a Compose project of its own, filled, and removed by its exact name."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

from .data import MIB, REDIS_BATCH, REDIS_SCRIPT, postgres_sql

__all__ = ["NETWORK", "PROJECT", "ROOT", "Server", "Stack", "fill", "sh"]

ROOT = Path(__file__).resolve().parent.parent
# A checkout's own: another one may be measured beside it.
PROJECT = f"stack-backup-bench-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:6]}"
NETWORK = f"{PROJECT}_default"  # where the servers answer by the names of their services
# autovacuum=off makes the rounds alike; a backup takes up to four connections, a fleet shares this server.
_POSTGRES = """  {name}:
    image: {image}
    command: postgres -c autovacuum=off -c max_wal_size=8GB -c max_connections=500
    environment: {{POSTGRES_PASSWORD: bench, POSTGRES_USER: bench, POSTGRES_DB: bench}}
    shm_size: 256m
"""
_REDIS = """  {name}:
    image: {image}
    command: redis-server --save "" --protected-mode no
"""


def sh(*argv: str, stdin: Optional[str] = None) -> str:
    """The output of a program, run in the checkout. Raises RuntimeError with its words when it fails."""
    result = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, cwd=ROOT)
    if result.returncode:
        raise RuntimeError(f"{' '.join(argv[:4])} …: {(result.stderr or result.stdout).strip()[-500:]}")
    return result.stdout


@dataclass
class Server:
    """One database. ``size`` in bytes: Postgres's tables, Redis's memory."""

    engine: str
    version: str
    project_dir: Path
    size: int = 0
    project: str = PROJECT

    @property
    def service(self) -> str:
        """Its name in the Compose project."""
        return f"{self.engine}{self.version.replace('.', '')}"

    @property
    def title(self) -> str:
        """Its name for people."""
        return f"{self.engine.capitalize()} {self.version}"

    @property
    def image(self) -> str:
        """Its image."""
        return f"{self.engine}:{self.version}"

    @property
    def container(self) -> str:
        """Its container."""
        return f"{self.project}-{self.service}-1"

    def compose(self, *args: str) -> str:
        """``docker compose`` in the project."""
        return sh("docker", "compose", "--project-directory", str(self.project_dir), "-p", self.project, *args)

    def exec(self, *argv: str, stdin: Optional[str] = None) -> str:
        """A program in the container."""
        return sh("docker", "exec", *(["-i"] if stdin else []), self.container, *argv, stdin=stdin)

    def sql(self, sql: str) -> str:
        """SQL on the database that is measured."""
        argv = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "bench", "-d", "bench")
        return self.exec(*argv, stdin=sql).strip()

    def beside(self, folder: Path, shell: str, network: str = NETWORK, more: Sequence[str] = ()) -> str:
        """A shell command in a throw-away container of the same image, ``folder`` is its /out; ``more``: options."""
        argv = ["docker", "run", "--rm", "--user", f"{os.getuid()}:{os.getgid()}", "--network", network, *more]
        argv += ["--mount", f"type=bind,source={folder},target=/out", "--env", "PGPASSWORD=bench"]
        return sh(*argv, "--entrypoint", "sh", self.image, "-ec", shell)

    @property
    def inside(self) -> str:
        """The network in which the server answers on 127.0.0.1, without a password."""
        return f"container:{self.container}"

    def exact_version(self) -> str:
        """As the server tells it, with the build."""
        if self.engine == "postgres":
            return self.sql("SHOW server_version;")
        return self.exec("redis-cli", "info", "server").split("redis_version:")[1].split()[0]

    def wait(self) -> None:
        """Wait until it answers."""
        probe = ["psql", "-XAtq", "-h", "127.0.0.1", "-U", "bench", "-d", "bench", "-c", "select 1"]
        for attempt in range(120):
            try:
                self.exec(*(probe if self.engine == "postgres" else ["redis-cli", "-e", "ping"]))
                return
            except RuntimeError:
                if attempt == 119:
                    raise
                time.sleep(0.25)

    def fill(self, mib: int) -> None:
        """Fill it with ``mib`` MiB of mixed data."""
        self.wait()
        if self.engine == "postgres":
            # The filling alone goes without fsync: what is measured afterwards is a server as people run it.
            self.sql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
            self.sql(postgres_sql(mib))
            self.sql("ALTER SYSTEM RESET fsync; SELECT pg_reload_conf();")
            self.size = int(
                self.sql(
                    "SELECT sum(pg_table_size(oid)) FROM pg_class "
                    "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace;"
                )
            )
            return
        begin = 1
        while self.size < mib * MIB:
            self.exec("redis-cli", "-e", "eval", REDIS_SCRIPT, "0", str(begin), str(REDIS_BATCH))
            begin += REDIS_BATCH
            memory = self.exec("redis-cli", "-e", "info", "memory")
            self.size = int(memory.split("used_memory:")[1].split()[0])


class Stack:
    """``with Stack(...) as servers:`` they run while the block does."""

    def __init__(
        self, folder: Path, postgres: Sequence[str], redis: Sequence[str], more: str = "", project: str = PROJECT
    ) -> None:
        """``more``: further services, as compose.yml has them."""
        self._folder, self._more, self._project = folder, more, project
        self.servers = [
            *(Server("postgres", version, folder, project=project) for version in postgres),
            *(Server("redis", version, folder, project=project) for version in redis),
        ]

    def _down(self) -> None:
        sh("docker", "compose", "-p", self._project, "down", "--volumes", "--timeout", "1")

    def __enter__(self) -> list[Server]:
        texts = {"postgres": _POSTGRES, "redis": _REDIS}
        services = (texts[item.engine].format(name=item.service, image=item.image) for item in self.servers)
        (self._folder / "compose.yml").write_text("services:\n" + "".join(services) + self._more)
        self._down()  # what a run that was killed has left
        try:
            self.servers[0].compose("up", "--detach", "--pull", "never")
        except BaseException:
            self._down()
            raise
        return self.servers

    def __exit__(self, *_exc: object) -> None:
        self._down()


def fill(servers: Sequence[Server], sizes: dict[str, int]) -> None:
    """Fill all at once; ``sizes`` are MiB by engine."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda server: server.fill(sizes[server.engine]), servers))
