"""The way back: what a restore replaced is made live again, or is let go."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Sequence

from . import catalog, health
from .absent import take_down
from .age import identity_of
from .containers import Docker
from .errors import BackupError
from .journal import Journal, journals
from .point import take_safety
from .process import Deadline, ignore_signals
from .services import Entry
from .signing import signers_of
from .site import Site
from .stores import Store

__all__ = ["drop", "drop_expired", "go_back", "return_from"]

_SECONDS = 3600.0  # what a way back may take at least, however little the job's own time limit left


def go_back(params: dict[str, Any], journal: Journal, reason: str) -> dict[str, Any]:
    """Undo a restore from wherever it stands, also one that another process began: old data live, services as before.

    What it had brought up is removed. Returns what was done. Raises BackupError when not everything is back; it can
    then be called again.
    """
    docker = Docker(Deadline(max(_SECONDS, float(params["timeout"]))))
    refills = _refills(params, journal, docker.deadline)
    with ignore_signals():
        # What the restore made is removed as a whole, and what it did not come to is as it was.
        touched = [item for item in journal.data["stores"] if item["state"] and not item.get("made")]
        only = [item["name"] for item in touched]
        site = Site(docker, {**params, "source_dir": None, "only": only}, running=False, absent=not touched)
        try:
            entries = _hold(site, journal)
            _data_back(site, touched, journal, refills)
            site.close()
            removed = take_down(docker, site.project, journal.data.get("up"))
            started = site.services.start(entries)
            unwell = _unwell(site, params, started) if entries else ""
            journal.mark("returned", reason=reason, unwell=unwell, ended_at=time.time())
        finally:
            site.close()
    return {"services": [entry["name"] for entry in entries], "removed": removed, "unwell": unwell}


def _hold(site: Site, journal: Journal) -> list[Entry]:
    """See that no dependent runs while data changes; returns those to start afterwards."""
    stopped: list[Entry] = journal.data.get("stopped", [])
    if not journal.reached("switching"):
        return stopped
    running = site.services.running()
    if journal.phase == "done":
        stopped = running
        journal.mark("starting", stopped=stopped)  # a crash from here on is undone as one of the restore itself
    site.services.stop(running)
    return stopped


def _refills(params: dict[str, Any], journal: Journal, deadline: Deadline) -> dict[str, catalog.Backup]:
    """The safety backups that bring back what was restored in place. Raises BackupError when one can't be decrypted."""
    names = [item["name"] for item in journal.data["stores"] if item["state"].get("method") == "in_place"]
    if not names or not journal.reached("switching"):
        return {}
    safety = journal.data.get("safety_point") or ""
    read = catalog.read(Path(params["backup_dir"]), journal.data["stack"], identity_of(params), signers_of(params))
    if safety in read.untrusted:
        read.choose(safety)  # raises why
    backups = read.points.get(safety, {})
    found = {name: backups[name] for name in names if name in backups}  # of what was not there, there is none
    for backup in found.values():
        if backup.encrypted:
            backup.head(deadline)
    return found


def _data_back(
    site: Site, items: Sequence[dict[str, Any]], journal: Journal, refills: dict[str, catalog.Backup]
) -> None:
    errors = []
    for item in items:
        store = site.store(item["name"])
        try:
            target = site.target(store)
            target.back(item["state"])
            if store.name in refills:
                _refill(site, store, journal, refills[store.name])
        except BackupError as error:
            errors.append(str(error))
    if errors:
        raise BackupError(" | ".join(errors))


def _refill(site: Site, store: Store, journal: Journal, backup: catalog.Backup) -> None:
    """A database that was restored in place comes back from the safety backup, made before it was dropped."""
    target = site.target(store)
    target.close()
    target.open()
    state = target.plan(backup, journal.id, "in_place")["state"]
    target.prepare(backup, state)
    target.switch(state)


def _unwell(site: Site, params: dict[str, Any], started: Sequence[str]) -> str:
    """What is not healthy after the way back; the old state may not have been healthy either."""
    try:
        health.wait(site.docker, started, params.get("health_checks") or [], float(params["health_timeout"]))
    except BackupError as error:
        return str(error)
    return ""


def return_from(params: dict[str, Any], journal: Journal) -> dict[str, Any]:
    """Go back from a restore that was done, as long as what it replaced is kept, or that its process left unfinished.

    What may have been written to the new data since comes into a safety backup first. Returns as ``go_back``, and the
    ``safety_point``.
    """
    done = journal.phase == "done"
    safety = None
    docker = Docker(Deadline(float(params["timeout"])))
    names = [item["name"] for item in journal.data["stores"]] if done else _in_use(docker, params, journal)
    if names and params["safety_backup"]:
        try:
            safety = take_safety(docker, params, names)["id"]
        except BackupError as error:
            raise BackupError(
                f"the safety backup before the way back from restore {journal.id} failed: {error}: mend that, or go back "
                "without one: -e restore_safety_backup=false"
            ) from None
    reason = "asked for" if done else f"interrupted in phase {journal.phase}"
    return {**go_back(params, journal, reason), "safety_point": safety}


def _in_use(docker: Docker, params: dict[str, Any], journal: Journal) -> list[str]:
    """The stores with new data that services may have written to: the restore ended when it had started them."""
    if journal.phase != "starting":
        return []
    only = [item["name"] for item in journal.data["stores"]]
    found = Site(docker, {**params, "source_dir": None, "only": only}, running=False, absent=True).containers
    return [name for name, container in found.items() if container.state == "running"]


def drop(params: dict[str, Any], journal: Journal) -> list[str]:
    """Remove what a restore kept of the old data. Returns what that was, in words."""
    docker = Docker(Deadline(float(params["timeout"])))
    site = Site(docker, {**params, "only": [item["name"] for item in journal.data["stores"]]})
    kept: list[str] = []
    try:
        for item in journal.data["stores"]:
            target = site.target(site.store(item["name"]))
            target.open()
            kept += target.keep(item["state"])
            target.drop(item["state"])
        journal.mark("dropped", ended_at=time.time())
    finally:
        site.close()
    return kept


def drop_expired(params: dict[str, Any], check_mode: bool) -> list[str]:
    """Remove what restores kept longer than they were told to. Returns what that was, in words."""
    due = [
        journal
        for journal in journals(Path(params["backup_dir"]))
        if journal.phase == "done" and float(journal.data.get("keep_until") or 0) < time.time()
    ]
    if check_mode:
        return [text for journal in due for text in journal.data.get("kept") or ()]
    return [text for journal in due for text in drop(params, journal)]
