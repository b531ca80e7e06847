"""Clients at work while backups are taken: their requests are due at a steady rate, and each one's answer is timed.

How long a request took counts from when it was due, not from when it was sent: who waits in a queue waits too.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

from .samples import Request
from .servers import ROOT, Server, sh

__all__ = ["RATES", "load", "parse_pgbench", "service"]

RATES = {"postgres": 300, "redis": 1000}  # requests a second
Read = Callable[[], list[Request]]
_TAIL = 2.0  # seconds, for what pgbench has in its buffer when it is killed
# One order written and one read.
_SCRIPT = """\\set one random(1, {rows})
\\set other random(1, {rows})
UPDATE orders SET quantity = quantity + 1 WHERE id = :one;
SELECT * FROM orders WHERE id = :other;
"""
# pgbench ends when its server stops, and begins anew. The image is the server's.
_SERVICE = """  load:
    image: {image}
    init: true
    user: "{user}"
    environment: {{PGPASSWORD: bench}}
    volumes: ["{folder}:/load"]
    entrypoint: ["sh", "-c", "while :; do [ -s /load/script.sql ] && pgbench -n -h {host} -U bench -f /load/script.sql -c 4 -R {rate} -T 86400 -l --log-prefix=/load/log bench; sleep 0.1; done"]
"""


def service(server: Server, folder: Path) -> str:
    """pgbench as a service for compose.yml; it waits for its script in ``folder``."""
    owner = folder.stat()
    user = f"{owner.st_uid}:{owner.st_gid}"
    return _SERVICE.format(image=server.image, user=user, folder=folder, host=server.service, rate=RATES["postgres"])


def parse_pgbench(text: str) -> list[Request]:
    """The requests in a log of pgbench: client, number, microseconds, script, and the time of the end in two parts."""
    rows = [line.split() for line in text.splitlines()]
    whole = [row for row in rows if len(row) >= 6 and row[2].isdigit()]  # not the last one, cut off by the kill
    return [(int(row[4]) + int(row[5]) / 1e6, int(row[2]) / 1e6) for row in whole]


@contextmanager
def load(server: Server, folder: Path) -> Iterator[Read]:
    """Clients are at work while the block is; what it gets tells of their requests, and ends them."""
    with (_postgres if server.engine == "postgres" else _redis)(server, folder) as read:
        yield read


@contextmanager
def _postgres(server: Server, folder: Path) -> Iterator[Read]:
    (folder / "script.sql").write_text(_SCRIPT.format(rows=server.sql("SELECT max(id) FROM orders;")))

    def read() -> list[Request]:
        time.sleep(_TAIL)
        server.compose("kill", "load")
        return sorted(request for file in folder.glob("log.*") for request in parse_pgbench(file.read_text()))

    yield read


@contextmanager
def _redis(server: Server, _folder: Path) -> Iterator[Read]:
    address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    host = sh("docker", "inspect", "--format", address, server.container).strip()
    keys = server.exec("redis-cli", "--raw", "ZCARD", "prices").strip()
    argv = (sys.executable, "-m", "benchmarks.redis_client", host, str(RATES["redis"]), keys)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as client:

        def read() -> list[Request]:
            said, _none = client.communicate()
            if client.returncode:
                raise RuntimeError(f"the clients of {server.title} ended early")
            rows = (line.split() for line in said.splitlines())
            return [(float(when), float(took)) for when, took in rows]

        try:
            yield read
        finally:
            client.kill()
