"""Stops and starts a server's container, and waits until it has loaded its data."""

from __future__ import annotations

import time
from typing import Any, Callable

from ..containers import Container, Docker
from ..errors import BackupError
from ..log import complaint

__all__ = ["Server", "unready"]

_PAUSE = 0.1
# What a client is told while the container or the server in it is on its way.
_UNREADY = (
    "LOADING",
    "Could not connect",
    "Error: Connection reset",
    "Error: Server closed",
    "no answer in time",
    "is not running",
    "OCI runtime exec failed",
)


def unready(error: BackupError) -> bool:
    """Whether it says that the server does not answer yet."""
    return any(sign in str(error) for sign in _UNREADY)


class Server:
    """One server's container. Its restart policy is never touched: docker itself holds a stopped container stopped."""

    def __init__(self, docker: Docker, container: Container, store: str) -> None:
        self._docker, self._container, self._store = docker, container, store

    def inspect(self) -> dict[str, Any]:
        """What docker tells of it now."""
        found = self._docker.told("container", "inspect", self._container.id)
        if not isinstance(found, list) or not found or not isinstance(found[0], dict):
            raise BackupError(f"store {self._store}: docker tells nothing of container {self._container.name}")
        return dict(found[0])

    def must_run(self) -> None:
        """Raise BackupError with the cure when it does not run."""
        state, name = self.inspect()["State"], self._container.name
        cures = {"paused": f"docker unpause {name}", "restarting": f"see why: docker logs {name}"}
        status = "restarting" if state["Restarting"] else state["Status"]
        if status != "running":
            raise BackupError(
                f"store {self._store}: container {name} is {status}, not running: {cures.get(status, f'docker start {name}')}"
            )

    def stop(self) -> None:
        """Stop it in its own stop timeout, also when it crashes again and again, and see that it is stopped."""
        told = self.inspect()
        if told["State"]["Paused"]:
            self._docker.call("unpause", self._container.id)
        grace = int(told["Config"].get("StopTimeout") or 10)
        self._docker.call("stop", self._container.id, at_most=grace + 60)
        state = self.inspect()["State"]
        if state["Running"] or state["Restarting"]:
            raise BackupError(
                f"store {self._store}: container {self._container.name} does not stay stopped: something starts it again: stop that first"
            )

    def start(self, connect: Callable[[], None]) -> float:
        """Start it, if it does not run, and wait until ``connect`` succeeds; the seconds that it took.

        Raises BackupError with the log's last words when the server ends instead.
        """
        began, since = time.time(), time.monotonic()
        told = self.inspect()
        if told["State"]["Paused"]:
            self._docker.call("unpause", self._container.id)
        restarts = told["RestartCount"] if told["State"]["Running"] else 0
        self._docker.call("start", self._container.id)
        while True:
            try:
                connect()
                return time.monotonic() - since
            except BackupError as error:
                told = self.inspect()
                if not told["State"]["Running"] or told["State"]["Restarting"] or told["RestartCount"] > restarts:
                    raise BackupError(
                        f"store {self._store}: the server in {self._container.name} ends instead of loading its data; "
                        f"its log says: {complaint(self._docker, self._container.id, began)}"
                    ) from None
                if not unready(error):
                    raise
            self._docker.deadline.left()
            time.sleep(_PAUSE)
