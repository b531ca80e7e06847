"""The one place that runs programs: argv lists, bounded output, deadlines, nothing left running."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import IO, Callable, Iterator, Optional, Protocol, Sequence, Union

from .errors import BackupError, Unsound

__all__ = ["Deadline", "Guard", "Readable", "Result", "Session", "ignore_signals", "raise_on_signals", "run"]

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
MAX_OUTPUT = 16 * 1024 * 1024
_LONGEST_ERROR = 64 * 1024
_live: set[subprocess.Popen[bytes]] = set()
_live_lock = threading.RLock()  # a signal's handler may come upon its own thread holding it


class Readable(Protocol):
    """Data to feed to a program: a file, or what reads as one."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


class _Ended(BaseException):
    """A signal, on its way out through code that takes a BackupError for one store's own fault."""


class Deadline:
    """A point in time that a whole job must not pass. Seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._cut = ""

    @property
    def over(self) -> bool:
        """Whether its time has passed."""
        return time.monotonic() >= self._end

    def cut(self, why: str) -> None:
        """No time is left from now on: other threads start nothing more."""
        self._cut = why

    def left(self, at_most: Optional[float] = None) -> float:
        """Seconds left; raises BackupError when there are none."""
        if self._cut:
            raise BackupError(self._cut)
        left = self._end - time.monotonic()
        if left <= 0:
            raise BackupError(
                f"the job's time limit of {self.seconds:g} s has passed: raise it (backup_timeout, restore_timeout, verify_timeout, "
                "offsite_timeout), or find what is slow"
            )
        return left if at_most is None else min(left, at_most)


_LACKING = re.compile(
    "no space left|quota exceeded|cannot allocate memory|out of memory|docker daemon|docker.sock|EOF"
    "|closed the connection|terminating connection|lost connection|connection to server|is shutting down",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Result:
    """How a program ended. ``out`` is at most 16 MiB; data never comes this way."""

    argv: Sequence[str]
    code: int
    out: str
    err: str

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it, as a shell tells that."""
        return self.code == 128 + signal.SIGKILL

    def fault(self, message: str) -> BackupError:
        """An error of that text: Unsound when the program ended by itself, and not for what its machine lacked."""
        # From 125 on it was docker, a shell or a signal that ended it.
        return (Unsound if 0 < self.code < 125 and not _LACKING.search(self.err) else BackupError)(message)

    def reason(self) -> str:
        """The last lines of what the program said, for a message."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return "; ".join(lines[-3:]) or f"{self.argv[0]} ended with status {self.code} and said nothing"


def _no_start(program: str, error: OSError) -> BackupError:
    if isinstance(error, FileNotFoundError):
        return BackupError(f"the program {program} is not on this host's PATH: install it")
    if isinstance(error, BlockingIOError):
        return BackupError(
            f"the program {program} can't be started: {error.strerror}: "
            "this host is at its limit of processes (ulimit -u, TasksMax): see what fills it"
        )
    return BackupError(f"the program {program} can't be started: {error.strerror}: mend its file or PATH")


def _start(
    argv: Sequence[str],
    *,
    stdin: Union[int, IO[bytes]],
    stdout: Union[int, IO[bytes]],
    holds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    try:
        proc = subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
            pass_fds=holds,
        )
    except OSError as error:
        raise _no_start(argv[0], error) from None
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
    feed: Optional[Readable] = None,
    out: Optional[IO[bytes]] = None,
    hold_stdin: bool = False,
    at_most: Optional[float] = None,
    holds: Sequence[int] = (),
    aside: Optional[Callable[[str], bool]] = None,
) -> Result:
    """Run a program to its end. ``out``: a file that takes standard output, for data; ``feed``: one that
    follows ``stdin`` as standard input.

    ``hold_stdin`` leaves standard input open while the program runs: a program on a
    lifeline ends when we do. ``holds``: descriptors that it keeps open, also past our death.
    ``aside`` is shown each line of standard error as it comes; one that it answers true to is left out of the result.
    Raises BackupError when the time is up (the program is killed).
    """
    wants_pipe = stdin is not None or hold_stdin or feed is not None
    proc = _start(
        argv,
        stdin=subprocess.PIPE if wants_pipe else subprocess.DEVNULL,
        stdout=out or subprocess.PIPE,
        holds=holds,
    )
    feeder: Optional[threading.Thread] = None
    kept: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}
    pending = b""  # the line of standard error that has no end yet
    try:
        limit = deadline.left(at_most)
        end = time.monotonic() + limit
        if proc.stdin:
            try:
                proc.stdin.write((stdin or "").encode())
                proc.stdin.flush()
                if feed:
                    # Beside the reading below: a program that talks while it is fed must not stall.
                    feeder = threading.Thread(target=_feed, args=(feed, proc.stdin), daemon=True)
                    feeder.start()
                elif not hold_stdin:
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
                        f"{argv[0]} {argv[1] if len(argv) > 1 else ''} did not end within {limit:.0f} s and was ended: "
                        "is the machine overloaded, does the Docker engine hang?"
                    )
                for key, _events in pipes.select(left):
                    chunk = os.read(key.fd, 65536)
                    if not chunk:
                        pipes.unregister(key.fileobj)
                    if aside and key.data == "err":
                        *lines, pending = (pending + chunk).split(b"\n")
                        if len(pending) > _LONGEST_ERROR:
                            lines, pending = [*lines, pending], b""
                        chunk = b"".join(b"%s\n" % line for line in lines if not aside(line.decode("utf-8", "replace")))
                    if len(kept[key.data]) < MAX_OUTPUT:
                        kept[key.data] += chunk
        kept["err"] += pending
        code = proc.wait(timeout=max(1.0, end - time.monotonic()))
    finally:
        _kill(proc)
        if feeder:
            feeder.join()
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


def _pour(source: Readable, stdin: IO[bytes]) -> None:
    while chunk := source.read(1024 * 1024):
        stdin.write(chunk)
    stdin.flush()


def _feed(source: Readable, stdin: IO[bytes]) -> None:
    try:
        with stdin:
            _pour(source, stdin)
    except (BackupError, OSError):  # the program is gone, or the source can't be read: its status or its end tells
        pass


class Session:
    """A program that stays open: lines go in, lines come out. Its standard input is its lifeline."""

    def __init__(self, argv: Sequence[str], *, deadline: Deadline) -> None:
        self._argv = argv
        self._deadline = deadline
        self._proc = _start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._pending = bytearray()
        self._err: list[bytes] = []
        # stderr has its own reader: a program that fills it must not stall.
        self._reader = threading.Thread(target=self._read_err, daemon=True)
        self._reader.start()

    def _read_err(self) -> None:
        if self._proc.stderr is None:
            return
        while line := self._proc.stderr.readline(_LONGEST_ERROR):
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

    def feed(self, source: Readable) -> threading.Thread:
        """Write what ``source`` gives, in the thread that is returned; standard input stays open."""
        feeder = threading.Thread(target=self._feed, args=(source,), daemon=True)
        feeder.start()
        return feeder

    def _feed(self, source: Readable) -> None:
        try:
            if self._proc.stdin is not None:
                _pour(source, self._proc.stdin)
        except (BackupError, OSError, ValueError):  # as for ``run``
            pass

    def line(self, at_most: Optional[float] = None) -> str:
        """The next line of output. Raises BackupError with the program's own words when it ended."""
        line = self.line_or_end(at_most)
        if line is None:
            raise BackupError(self.reason())
        return line

    def rest(self) -> Result:
        """How the program ends, with all that it still says."""
        lines = iter(self.line_or_end, None)
        out = "".join(f"{line}\n" for line in lines)
        result = self.result()
        return Result(result.argv, result.code, out, result.err)

    def line_or_end(self, at_most: Optional[float] = None) -> Optional[str]:
        """The next line of output; None at its end."""
        if self._proc.stdout is None:
            raise BackupError("the session has no output")
        descriptor = self._proc.stdout.fileno()
        seen = 0  # of what is pending, so much holds no end of a line
        while (end := self._pending.find(b"\n", seen)) < 0:
            seen = len(self._pending)
            if seen > MAX_OUTPUT:
                raise BackupError(f"{self._argv[0]} wrote a line of more than {MAX_OUTPUT} bytes")
            with selectors.DefaultSelector() as ready:
                ready.register(descriptor, selectors.EVENT_READ)
                if not ready.select(self._deadline.left(at_most)):
                    raise BackupError(f"{self._argv[0]} gave no answer in time")
            chunk = os.read(descriptor, 65536)
            if not chunk:
                return None
            self._pending += chunk
        line = bytes(self._pending[:end])
        del self._pending[: end + 1]
        return line.decode("utf-8", "replace").rstrip("\r")

    def ended(self) -> bool:
        """Whether the program is gone."""
        return self._proc.poll() is not None

    def reason(self) -> str:
        """What the program said on stderr before it ended."""
        return self.result().reason()

    def result(self) -> Result:
        """How the program ended, with the last lines that it said on stderr."""
        try:
            code = self._proc.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = -1
        self._reader.join(timeout=2)
        return Result(self._argv, code, "", b"".join(self._err).decode("utf-8", "replace"))

    def let_go(self) -> None:
        """Tell the program to end, by the end of its input; ``close`` waits for it."""
        try:
            if self._proc.stdin:
                self._proc.stdin.close()
        except BrokenPipeError:
            pass

    def close(self) -> None:
        """End the program: by the end of its input, else by force."""
        self.let_go()
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

    ``lifeline`` is a descriptor for the program that makes the guard needed to hold: one that outlives us is
    then waited for, and what it does is undone too.
    """

    def __init__(self, argv: Sequence[str], *, seconds: int) -> None:
        script = 'trap "" HUP INT TERM; t=$1; shift; timeout "$t" cat >/dev/null; exec "$@"'
        try:
            self._proc = subprocess.Popen(
                ["sh", "-c", script, "guard", str(seconds), *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise _no_start("sh", error) from None
        if self._proc.stdin is None:
            raise BackupError("the guard has no input")
        self.lifeline = self._proc.stdin.fileno()

    def release(self) -> int:
        """Let the program run now; returns its exit status."""
        if self._proc.stdin and not self._proc.stdin.closed:
            self._proc.stdin.close()
        return self._proc.wait()


class raise_on_signals:  # noqa: N801 - reads as a statement
    """``with raise_on_signals(deadline):`` SIGTERM, SIGINT and SIGHUP end the block, so that clean-up runs.

    The first one kills what runs and cuts the deadlines; BackupError leaves the block. Later ones are
    ignored: they would end the clean-up.
    """

    def __init__(self, *deadlines: Deadline) -> None:
        self._deadlines = deadlines

    def __enter__(self) -> None:
        self._old = {}
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING:
                self._old[number] = signal.signal(number, self._raise)

    def _raise(self, number: int, _frame: Optional[FrameType]) -> None:
        for other in self._old:
            signal.signal(other, signal.SIG_IGN)
        why = f"ended by {signal.Signals(number).name}: what was not published is removed"
        for deadline in self._deadlines:
            deadline.cut(why)
        end_all()
        raise _Ended(why)

    def __exit__(self, _kind: object, error: Optional[BaseException], _trace: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        if isinstance(error, _Ended):
            raise BackupError(str(error)) from None


@contextmanager
def ignore_signals() -> Iterator[None]:
    """``with ignore_signals():`` the way back is not to be ended half-way by a second SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
