"""What a playbook costs the control node: seconds, processor time and memory of every process that it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Iterator, Mapping, Sequence

from .servers import ROOT

__all__ = ["Spent", "run"]

_MARK = "STACK_BACKUP_BENCH"
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Spent:
    """Wall and processor seconds; the most memory at one moment, in bytes, what processes share counted once."""

    code: int
    said: str
    seconds: float
    cpu: float
    memory: int


def run(argv: Sequence[str], log: Path, env: Mapping[str, str]) -> Spent:
    """Run a program to its end, then end what it left behind: ssh's masters, which wait for further tasks."""
    mark = uuid.uuid4().hex
    stop, peaks = Event(), [0]
    watch = Thread(target=_watch, args=(mark, stop, peaks))
    with log.open("w") as said:
        began = time.monotonic()
        with subprocess.Popen(
            argv, cwd=ROOT, env={**os.environ, **env, _MARK: mark}, stdout=said, stderr=subprocess.STDOUT
        ) as process:
            watch.start()
            try:
                _pid, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                seconds = time.monotonic() - began
            except BaseException:
                process.terminate()
                raise
            finally:
                stop.set()
                watch.join()
                left = _end(mark)
    cpu = used.ru_utime + used.ru_stime + left
    return Spent(process.returncode, log.read_text(), seconds, cpu, peaks[0])


def _marked(mark: str) -> Iterator[Path]:
    """The processes that inherited the mark; masters of ssh are nobody's children."""
    wanted = f"{_MARK}={mark}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    yield folder


def _watch(mark: str, stop: Event, peaks: list[int]) -> None:
    while not stop.wait(1):
        peaks[0] = max(peaks[0], sum(map(_memory, _marked(mark))))


def _memory(folder: Path) -> int:
    """Its proportional share (proc(5), Pss): forks share most of their memory with their parent."""
    with suppress(OSError):
        for line in (folder / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _end(mark: str) -> float:
    """End what is left; returns the processor seconds that it took."""
    cpu = 0.0
    for folder in list(_marked(mark)):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            cpu += (int(fields[11]) + int(fields[12])) / _TICK
            os.kill(int(folder.name), signal.SIGTERM)
    return cpu
