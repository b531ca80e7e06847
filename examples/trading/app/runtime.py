"""What both programs have in common: log lines, and an end within two seconds of SIGTERM."""

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from time import monotonic

log = logging.getLogger("trading")
Job = Callable[[threading.Event], None]


class Outage:
    """Logs when a program's part loses its databases and when it has them again, not each try."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._down = False

    def begins(self, error: Exception) -> None:
        if not self._down:
            log.warning("%s: interrupted: %s", self._name, one_line(error))
        self._down = True

    def ends(self) -> None:
        if self._down:
            log.info("%s: works again", self._name)
        self._down = False


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def run(jobs: Iterable[Job]) -> None:
    """Run each job in its thread until a signal comes; a job returns soon after the event is set."""
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    stop = threading.Event()
    crashes: list[Exception] = []

    def guarded(job: Job) -> None:
        try:
            job(stop)
        except Exception as error:
            # Not half alive: the container's restart policy brings back all of it.
            log.exception("crashed")
            crashes.append(error)
            stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # Daemons: one that waits for a database that doesn't answer must not keep the program alive.
    threads = [threading.Thread(target=guarded, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    log.info("started")
    stop.wait()
    deadline = monotonic() + 1.5
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
    log.info("stopped")
    sys.exit(1 if crashes else 0)
