"""Runs a job of a stack: its modules in order, the record of it, its log, and word of it to the outside."""

from __future__ import annotations

import fcntl
import io
import os
import time
import traceback
from contextlib import contextmanager, redirect_stderr
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

from . import monitor
from .artifact import write_json
from .config import Config, Invocation
from .errors import BackupError, Locked
from .modules import MODULES
from .process import raise_on_signals
from .record import record_path
from .report import summary

__all__ = ["run"]

_KEPT = 50  # lines of the log in the record


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class _Log:
    """Lines for the log file, if there is one, and for the record. A file that can't be written stops no job."""

    def __init__(self, path: Optional[Path], name: str, warn: Callable[[str], object]) -> None:
        self._path, self._name, self._warn = path, name, warn
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """One line or more of one event."""
        lines = [f"{_now()} {self._name}[{os.getpid()}] {line}" for line in text.splitlines()]
        self.lines = (self.lines + lines)[-_KEPT:]
        if self._path is None or not lines:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))
        except OSError as error:
            problem = f"the log {self._path} can't be written: {error.strerror}: mend its owner, mode or disk"
            self._path = None
            self.lines.append(problem)
            self._warn(problem)


def run(
    config: Config, job: str, *, wait: float, log: Optional[Path] = None, warn: Callable[[str], object]
) -> dict[str, Any]:
    """Run a job to its end and return its record; a failure is in the record, never raised.

    ``wait``: seconds for another job of the stack to end. ``warn`` is told what fails beside the job itself.
    Raises BackupError for a job that there is not.
    """
    invocations = config.job(job)
    with _at_work(config.state_dir):
        return _run(config, job, invocations, wait, log, warn)


@contextmanager
def _at_work(folder: Path) -> Iterator[None]:
    """Hold a shared lock on the folder of the records: who removes it waits for the jobs that still write there."""
    descriptor = None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError:  # the first record tells of it
        pass
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _run(
    config: Config,
    job: str,
    invocations: list[Invocation],
    wait: float,
    log: Optional[Path],
    warn: Callable[[str], object],
) -> dict[str, Any]:
    told = _Log(log, job, warn)
    record: dict[str, Any] = {"job": job, "started_at": _now(), "ended_at": None, "pid": os.getpid()}
    record.update(ok=False, error="", seconds=0.0, log=told.lines, result={})
    began = time.monotonic()
    quiet = job == "check"  # every 15 minutes: one line; and it does not tell of itself

    _write(config, record, told)
    if not quiet:
        told.say("begins")
        if config.check is not None:
            _tell(lambda params: monitor.job_started(params, job), config.check, told)
    try:
        with raise_on_signals():
            end = began + wait
            for module, params in invocations:
                record["result"][module] = _call(module, params, end, told)
        record["ok"] = True
    except BackupError as error:
        record["error"] = str(error)
        if error.details:
            record["result"][module] = error.details
    except Exception as error:
        # A fault of our own: nobody reads the output of a job of the night, the log must tell.
        told.say(traceback.format_exc())
        record["error"] = f"unexpected {type(error).__name__}: {error}"
    record.update(ended_at=_now(), seconds=round(time.monotonic() - began, 3))
    said = summary(record["result"]) if record["ok"] else record["error"]
    told.say(f"{'ok' if record['ok'] else 'FAILED'} in {record['seconds']:.1f} s{': ' if said else ''}{said}")
    record["log"] = told.lines
    _write(config, record, told)
    if not quiet and config.check is not None:
        _tell(lambda params: monitor.job_ended(params, record), config.check, told)
    return record


def _tell(work: Callable[[dict[str, Any]], None], params: dict[str, Any], told: _Log) -> None:
    """Tell the outside; what it says of an alert that failed is for the log, as a job of the night has no other reader."""
    with redirect_stderr(io.StringIO()) as said:
        work(params)
    told.say(said.getvalue())


def _call(module: str, params: dict[str, Any], end: float, told: _Log) -> dict[str, Any]:
    """One module; while another job of the stack runs, wait for it until ``end`` (monotonic seconds)."""
    waited = False
    while True:
        try:
            return MODULES[module].run(params)
        except Locked as error:
            if time.monotonic() >= end:
                raise
            if not waited:
                told.say(f"waits: {error}")
            waited = True
            time.sleep(0.5)


def _write(config: Config, record: dict[str, Any], told: _Log) -> None:
    try:
        write_json(record_path(config, record["job"]), record)
    except OSError as error:
        told.say(
            f"the record {record_path(config, record['job'])} can't be written: {error.strerror}: mend its owner, mode or disk"
        )
