"""The one place that runs programs: argv lists, bounded output, deadlines, nothing left running."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from types import FrameType
from typing import IO, Mapping, Optional, Sequence, Union

from .errors import BackupError

__all__ = ["Deadline", "Guard", "Result", "Session", "end_all", "raise_on_signals", "run"]

MAX_OUTPUT = 16 * 1024 * 1024
_live: set[subprocess.Popen[bytes]] = set()
_live_lock = threading.Lock()


class Deadline:
    """A point in time that a whole job must not pass. Seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self, at_most: Optional[float] = None) -> float:
        """Seconds left; raises BackupError when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise BackupError(
                f"the job's time limit of {self.seconds:g} s has passed: raise backup_timeout, or find what is slow"
            )
        return left if at_most is None else min(left, at_most)


@dataclass(frozen=True)
class Result:
    """How a program ended. ``out`` is at most 16 MiB; data never comes this way."""

    argv: Sequence[str]
    code: int
    out: str
    err: str

    def reason(self) -> str:
        """The last lines of what the program said, for a message."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return "; ".join(lines[-3:]) or f"{self.argv[0]} ended with status {self.code} and said nothing"


def _start(
    argv: Sequence[str],
    *,
    stdin: Union[int, IO[bytes]],
    stdout: Union[int, IO[bytes]],
    env: Optional[Mapping[str, str]],
) -> subprocess.Popen[bytes]:
    try:
        proc = subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C", **(env or {})},
            start_new_session=True,
        )
    except FileNotFoundError:
        raise BackupError(f"the program {argv[0]} is not on this host's PATH: install it") from None
    with _live_lock:
        _live.add(proc)
    return proc


def _forget(proc: subprocess.Popen[bytes]) -> None:
    with _live_lock:
        _live.discard(proc)


def _kill(proc: subprocess.Popen[bytes]) -> None:
    if proc.returncode is not None:
        return  # waited for: its number may be another's by now
    try:
        os.killpg(proc.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def end_all() -> None:
    """Kill every program that is still running; threads that wait on one go on with its end."""
    with _live_lock:
        procs = list(_live)
    for proc in procs:
        _kill(proc)


def run(
    argv: Sequence[str],
    *,
    deadline: Deadline,
    stdin: Optional[str] = None,
    out: Optional[IO[bytes]] = None,
    hold_stdin: bool = False,
    at_most: Optional[float] = None,
) -> Result:
    """Run a program to its end. ``out``: a file that takes standard output, for data.

    ``hold_stdin`` leaves standard input open while the program runs: a program on a
    lifeline ends when we do. Raises BackupError when the time is up (the program is killed).
    """
    wants_pipe = stdin is not None or hold_stdin
    proc = _start(
        argv, stdin=subprocess.PIPE if wants_pipe else subprocess.DEVNULL, stdout=out or subprocess.PIPE, env=None
    )
    limit = deadline.left(at_most)
    kept: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}
    end = time.monotonic() + limit
    try:
        if proc.stdin:
            try:
                proc.stdin.write((stdin or "").encode())
                proc.stdin.flush()
                if not hold_stdin:
                    proc.stdin.close()
            except BrokenPipeError:
                pass
        with selectors.DefaultSelector() as pipes:
            for name, pipe in (("out", proc.stdout), ("err", proc.stderr)):
                if pipe:
                    pipes.register(pipe, selectors.EVENT_READ, name)
            while pipes.get_map():
                left = end - time.monotonic()
                if left <= 0:
                    raise BackupError(
                        f"{argv[0]} {argv[1] if len(argv) > 1 else ''} did not end within {limit:.0f} s and was ended"
                    )
                for key, _events in pipes.select(left):
                    chunk = os.read(key.fd, 65536)
                    if not chunk:
                        pipes.unregister(key.fileobj)
                    elif len(kept[key.data]) < MAX_OUTPUT:
                        kept[key.data] += chunk
        code = proc.wait(timeout=max(1.0, end - time.monotonic()))
    finally:
        _kill(proc)
        for stream in (proc.stdin, proc.stdout, proc.stderr):
            if stream:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass
        proc.wait()
        _forget(proc)
    return Result(
        argv, code, bytes(kept["out"]).decode("utf-8", "replace"), bytes(kept["err"]).decode("utf-8", "replace")
    )


