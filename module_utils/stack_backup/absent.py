"""What a Compose project lacks: services without a container, brought up by a restore, and taken down when it fails."""

from __future__ import annotations

import time
from typing import Any, Mapping, Optional, Protocol, Sequence

from . import health
from .containers import Container, Docker, Project
from .errors import BackupError
from .log import complaint
from .services import reach
from .stores import Store

__all__ = ["Absent", "await_answers", "take_down"]

# What bringing up makes: {services, volumes, networks}, by their names; JSON-able, for the journal.
Record = dict[str, Any]
_LABEL = "com.docker.compose.project"
_PAUSE = 0.2


def _names(docker: Docker, kind: str, *options: str) -> set[str]:
    """Docker's volumes or networks."""
    return set(docker.call(kind, "ls", "--format", "{{.Name}}", *options).out.split())


class Absent:
    """The services of a project that have no container, as they were found. None of the others is ever touched."""

    def __init__(self, docker: Docker, project: Project, config: Mapping[str, Any]) -> None:
        """``config``: what ``Docker.project_config`` tells of the project: services of inactive profiles are not in it."""
        self._docker, self._project, self._config = docker, project, config
        self._name = str(config["name"])
        found = docker.find(self._name, list(config["services"]))
        there = {item.service for item in found}
        self._services = [service for service in config["services"] if service not in there]
        self._volumes, networks = _names(docker, "volume"), _names(docker, "network")
        self._first: set[str] = set()
        # What bringing them all up makes.
        self.record: Record = {
            "services": self._services,
            "volumes": [name for name in self._own("volumes") if name not in self._volumes],
            "networks": [name for name in self._own("networks") if name not in networks],
        }

    def _own(self, kind: str) -> list[str]:
        declared = (self._config.get(kind) or {}).items()
        return [
            (item or {}).get("name") or f"{self._name}_{key}"
            for key, item in declared
            if not (item or {}).get("external")
        ]

    def up_stores(self, stores: Sequence[Store]) -> None:
        """Bring up these stores' services, and what they depend on."""
        services = {store.service for store in stores if store.service}
        self._first = services.union(*(reach(self._config["services"], service) for service in services))
        self._up([service for service in self._services if service in self._first])

    def up_rest(self) -> list[str]:
        """Bring up the other services. Returns the ids of all containers that were made."""
        rest = [service for service in self._services if service not in self._first]
        if rest:  # without names Compose takes all
            self._up(rest)
        return [item.id for item in self._docker.find(self._name, self._services)]

    def _up(self, services: Sequence[str]) -> None:
        self._docker.up(self._project, services)

    def owns(self, container: Container) -> bool:
        """Whether all that a container which was brought up may write to was made with it: it holds nothing of before."""
        return all(not place.startswith("/") and place not in self._volumes for place in container.writable)


class _Server(Protocol):
    def answers(self) -> bool:
        """Whether it takes connections."""


def await_answers(docker: Docker, containers: Sequence[Container], servers: Sequence[_Server], seconds: float) -> None:
    """Wait until servers that were just brought up take connections. Raises BackupError with what their logs say."""
    since, begun = time.time(), time.monotonic()
    try:
        health.wait(docker, [item.id for item in containers], [], seconds)
        waiting = list(servers)
        while waiting := [server for server in waiting if not server.answers()]:
            if time.monotonic() - begun > docker.deadline.left(seconds):
                raise BackupError(f"no connection on the server's port within {seconds:g} s")
            time.sleep(_PAUSE)
    except BackupError as error:
        logs = [f"{item.name}: {complaint(docker, item.id, since)}" for item in containers]
        raise BackupError(f"the stores' services do not come up: {error}; their logs say: {' | '.join(logs)}") from None


def take_down(docker: Docker, project: str, record: Optional[Record]) -> list[str]:
    """Stop and remove what was brought up, and no more; it may be done again. Returns the names of what is gone."""
    if not record:
        return []
    mine = ("--filter", f"label={_LABEL}={project}")
    containers = docker.find(project, record["services"])
    ids = [item.id for item in containers]
    if ids:
        docker.call("stop", *ids, at_most=docker.deadline.left())
        docker.call("rm", "--force", "--volumes", *ids)
    volumes = sorted(_names(docker, "volume", *mine) & set(record["volumes"]))
    if volumes:
        docker.call("volume", "rm", *volumes)
    networks = sorted(_names(docker, "network", *mine) & set(record["networks"]))
    for network in networks:
        docker.call("network", "rm", network, check=False)  # it stays where a stranger's container is in it
    return [*(item.name for item in containers), *volumes, *networks]
