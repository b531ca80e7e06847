"""Restores the stores of a recovery point: prove, fill beside, stop, switch, start, check; or everything as it was."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional, Sequence

from . import catalog, health, progress
from .absent import Absent, await_answers
from .age import check_pair, check_recipients, identity_of
from .artifact import Lock, check_backup_dir
from .catalog import Backup
from .choice import adopted, backups_of, refuse_other_stack, refuse_unusable
from .containers import Docker
from .errors import BackupError, NoImage
from .journal import Journal, journals, unfinished
from .point import take_safety
from .process import Deadline, raise_on_signals
from .report import age_text
from .services import Entry
from .signing import key_of, signers_of
from .site import Site, Target
from .smoke import smoke
from .stores import Store
from .undo import drop, drop_expired, go_back, return_from
from .verify import prove, refuse_damaged, taken_with
from .window import require_window

__all__ = ["restore"]

_BACK = "-e restore_resume=back"
# The plan of a store whose service has no container: there is nothing yet that could be looked at.
_NOTHING: dict[str, Any] = {
    "size": 0,
    "needs": None,
    "free": None,
    "sessions": [],
    "replaces": False,
    "last_change": "",
    "state": {},
}


def restore(params: dict[str, Any], check_mode: bool = False) -> dict[str, Any]:
    """Restore, go back from the last restore, or let go of what was kept; the parameters are those of stack_restore.

    Returns the report. Raises BackupError: before anything was touched, or with the old state live again, or,
    when the way back failed too, saying what is where.
    """
    backup_dir = Path(params["backup_dir"])
    check_backup_dir(backup_dir)
    action = params["action"]
    if action != "expire" and not check_mode and params.get("confirm") != params["stack"]:
        raise BackupError(
            f"not confirmed: this changes the live data of stack {params['stack']}; "
            f"type its name, or give -e restore_confirm={params['stack']} (given: {params.get('confirm')!r})"
        )
    docker = Docker(Deadline(float(params["timeout"])))
    with raise_on_signals(docker.deadline), Lock(backup_dir):
        docker.remove_leftovers(str(backup_dir))
        if action == "expire":
            removed = drop_expired(params, check_mode)
            return {"changed": bool(removed), "action": action, "removed": removed}
        open_end = unfinished(backup_dir)
        if action == "restore":
            return _restore(docker, params, open_end, check_mode)
        return _last(params, open_end or _newest_done(backup_dir), check_mode)


def _newest_done(backup_dir: Path) -> Optional[Journal]:
    done = [journal for journal in journals(backup_dir) if journal.phase == "done"]
    return done[-1] if done else None


def _last(params: dict[str, Any], journal: Optional[Journal], check_mode: bool) -> dict[str, Any]:
    """Go back from the last restore, or drop what it kept."""
    action = params["action"]
    if journal is None or (action == "drop" and journal.phase != "done"):
        raise BackupError(
            f"there is nothing to {'go back to' if action == 'back' else 'drop'}: no restore of this stack keeps old data; "
            "what safety backups hold is restored by their id (stack-backup list)"
        )
    made = [item["name"] for item in journal.data["stores"] if item.get("made")]
    if action == "back" and journal.phase == "done" and made:
        raise BackupError(
            f"restore {journal.id} brought up {', '.join(made)}, which had no data before: there is nothing to go back to"
        )
    answer = {"changed": True, "action": action, "id": journal.id, "point": journal.data["point"]}
    if check_mode:
        return {**answer, "kept": journal.data.get("kept", [])}
    if action == "drop":
        return {**answer, "removed": drop(params, journal)}
    return {**answer, **return_from(params, journal)}


def _restore(docker: Docker, params: dict[str, Any], open_end: Optional[Journal], check_mode: bool) -> dict[str, Any]:
    refuse_other_stack(params, params.get("source_stack"))
    if not params["outside_window"]:
        require_window(params.get("window"), datetime.now(timezone.utc))
    health.check_urls(params.get("health_checks") or [])
    resumed = None
    if open_end and not check_mode:
        resumed = {"id": open_end.id, **return_from(params, open_end)}
    job = _Restore(docker, params)
    try:
        job.choose()
        if check_mode:
            return job.answer(plan=True, interrupted=open_end.id if open_end else None)
        return {**job.run(), "resumed": resumed}
    finally:
        job.close()


class _Restore:
    """One restore, from the choice of its backups to the report."""

    def __init__(self, docker: Docker, params: dict[str, Any]) -> None:
        self._docker, self._params = docker, params
        self._dir = Path(params["backup_dir"])
        self._id = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        self._source = Path(params.get("source_dir") or self._dir)
        self._site = Site(docker, params, absent=True)
        self._method = params.get("restore_method") or "side_by_side"
        self._in_place = self._method == "in_place"
        self._point = ""
        self._backups: dict[str, Backup] = {}
        self._plans: dict[str, dict[str, Any]] = {}
        self._lacking: Optional[Absent] = None  # what to bring up, where stores have no container
        self._proven: set[str] = set()
        self._items: dict[str, dict[str, Any]] = {}  # the journal's, by store
        self._running: list[Entry] = []
        self._reports: dict[str, dict[str, Any]] = {}
        self._notes: list[str] = []
        self._seconds: dict[str, float] = {}
        self._began = self._last = time.monotonic()
        self._downtime = 0.0
        self._safety: Optional[str] = None

    # --- 1: choose and prove; nothing is touched ------------------------------------------------------------------

    def choose(self) -> None:
        """Choose the point, prove its backups, and plan each store. Raises BackupError for whatever can't work."""
        identity = identity_of(self._params)
        recipients = check_recipients(self._params.get("age_recipients") or [], self._docker.deadline)
        if self._in_place:
            check_pair(recipients, identity, self._docker.deadline)
        stack = self._params.get("source_stack") or self._params["stack"]
        found = catalog.read(self._source, stack, identity, signers_of(self._params))
        asked = self._params["point"]
        if asked != "latest":
            refuse_damaged(found, asked)
        self._point = found.choose(asked)
        self._notes += found.passed_over(self._point) if asked == "latest" else []
        self._backups = backups_of(found, self._point, self._site.stores)
        for store in self._site.stores:
            refuse_unusable(self._backups[store.name], self._params["allow_empty"])
            self._notes += adopted(self._backups[store.name])
        with ThreadPoolExecutor(len(self._site.stores)) as pool:
            list(pool.map(self._prove, self._site.stores))
        for store in self._site.stores:
            if store in self._site.absent:
                self._plans[store.name] = _NOTHING
            else:
                self._plan(store)
        if self._in_place or (self._params["safety_backup"] and any(plan["replaces"] for plan in self._plans.values())):
            key_of(self._params)  # the safety backup's: said before anything is touched
        if self._site.absent:
            self._lacking = self._site.lacking()
        self._running = self._site.services.running()
        self._took("prove")

    def _prove(self, store: Store) -> None:
        """Prove a backup; that of a store without a container with its service's image, as far as that is here."""
        progress.step(store.name, "prove")
        backup, absent = self._backups[store.name], store in self._site.absent
        images = [*taken_with(backup)]
        if absent:
            images.insert(0, self._site.image(store))
        else:
            images.append(self._site.containers[store.name].image_id)
        try:
            prove(self._docker, self._dir, backup, images)
            self._proven.add(store.name)
        except NoImage:
            if not absent:
                raise

    def _plan(self, store: Store) -> None:
        backup, target = self._backups[store.name], self._target(store)
        target.open()
        self._plans[store.name] = dict(target.plan(backup, self._id, self._method))
        self._notes += self._plans[store.name]["warnings"]

    def _target(self, store: Store) -> Target:
        return self._site.target(store)

    def _took(self, phase: str) -> None:
        now = time.monotonic()
        self._seconds[phase] = round(now - self._last, 3)
        self._last = now

    # --- 2 to 5: from the first change on, a failure goes back ----------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Restore. Raises BackupError with the old state live again."""
        self._items = {
            store.name: {"name": store.name, "engine": store.engine, "state": self._state(store)}
            for store in self._site.stores
        }
        journal = Journal.begin(
            self._dir,
            id=self._id,
            stack=self._params["stack"],
            point=self._point,
            method=self._method,
            stores=list(self._items.values()),
            source=str(self._source),
            began_at=time.time(),
        )
        try:
            self._phases(journal)
        except BaseException as error:
            self._site.close()
            self._fail(journal, error)
        self._let_go(journal)
        return self.answer(kept=journal.data["kept"], keep_until=journal.data["keep_until"])

    def _phases(self, journal: Journal) -> None:
        if self._lacking:
            self._bring_up(journal, self._lacking)
        if not self._in_place:
            self._take_safety(journal)
            journal.mark("preparing")
            self._prepare(journal)
        # What is dirty is written while the services still run: the end of a container waits for its file system.
        os.sync()
        journal.mark("prepared")
        self._took("prepare")
        self._running = self._site.services.running()  # what came or went while the new data was filled
        journal.mark("stopping", stopped=self._running)
        stopped_at = self._began if self._lacking else time.monotonic()  # what is not there is down
        self._site.services.stop(self._running)
        self._refuse_clients()
        if self._in_place:
            self._take_safety(journal)
        self._took("stop")
        journal.mark("switching")
        if self._in_place:
            self._prepare(journal)
        self._switch()
        self._took("switch")
        journal.mark("starting")
        self._start()
        self._downtime = round(time.monotonic() - stopped_at, 3)
        self._took("start")
        keep_until = time.time() + float(self._params["keep_previous"]) * 3600
        journal.mark(
            "done",
            kept=self._kept(self._site.stores),
            keep_until=keep_until,
            downtime_seconds=self._downtime,
            ended_at=time.time(),
            up=None,  # it stays
        )

    def _kept(self, stores: Sequence[Store]) -> list[str]:
        return [text for store in stores for text in self._target(store).keep(self._state(store))]

    def _let_go(self, journal: Journal) -> None:
        """Of a store that was made for this restore nothing is kept: an image's empty database is of no use."""
        made = [store for store in self._site.stores if self._items[store.name].get("made")]
        try:
            for store in made:
                self._target(store).drop(self._state(store))
            if made:
                journal.mark("done", kept=self._kept([store for store in self._site.stores if store not in made]))
        except BackupError as error:
            self._notes.append(f"what was there before the data came is kept for now: {error}")

    def _bring_up(self, journal: Journal, lacking: Absent) -> None:
        """Bring up the stores that have no container, and plan them as any other."""
        stores = self._site.absent
        journal.mark("up", up=lacking.record)
        lacking.up_stores(stores)
        self._site.find(running=False)  # one that restarts again and again has a log to tell
        containers = [self._site.containers[store.name] for store in stores]
        targets = [self._target(store) for store in stores]
        await_answers(self._docker, containers, targets, float(self._params["health_timeout"]))
        for store in stores:
            if store.name not in self._proven:  # its image is here now
                prove(self._docker, self._dir, self._backups[store.name], [self._site.image(store)])
            self._plan(store)
            made = lacking.owns(self._site.containers[store.name])
            self._items[store.name].update(state=self._state(store), made=made)
        journal.mark("up")
        self._took("up")

    def _state(self, store: Store) -> dict[str, Any]:
        state: dict[str, Any] = self._plans[store.name]["state"]
        return state

    def _take_safety(self, journal: Journal) -> None:
        # What was made for this restore is empty, unless a service that ran already has written to it.
        replaced = [
            store.name
            for store in self._site.stores
            if self._plans[store.name]["replaces"] and (self._running or not self._items[store.name].get("made"))
        ]
        if replaced and (self._params["safety_backup"] or self._in_place):
            try:
                self._safety = take_safety(self._docker, self._params, replaced)["id"]
            except BackupError as error:
                way = "" if self._in_place else ", or restore without one: -e restore_safety_backup=false"
                raise BackupError(f"the safety backup failed: {error}: mend that{way}") from None
            journal.mark(journal.phase, safety_point=self._safety)
        self._took("safety")

    def _prepare(self, journal: Journal) -> None:
        """Fill and prove the new data; beside the live data while the services still run, unless in place."""
        for store in self._site.stores:
            target, state = self._target(store), self._state(store)
            progress.step(store.name, "fill")
            report = self._reports.setdefault(store.name, {})
            report["prepared"] = target.prepare(self._backups[store.name], state)
            roles = report["prepared"].get("roles")
            if roles:
                self._notes.append(
                    f"store {store.name}: the roles {', '.join(roles)} were missing, and came from the backup"
                )
            journal.mark(journal.phase)  # the engine noted in its state what it made
            progress.step(store.name, "filled")
            report["smoke"] = self._smoke(store, target, live=False)

    def _smoke(self, store: Store, target: Target, *, live: bool) -> list[dict[str, Any]]:
        queries = self._params.get("smoke_queries") or []
        return smoke(store.name, queries, lambda text: target.query(text, self._state(store), live=live))

    def _refuse_clients(self) -> None:
        """Whoever is still connected is no dependent that we know: ended and named, or a reason to stop."""
        clients = [text for store in self._site.stores for text in self._target(store).clients()]
        if clients and self._params["other_clients"] == "refuse":
            raise BackupError(
                f"still connected after the dependents were stopped: {'; '.join(clients)}: "
                "name their service in stack_dependents, or end them"
            )
        self._notes += [f"{client} was still connected, and was ended" for client in clients]

    def _switch(self) -> None:
        # Postgres first: its switch is one transaction, Redis's is the stop and start of a server.
        for store in sorted(self._site.stores, key=lambda item: item.engine):
            target, state = self._target(store), self._state(store)
            progress.step(store.name, "switch")
            report = self._reports[store.name]
            report["switched"] = target.switch(state)
            report["checked"] = target.check(self._backups[store.name], state)

    def _start(self) -> None:
        databases = [self._site.containers[store.name].id for store in self._site.stores]
        checks = self._params.get("health_checks") or []
        for store in self._site.stores:
            progress.step(store.name, "start and wait for health")
        started = self._site.services.start(self._running)
        new = self._lacking.up_rest() if self._lacking else []
        health.wait(self._docker, [*databases, *started, *new], checks, float(self._params["health_timeout"]), new=new)
        for store in self._site.stores:
            self._reports[store.name]["smoke_live"] = self._smoke(store, self._target(store), live=True)

    # --- 6 and 7: back, and what is told --------------------------------------------------------------------------

    def _fail(self, journal: Journal, error: BaseException) -> None:
        happened = str(error) or type(error).__name__
        phase = journal.phase
        details = {"id": self._id, "point": self._point, "phase": phase, "safety_point": self._safety}
        try:
            back = go_back(self._params, journal, happened)
        except BackupError as second:
            raise BackupError(
                f"the restore of {self._point} failed while {phase}: {happened}. THE WAY BACK FAILED TOO: {second}. "
                f"Mend that, then run again with {_BACK}; the safety backup is {self._safety}, nothing was deleted",
                **details,
                outcome="stuck",
            ) from error
        state = f"the old data is live and the services {'were started again' if back['unwell'] else 'run as before'}"
        if back["removed"]:
            state = f"the project is as it was found, without what had been brought up ({', '.join(back['removed'])})"
        if back["unwell"]:
            state += f", but {back['unwell']}"
        raise BackupError(
            f"the restore of {self._point} failed while {phase}: {happened}. Went back: {state}",
            **details,
            outcome="returned",
            unwell=back["unwell"],
        ) from error

    def answer(self, plan: bool = False, **more: Any) -> dict[str, Any]:
        """The plan, or the report of what was done."""
        stores = []
        for store in self._site.stores:
            backup, planned = self._backups[store.name], self._plans[store.name]
            stores.append(
                {
                    **backup.report(),
                    **{key: planned[key] for key in ("needs", "free", "sessions", "replaces", "last_change")},
                    "age": age_text(datetime.fromisoformat(backup.manifest["pin"]["at"])),
                    "live_size": planned["size"],
                    **self._reports.get(store.name, {}),
                }
            )
        answer = {
            "changed": True,
            "action": "restore",
            "id": self._id,
            "point": self._point,
            "stack": self._params["stack"],
            "method": self._method,
            "stores": stores,
            "services": [entry["name"] for entry in self._running],
            "up": self._lacking.record["services"] if self._lacking else [],
            "notes": self._notes,
            **more,
        }
        if plan:
            unread = [store.name for store in self._site.absent if store.name not in self._proven]
            if unread:
                text = f"of {', '.join(unread)} only the digests are proven: the image that reads the backup is not here yet"
                answer["notes"] = [*self._notes, text]
            return {**answer, "outcome": "planned", "expected": _expected(self._dir, self._backups)}
        total = round(time.monotonic() - self._began, 3)
        return {
            **answer,
            "outcome": "restored",
            "safety_point": self._safety,
            "downtime_seconds": self._downtime,
            "seconds": {**self._seconds, "total": total},
        }

    def close(self) -> None:
        """End every session."""
        self._site.close()


def _expected(backup_dir: Path, backups: dict[str, Backup]) -> dict[str, Any]:
    """What the last drill of these backups and the last restore of this stack took, seconds."""
    drills = {name: backup.verified["seconds"] for name, backup in backups.items() if backup.verified}
    done = [journal for journal in journals(backup_dir) if journal.data.get("downtime_seconds")]
    return {
        "drill_seconds": drills or None,
        "last_downtime_seconds": done[-1].data["downtime_seconds"] if done else None,
        "last_restore": done[-1].id if done else None,
    }
