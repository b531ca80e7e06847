"""The services that use the stores: stopped before what they depend on, started after it."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import Any, Mapping, Optional, Sequence

from .containers import Docker
from .errors import BackupError
from .kinds import mapping, texts
from .stores import Store

__all__ = ["Entry", "Services", "reach", "stop_order"]

# A container that a restore stops: {service, level, id, name, policy}; JSON-able, for the journal.
Entry = dict[str, Any]


def _needs(config: Mapping[str, Any], service: str) -> set[str]:
    needs = (config.get(service) or {}).get("depends_on")
    return set(needs or ()) if mapping(needs) or texts(needs) else set()


def _users(config: Mapping[str, Any], stores: set[str]) -> set[str]:
    """Every service that ``depends_on`` leads to the stores, at any distance."""
    users: set[str] = set()
    while True:
        more = {name for name in config if _needs(config, name) & (stores | users)} - users - stores
        if not more:
            return users
        users |= more


def stop_order(config: Mapping[str, Any], stores: Sequence[Store], given: Optional[Sequence[str]]) -> list[list[str]]:
    """The dependents in levels, in the order in which they stop; the services of a level stop together.

    ``config`` is ``services`` of ``docker compose config``; ``given`` names the dependents, None leaves it to
    ``depends_on``. Raises BackupError for a service that is not there, or is a store itself.
    """
    databases = {store.service for store in stores if store.service}
    for name in given or ():
        if name not in config:
            raise BackupError(
                f"stack_dependents names {name}, which is no service: compose.yml has {', '.join(config)}"
            )
        if name in databases:
            raise BackupError(f"stack_dependents names {name}, which is a store: a restore handles it itself")
    chosen = _users(config, databases) if given is None else set(given)
    # Through a service that is not chosen, one chosen service can still depend on another.
    sorter = TopologicalSorter({name: reach(config, name) & chosen for name in chosen})
    try:
        sorter.prepare()
    except CycleError:
        raise BackupError(f"depends_on of {', '.join(sorted(chosen))} leads in a circle: mend compose.yml") from None
    levels: list[list[str]] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        levels.append(ready)
        sorter.done(*ready)
    return levels[::-1]


def reach(config: Mapping[str, Any], service: str) -> set[str]:
    """Every service that ``depends_on`` of one leads to, at any distance."""
    seen: set[str] = set()
    todo = [service]
    while todo:
        for name in _needs(config, todo.pop()) - seen:
            seen.add(name)
            todo.append(name)
    return seen


class Services:
    """The containers of the dependents, for one job."""

    def __init__(self, docker: Docker, project: str, levels: Sequence[Sequence[str]]) -> None:
        self._docker, self._project, self._levels = docker, project, levels

    def running(self) -> list[Entry]:
        """What runs now, in the order in which it stops. Raises BackupError for a paused one, which can't be stopped."""
        levels = {service: level for level, services in enumerate(self._levels) for service in services}
        entries = []
        for item in self._docker.find(self._project, list(levels)):
            if item.state == "paused":
                raise BackupError(
                    f"service {item.service} is paused: docker unpause {item.name}, or docker stop it, then restore"
                )
            if item.state in ("running", "restarting"):
                entry = {"service": item.service, "level": levels[item.service], "id": item.id, "name": item.name}
                entries.append({**entry, "policy": item.restart_policy})
        return sorted(entries, key=lambda entry: (entry["level"], entry["name"]))

    def stop(self, entries: Sequence[Entry]) -> None:
        """Stop them, level by level, each with its own grace period; then see that none runs."""
        always = [entry["id"] for entry in entries if entry["policy"] == "always"]
        if always:  # a daemon that restarts would bring these back in the middle of a restore
            self._docker.call("update", "--restart", "no", *always)
        for ids in _levels(entries):
            self._docker.call("stop", *ids, at_most=self._docker.deadline.left())
        alive = [
            item.name for item in self._docker.inspect(_ids(entries)) if item.state not in ("exited", "created", "dead")
        ]
        if alive:
            raise BackupError(f"{', '.join(alive)} did not stop: see docker logs, stop it by hand, then restore again")

    def start(self, entries: Sequence[Entry]) -> list[str]:
        """Start what ``stop`` stopped, in reverse. Returns their ids: a container that was made anew has another."""
        there = {item.id for item in self._docker.inspect(_ids(entries))}
        for entry in entries:
            if entry["id"] not in there:
                entry["id"] = self._successor(entry)
        always = [entry["id"] for entry in entries if entry["policy"] == "always"]
        if always:
            self._docker.call("update", "--restart", "always", *always)
        for ids in _levels(entries)[::-1]:
            self._docker.call("start", *ids)
        return _ids(entries)

    def _successor(self, entry: Entry) -> str:
        containers = self._docker.find(self._project, [entry["service"]])
        if not containers:
            raise BackupError(
                f"service {entry['service']} has no container any more: docker compose up -d {entry['service']}"
            )
        return containers[0].id


def _ids(entries: Sequence[Entry]) -> list[str]:
    return [entry["id"] for entry in entries]


def _levels(entries: Sequence[Entry]) -> list[list[str]]:
    levels = sorted({entry["level"] for entry in entries})
    return [[entry["id"] for entry in entries if entry["level"] == level] for level in levels]
