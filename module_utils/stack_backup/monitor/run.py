"""The monitor's three entries: a check of everything, and the begin and the end of a job."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Callable, Optional

from . import alert, metrics
from .check import UNKNOWN, WARNING, findings, worst
from .facts import Facts, epoch, gather, state_dir
from .sample import sample
from .send import side_by_side
from .state import (
    CHECK,
    growth,
    known_proofs,
    load,
    load_alerts,
    locked,
    remember_chain,
    remember_size,
    save,
    save_alerts,
)

__all__ = ["check", "job_ended", "job_started"]

Params = dict[str, Any]
Sends = dict[str, Callable[[], None]]


def check(params: Params, check_mode: bool = False, now: Optional[float] = None) -> dict[str, Any]:
    """Look at everything, write the metrics, alert where that is due; the parameters are those of stack_check.

    In check mode nothing is read in bulk, written or told. Never raises: what could not be found out is a finding.
    """
    job = _Check(params, check_mode, time.time() if now is None else now)
    job.look()
    if not check_mode:
        job.tell()
    return job.answer()


class _Check:
    def __init__(self, params: Params, check_mode: bool, now: float) -> None:
        self._params, self._check_mode, self._now = params, check_mode, now
        self._folder = state_dir(params)
        self._known = alert.secrets(params)
        self._facts = Facts(now)
        self._told: dict[str, Any] = {}
        self._found: list[dict[str, Any]] = []
        self._samples: list[metrics.Sample] = []
        self._sent: dict[str, str] = {}

    def _guarded(self, name: str, work: Callable[[], Any]) -> None:
        """A step that fails by itself is a finding, and keeps no other from being done."""
        try:
            work()
        except Exception as error:
            self._add(name, UNKNOWN, f"check {name} ended in an error: {type(error).__name__}: {error}")

    def _add(self, name: str, status: int, message: str) -> None:
        self._found.append({"check": name, "status": status, "message": alert.hide(message, self._known)})

    def look(self) -> None:
        """Find everything out."""
        self._guarded("facts", self._gather)
        self._guarded("sample", self._sample)
        for item in findings(self._facts, self._params):
            self._add(**{"name": item["check"], "status": item["status"], "message": item["message"]})
        self._guarded("metrics", self._collect)

    def _gather(self) -> None:
        self._told = load_alerts(self._folder)
        self._facts = gather(self._params, self._now, known_proofs(load(self._folder, CHECK)))
        self._facts.undelivered = self._told.get("failed", {})

    def _sample(self) -> None:
        """Read some backups, and remember how far that came."""
        memory, found = load(self._folder, CHECK), self._facts.catalog
        try:
            self._facts.set_back = remember_chain(memory, self._now, found.chain if found else None)
            memory["signatures"] = sorted(self._facts.proofs)
            if found is not None and not self._check_mode:
                sample(found, memory, int(self._params["digest_bytes"]), self._now)
                backups = [backup for stores in found.points.values() for backup in stores.values()]
                size = sum(int(entry["size"]) for backup in backups for entry in backup.files().values())
                remember_size(memory, self._now, size)
            self._facts.digests, self._facts.growth = memory.get("digests", {}), growth(memory)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            memory = {}  # not as this program wrote it: begin again
            raise
        finally:
            if not self._check_mode:
                self._facts.state_error = save(self._folder, CHECK, memory)

    def _collect(self) -> None:
        successes = {
            name: epoch(record.get("ended_at")) or 0.0
            for name, record in self._facts.records.items()
            if record.get("ok")
        }
        channels = [*alert.channels(self._params), *alert.pings(self._params)]
        self._samples = metrics.collect(
            self._facts, self._found, {**self._told.get("success", {}), **successes}, channels
        )

    def tell(self) -> None:
        """Metrics, then alerts; then the metrics again where an alert failed or came through at last."""
        self._guarded("metrics", self._write)
        self._guarded("alerts", self._alert)

    def _write(self) -> None:
        path = self._params.get("metrics_file")
        if not path:
            return
        try:
            metrics.write(Path(path), metrics.render(self._params["stack"], self._samples))
        except OSError as error:
            self._add(
                "metrics",
                WARNING,
                f"the metrics can't be written to {path}: {error.strerror}: make its folder, or mend its owner or mode "
                "(monitor_metrics_file)",
            )

    def _alert(self) -> None:
        ways = alert.channels(self._params)
        with locked(self._folder):
            told = load_alerts(self._folder)
            memories = {name: told.get("channels", {}).get(name, {}) for name in ways}
            kinds = {name: alert.due(memories[name], self._found, self._now) for name in ways}
            sends = {name: self._send(ways[name], kind) for name, kind in kinds.items() if kind}
            failed = side_by_side(sends)
            for name, kind in kinds.items():
                if name not in failed:
                    alert.accept(memories[name], self._found, self._now, kind)
            told["channels"] = memories
            _note(told, self._params, sends, failed, self._known, self._now)
            self._facts.state_error = save_alerts(self._folder, told) or self._facts.state_error
        self._sent = {name: kind for name, kind in kinds.items() if kind and name not in failed}
        if told["failed"].keys() != self._facts.undelivered.keys():
            self._facts.undelivered = told["failed"]
            self._collect()
            self._write()

    def _send(self, way: Callable[[alert.Message], None], kind: str) -> Callable[[], None]:
        message = alert.Message(kind, self._params["stack"], self._now, self._found, known=self._known)
        return lambda: way(message)

    def answer(self) -> dict[str, Any]:
        """What is handed back."""
        return {
            "changed": bool(self._sent),
            "status": worst(self._found),
            "findings": self._found,
            "alerted": self._sent,
            "metrics": [{"name": name, "labels": labels, "value": value} for name, labels, value in self._samples],
        }


def job_started(params: Params, job: str) -> None:
    """Tell the job's dead-man's switches that it began. Never raises."""
    _unless_broken(lambda: _event(params, {"job": job}, "start"))


def job_ended(params: Params, record: Params) -> None:
    """Tell the switches how a job ended, and everyone when it failed; ``record`` is its last-job record. Never raises."""
    _unless_broken(lambda: _event(params, record, "success" if record.get("ok") else "fail"))


def _unless_broken(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception as error:  # an alert must not be what a backup fails of
        _log(f"no alert could be sent: {type(error).__name__}: {error}")


def _event(params: Params, record: Params, event: str) -> None:
    job, now, folder, known = str(record["job"]), time.time(), state_dir(params), alert.secrets(params)
    body = ""
    covered: list[dict[str, Any]] = []
    ways: dict[str, Callable[[alert.Message], None]] = {}
    if event == "fail":
        mine, covered = alert.job_findings(record)
        message = alert.Message("job_failed", params["stack"], now, mine, log=record.get("log") or (), known=known)
        body, ways = message.text(), alert.channels(params)
    sends: Sends = dict(alert.pings(params, job, event, body))
    if event == "start" and not sends:
        return
    with locked(folder):
        told = load_alerts(folder)
        memories = told.setdefault("channels", {})
        for name, way in ways.items():
            if alert.job_due(memories.setdefault(name, {}), job, now):
                sends[name] = lambda way=way: way(message)  # type: ignore[misc]
        failed = side_by_side(sends)
        for name in set(ways) & set(sends) - set(failed):
            alert.accept(memories[name], covered, now, "job_failed")
        if event == "success":
            told.setdefault("success", {})[job] = epoch(record.get("ended_at")) or now
        _note(told, params, sends, failed, known, now)
        error = save_alerts(folder, told)
    if error:
        _log(error)


def _note(
    told: dict[str, Any], params: Params, tried: Sends, failed: dict[str, str], known: list[str], now: float
) -> None:
    """Keep in mind which ways failed, since when and why, and log it: the next check finds it."""
    configured = {*alert.channels(params), *alert.pings(params)}
    before = told.get("failed", {})
    told["failed"] = {name: entry for name, entry in before.items() if name in configured and name not in tried}
    for name, error in failed.items():
        text = alert.hide(error, known)
        told["failed"][name] = {"since": before.get(name, {}).get("since", now), "error": text}
        _log(f"{name} could not be reached: {text}")


def _log(text: str) -> None:
    print(f"stack-backup: {text}", file=sys.stderr, flush=True)
