"""Takes a recovery point: pin every store, stream side by side, publish together."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Optional, Sequence, Union

from . import __version__, catalog, chain, postgres, progress, redis
from .age import check_recipients
from .artifact import Lock, Partial, Slot, check_backup_dir, encode, free_bytes, uncache
from .containers import Container, Docker, Project
from .errors import BackupError, Contended
from .process import Deadline, raise_on_signals
from .signing import Key, key_of
from .stores import ID_PATTERN, Store, parse_stores, select_stores

__all__ = ["take", "take_safety"]

Source = Union[postgres.Source, redis.Source]
_ENGINES: dict[str, Callable[..., Source]] = {"postgres": postgres.Source, "redis": redis.Source}
_QUIESCE_SECONDS = 10  # the guard unpauses after this long, whatever else happens
_RESERVE = 64 * 1024 * 1024
_PAUSES = (15.0, 60.0)  # seconds, before a point is tried again that another session stood in the way of


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds")


class _Job:
    """One store on its way to a backup."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.partial: Optional[Partial] = None
        self.source: Optional[Source] = None
        self.container: Optional[Container] = None
        self.error = ""
        self.contended = False
        self.seconds: dict[str, float] = {}
        self.sealed: dict[str, Any] = {}

    def attempt(self, step: str, work: Any) -> bool:
        """Run a step unless an earlier one failed; an error is kept, and stays this store's own."""
        if self.error:
            return False
        progress.step(self.store.name, step)
        began = time.monotonic()
        try:
            work()
        except redis.Busy:
            raise
        except BackupError as error:
            self.contended = isinstance(error, Contended)
            known = str(error).startswith(f"store {self.store.name}")
            self.error = str(error) if known else f"store {self.store.name}: {error}"
        except OSError as error:
            self.error = f"store {self.store.name}: {error}"
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.monotonic() - began, 3)
        return not self.error


def take(params: dict[str, Any], check_mode: bool = False) -> dict[str, Any]:
    """Take a recovery point of ``params['stores']``; the parameters are those of the module of that name.

    Returns its report. Raises BackupError, with the report as details, when a store failed.
    """
    if params.get("id") and not ID_PATTERN.fullmatch(params["id"]):
        raise BackupError(f"the id {params['id']!r} is not of the form YYYYMMDD-HHMMSS")
    if float(params.get("timeout") or 0) < 1:
        raise BackupError(f"timeout is {params.get('timeout')}: it must be 1 second or more (backup_timeout)")
    backup_dir = Path(params["backup_dir"])
    check_backup_dir(backup_dir)
    deadline = Deadline(float(params["timeout"]))
    docker = Docker(deadline)
    docker.limit(backup_dir, **{name: params.get(name) for name in ("cpus", "memory", "io")})
    with raise_on_signals(deadline), Lock(backup_dir), _slot(params, deadline, check_mode):
        docker.remove_leftovers(str(backup_dir))
        return _take(docker, params, check_mode=check_mode)


def _slot(params: dict[str, Any], deadline: Deadline, check_mode: bool) -> AbstractContextManager[None]:
    """A place among the stacks that share a disk; looking at them needs none."""
    if check_mode or not params.get("slots_dir"):
        return nullcontext()
    folder = Path(params["slots_dir"])
    if not folder.is_dir():
        raise BackupError(
            f"{folder} is no folder: set backup_slots_dir to one that the stacks share, or mount its disk"
        )
    return Slot(folder, int(params.get("slots", 1)), deadline)


def take_safety(docker: Docker, params: dict[str, Any], only: Sequence[str]) -> dict[str, Any]:
    """Take a point of what a restore is about to replace; the caller holds the lock. As ``take`` otherwise."""
    return _take(docker, {**params, "only": only, "id": None, "quiesce": []}, purpose="safety")


def _take(
    docker: Docker, params: dict[str, Any], *, purpose: str = "backup", check_mode: bool = False
) -> dict[str, Any]:
    stores = parse_stores(params["stores"])
    chosen = select_stores(stores, params.get("only") or [])
    project = Project(params.get("project_dir"), params.get("compose_files") or (), params.get("project_name"))
    recipients = check_recipients(params.get("age_recipients") or [], docker.deadline)
    key = key_of(params)
    pauses = list(_PAUSES)
    retried: list[str] = []
    while True:
        point = _Point(
            docker,
            params["stack"],
            Path(params["backup_dir"]),
            params.get("id"),
            stores,
            chosen,
            purpose,
            recipients,
            key,
        )
        try:
            again = bool(pauses) and docker.deadline.left() > pauses[0]
            answer = point.take(project, params.get("quiesce") or [], check_mode, again=again)
            return {**answer, "retried": retried}
        except Contended as error:
            retried.append(str(error))
        finally:
            point.clean_up()
        time.sleep(pauses.pop(0))


