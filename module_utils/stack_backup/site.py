"""The stack as a restore meets it: each store as a target, and the services that use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Optional, Union

from . import postgres, redis
from .absent import Absent
from .containers import Container, Docker, Project, choose
from .services import Services, stop_order
from .stores import Store, parse_stores, select_stores

__all__ = ["Site", "Target"]

Target = Union[postgres.Target, redis.Target]
_ENGINES: dict[str, Callable[..., Target]] = {"postgres": postgres.Target, "redis": redis.Target}


class Site:
    """Finds the containers; ``close`` ends every session.

    ``running=False`` takes stopped databases too. ``absent=True``: a store's service may have no container at all.
    """

    def __init__(self, docker: Docker, params: dict[str, Any], *, running: bool = True, absent: bool = False) -> None:
        self.docker = docker
        stores = parse_stores(params["stores"])
        self.stores = select_stores(stores, params.get("only") or [])
        self._dir, self._jobs = Path(params["backup_dir"]), params.get("restore_jobs") or 1
        self._source = Path(params.get("source_dir") or params["backup_dir"])
        self._project = Project(
            params.get("project_dir"), params.get("compose_files") or (), params.get("project_name")
        )
        self._config: dict[str, Any] = {"name": "", "services": {}}
        if params.get("project_dir") or any(store.service for store in stores):
            self._config = docker.project_config(self._project)
        self.project = str(self._config["name"])
        self.services = Services(
            docker, self.project, stop_order(self._config["services"], stores, params.get("dependents"))
        )
        self._running = running
        self._targets: dict[str, Target] = {}
        self.containers: dict[str, Container] = {}
        self.absent: list[Store] = []  # stores whose service has no container
        self.find(absent=absent)

    def find(self, *, absent: bool = False, running: Optional[bool] = None) -> None:
        """Find each store's container. ``running``: as for the site, unless it is given."""
        found = self.docker.find(
            self.project,
            [store.service for store in self.stores if store.service],
            [store.container for store in self.stores if store.container],
        )
        services = list(self._config["services"])
        there = {item.service for item in found if item.project == self.project}
        lacking = [store for store in self.stores if store.service in services and store.service not in there]
        self.absent = lacking if absent else []
        self.containers = {
            store.name: choose(
                store, found, self.project, services, running=self._running if running is None else running
            )
            for store in self.stores
            if store not in self.absent
        }

    def lacking(self) -> Absent:
        """The project's services that have no container."""
        return Absent(self.docker, self._project, self._config)

    def image(self, store: Store) -> str:
        """The image of a store's service, which has no container yet."""
        service = store.service or ""
        # Compose's own name for one that it builds.
        return str(self._config["services"][service].get("image") or f"{self.project}-{service}")

    def target(self, store: Store) -> Target:
        """The store as a target, not logged in yet."""
        if store.name not in self._targets:
            make = _ENGINES[store.engine]
            self._targets[store.name] = make(
                self.docker,
                store,
                self.containers[store.name],
                self._dir,
                folder=self._source / store.name,
                jobs=self._jobs,
            )
        return self._targets[store.name]

    def store(self, name: str) -> Store:
        """The store of that name."""
        return next(store for store in self.stores if store.name == name)

    def close(self) -> None:
        """End every session."""
        for target in self._targets.values():
            target.close()
