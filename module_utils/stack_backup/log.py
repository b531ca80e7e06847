"""What a server's log says of a failure."""

from __future__ import annotations

import re

from .containers import Docker

__all__ = ["complaint"]

_WARNING = re.compile(r"^\d+:\w .* # ")  # server.c, serverLogRaw(): pid:role date level message; "#" is a warning


def complaint(docker: Docker, container: str, since: float) -> str:
    """The last warnings in a container's log after ``since`` (Unix seconds), else its last lines."""
    result = docker.call("logs", "--since", str(int(since) - 1), "--tail", "200", container, check=False)
    lines = [line.strip() for line in (result.out + result.err).splitlines() if line.strip()]
    warnings = [line.split(" # ", 1)[1] for line in lines if _WARNING.match(line)]
    return "; ".join((warnings or lines)[-5:]) or "nothing (see the server's own logfile)"