class _Point:
    def __init__(
        self,
        docker: Docker,
        stack: str,
        backup_dir: Path,
        point: Optional[str],
        stores: list[Store],
        chosen: list[Store],
        purpose: str,
        recipients: Sequence[str],
        key: Optional[Key],
    ) -> None:
        self._purpose, self._recipients, self._key = purpose, recipients, key
        self._docker, self._stack, self._dir = docker, stack, backup_dir
        self._omitted = [store.name for store in stores if store not in chosen]
        self._jobs = [_Job(store) for store in chosen]
        self._id = point or self._free_id()
        self._manifests: dict[str, str] = {}  # of what was published, by store: sha256
        self._quiesced: list[str] = []
        self._quiesce_seconds = 0.0
        self._began = time.monotonic()

    def _free_id(self) -> str:
        while True:
            point = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
            if not any(Partial(self._dir, job.store.name, job.store.engine, point).taken() for job in self._jobs):
                return point
            time.sleep(0.2)

    def take(self, project: Project, quiesce: list[str], check_mode: bool, *, again: bool) -> dict[str, Any]:
        """Take it. ``again``: nothing is published, and Contended raised, where it may work a little later."""
        began = time.monotonic()
        located, pause = self._docker.locate([job.store for job in self._jobs], project, quiesce)
        found = round(time.monotonic() - began, 3)
        points = catalog.read(self._dir, self._stack).points.values()
        sizes = {name: backup.manifest["artifact"]["size"] for backups in points for name, backup in backups.items()}
        for job in self._jobs:
            job.seconds["find"] = found
            job.attempt("open", lambda job=job: self._create(job, located[job.store.name]))
        self._side_by_side(lambda job: job.attempt("open", lambda: self._open(job, sizes)))
        self._check_space(sizes)
        if not check_mode and any(not job.error for job in self._jobs):
            self._pin(pause)
            self._side_by_side(self._stream)
        contended = [job.error for job in self._jobs if job.contended]
        if contended and again:
            raise Contended(" | ".join(contended))
        self._explain()
        if check_mode:
            return self._answer(self._plan())
        self._publish()
        return self._answer([self._report(job) for job in self._jobs])

    def _side_by_side(self, work: Callable[[_Job], object]) -> None:
        with ThreadPoolExecutor(max_workers=len(self._jobs)) as pool:
            list(pool.map(work, self._jobs))

    def _create(self, job: _Job, located: Any) -> None:
        if isinstance(located, BackupError):
            raise located
        job.container = located
        job.partial = Partial(self._dir, job.store.name, job.store.engine, self._id, self._recipients)
        partial, job.partial = job.partial, None
        partial.create()
        job.partial = partial  # ours from here on: what another run left is never removed
        job.source = _ENGINES[job.store.engine](self._docker, job.store, located, self._dir, partial)

    def _open(self, job: _Job, sizes: dict[str, int]) -> None:
        if job.source:
            job.source.open()
            sizes.setdefault(job.store.name, job.source.size // 2)

    def _check_space(self, sizes: dict[str, int]) -> None:
        needed = sum(sizes[job.store.name] for job in self._jobs if not job.error) * 6 // 5 + _RESERVE
        free = free_bytes(self._dir)
        if free < needed:
            raise BackupError(
                f"the backup folder {self._dir} has {free} bytes free, this recovery point may take {needed}: "
                "free some, or move stack_backup_dir to a larger disk"
            )

    def _pin(self, pause: list[Container]) -> None:
        """Pin every store, Redis first; with quiesced services all in the one moment that they stand still."""
        jobs = sorted(
            (job for job in self._jobs if job.source), key=lambda job: job.source.pin_order if job.source else 0
        )
        while True:
            for job in jobs:
                job.attempt("ready", job.source.ready if job.source else None)
            guard = self._docker.pause_guarded(pause, _QUIESCE_SECONDS) if pause else None
            began = time.monotonic()
            try:
                for job in jobs:
                    job.attempt("pin", job.source.pin if job.source else None)
                if time.monotonic() - began < _QUIESCE_SECONDS - 1:
                    self._quiesced = [item.name for item in pause]
                return
            except redis.Busy:
                self._docker.deadline.left()
            finally:
                if guard:
                    self._docker.unpause(guard, pause)
                    self._quiesce_seconds = round(time.monotonic() - began, 3)

    def _stream(self, job: _Job) -> None:
        source, partial = job.source, job.partial
        if source is None or partial is None:
            return
        if job.attempt("stream", source.stream):
            job.attempt("seal", lambda: self._seal(job, source, partial))

    def _seal(self, job: _Job, source: Source, partial: Partial) -> None:
        with ThreadPoolExecutor(1) as pool:  # both only read what was written, each on a core of its own
            proven = pool.submit(source.prove)
            job.sealed = partial.seal()
            proven.result()
        uncache(partial.folder)
        if not job.sealed.get(partial.artifact.name, {}).get("size"):
            raise BackupError(
                f"store {job.store.name}: the artifact is empty or missing: nothing was saved: take it again"
            )

    def _explain(self) -> None:
        """A program that lost its server tells little: say what became of the container, also past the deadline."""
        failed = {job: job.container for job in self._jobs if job.error and job.container}
        docker, end = Docker(Deadline(10)), time.monotonic() + 1
        while failed:
            try:
                now = {item.id: item for item in docker.inspect([item.id for item in failed.values()])}
            except BackupError:
                return
            for job, container in list(failed.items()):
                change = container.changed(now.get(container.id))
                if change:
                    job.error += f" ({change})"
                # Its client sees a server's death a moment before the engine does.
                if change or "ready" not in job.seconds or time.monotonic() > end:
                    del failed[job]
            time.sleep(0.1 if failed else 0)

    def _publish(self) -> None:
        good = [job for job in self._jobs if not job.error]
        spread = 0.0
        if good:
            pins = [job.source.pinned_at for job in good if job.source]
            spread = round((max(pins) - min(pins)) * 1000, 3)
        failed = {job.store.name: job.error for job in self._jobs if job.error}
        point = {
            "id": self._id,
            "purpose": self._purpose,
            "stores": [job.store.name for job in self._jobs],
            "omitted": self._omitted,
            "failed": failed,
            "pin_distance_ms": spread,
            "quiesced": self._quiesced,
            "quiesce_seconds": self._quiesce_seconds,
        }
        if good and self._key:
            chain.begin(self._dir, self._stack, self._key, time.time())
        for job in good:
            job.attempt("publish", lambda job=job: self._publish_one(job, point))
        if self._manifests and self._key:
            self._chain(self._key)

    def _chain(self, key: Key) -> None:
        try:
            chain.extend(self._dir, self._stack, key, time.time(), {self._id: self._manifests})
        except BackupError as error:
            raise BackupError(
                f"recovery point {self._id} is there, but would not be missed if it went: {error}"
            ) from None

    def _publish_one(self, job: _Job, point: dict[str, Any]) -> None:
        if job.source is None or job.partial is None or job.container is None:
            return
        told = job.source.describe()
        job.seconds["total"] = round(time.monotonic() - self._began, 3)
        artifact = {
            "name": job.partial.artifact.name,
            "encryption": job.partial.encryption(job.partial.artifact),
            **told["artifact"],
            **job.sealed[job.partial.artifact.name],
        }
        manifest = {
            **told,
            "format": catalog.FORMAT,
            "stack": self._stack,
            "store": job.store.name,
            "engine": job.store.engine,
            "point": point,
            "artifact": artifact,
            "pin": {**told["pin"], "at": _iso(job.source.pinned_at)},
            "source": {
                "service": job.store.service,
                "container": job.container.name,
                "image": job.container.image,
                "image_id": job.container.image_id,
                "host": platform.node(),
            },
            "seconds": job.seconds,
            "made_by": {
                "tool": "stack-backup",
                "version": __version__,
                "python": platform.python_version(),
                "uid": os.getuid(),
            },
        }
        if told.get("globals"):
            encryption = job.partial.encryption(job.partial.globals)
            manifest["globals"] = {**told["globals"], "encryption": encryption, **job.sealed[told["globals"]["name"]]}
        job.partial.publish(manifest, self._key)
        job.partial = None
        self._manifests[job.store.name] = hashlib.sha256(encode(manifest)).hexdigest()

    def _report(self, job: _Job) -> dict[str, Any]:
        backups = catalog.read(self._dir, self._stack).points.get(self._id, {})
        report: dict[str, Any] = {
            "store": job.store.name,
            "engine": job.store.engine,
            "ok": not job.error,
            "error": job.error,
        }
        if not job.error:
            # Said of what now lies on disk, not of what was meant to.
            report.update(
                backups[job.store.name].report(), steps=job.seconds, via=backups[job.store.name].manifest["via"]
            )
            report["warnings"] = job.source.warnings if job.source else []
            report["rate"] = int(report["size"] / max(job.seconds.get("stream", 0), 0.001))
        return report

    def _plan(self) -> list[dict[str, Any]]:
        plan = []
        for job in self._jobs:
            file = str(job.partial.store_dir / job.partial.artifact.name) if job.partial else ""
            plan.append(
                {
                    "store": job.store.name,
                    "engine": job.store.engine,
                    "ok": not job.error,
                    "error": job.error,
                    "file": file,
                }
            )
        return plan

    def _answer(self, reports: list[dict[str, Any]]) -> dict[str, Any]:
        pins = [job.source.pinned_at for job in self._jobs if job.source and job.source.pinned_at and not job.error]
        answer = {
            "changed": any(report["ok"] for report in reports),
            "id": self._id,
            "stack": self._stack,
            "complete": all(report["ok"] for report in reports),
            "stores": reports,
            "pin_distance_ms": round((max(pins) - min(pins)) * 1000, 3) if pins else None,
            "quiesced": self._quiesced,
            "quiesce_seconds": self._quiesce_seconds,
            "seconds": round(time.monotonic() - self._began, 3),
        }
        errors = [report["error"] for report in reports if not report["ok"]]
        if errors:
            raise BackupError(
                f"recovery point {self._id} of stack {self._stack} is incomplete: {' | '.join(errors)}", **answer
            )
        return answer

    def clean_up(self) -> None:
        """End the sessions; remove what was not published."""
        for job in self._jobs:
            if job.source:
                job.source.close()
        for job in self._jobs:
            if job.partial:
                job.partial.discard()