class Session:
    """A program that stays open: lines go in, lines come out. Its standard input is its lifeline."""

    def __init__(self, argv: Sequence[str], *, deadline: Deadline) -> None:
        self._argv = argv
        self._deadline = deadline
        self._proc = _start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=None)
        self._pending = b""
        self._err: list[bytes] = []
        # stderr has its own reader: a program that fills it must not stall.
        self._reader = threading.Thread(target=self._read_err, daemon=True)
        self._reader.start()

    def _read_err(self) -> None:
        if self._proc.stderr is None:
            return
        for line in self._proc.stderr:
            self._err.append(line)
            del self._err[:-50]

    def send(self, text: str) -> None:
        """Write text; a program that is gone shows at the next ``line``."""
        try:
            if self._proc.stdin is not None:
                self._proc.stdin.write(text.encode())
                self._proc.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass

    def line(self, at_most: Optional[float] = None) -> str:
        """The next line of output. Raises BackupError with the program's own words when it ended."""
        if self._proc.stdout is None:
            raise BackupError("the session has no output")
        descriptor = self._proc.stdout.fileno()
        while b"\n" not in self._pending:
            with selectors.DefaultSelector() as ready:
                ready.register(descriptor, selectors.EVENT_READ)
                if not ready.select(self._deadline.left(at_most)):
                    raise BackupError(f"{self._argv[0]} gave no answer in time")
            chunk = os.read(descriptor, 65536)
            if not chunk:
                raise BackupError(self.reason())
            self._pending += chunk
        line, self._pending = self._pending.split(b"\n", 1)
        return line.decode("utf-8", "replace").rstrip("\r")

    def reason(self) -> str:
        """What the program said on stderr before it ended."""
        try:
            code = self._proc.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = -1
        self._reader.join(timeout=2)
        return Result(self._argv, code, "", b"".join(self._err).decode("utf-8", "replace")).reason()

    def close(self) -> None:
        """End the program: by the end of its input, else by force."""
        try:
            if self._proc.stdin:
                self._proc.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._proc.wait(timeout=5)
        except subprocess.TimeoutExpired:
            _kill(self._proc)
            self._proc.wait()
        if self._proc.stdout:
            self._proc.stdout.close()
        _forget(self._proc)


class Guard:
    """Runs a program when released, or when this process dies, or after ``seconds``: whatever happens.

    Used to unpause containers. It lives in a session of its own, so that neither a
    signal to our group nor SIGKILL of this process reaches it.
    """

    def __init__(self, argv: Sequence[str], *, seconds: int) -> None:
        script = 'trap "" HUP INT TERM; t=$1; shift; timeout "$t" cat >/dev/null; exec "$@"'
        self._proc = subprocess.Popen(
            ["sh", "-c", script, "guard", str(seconds), *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def release(self) -> int:
        """Let the program run now; returns its exit status."""
        if self._proc.stdin and not self._proc.stdin.closed:
            self._proc.stdin.close()
        return self._proc.wait()


class raise_on_signals:  # noqa: N801 - reads as a statement
    """``with raise_on_signals():`` SIGTERM, SIGINT and SIGHUP become a BackupError, so that clean-up runs."""

    def __enter__(self) -> None:
        self._old = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                self._old[number] = signal.signal(number, self._raise)

    def _raise(self, number: int, _frame: Optional[FrameType]) -> None:
        end_all()
        raise BackupError(f"ended by {signal.Signals(number).name}: nothing of this run was published")

    def __exit__(self, *_exc: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
