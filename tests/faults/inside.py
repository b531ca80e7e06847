"""One job of the engine in a process of its own, whose steps are traced, and at one of which a fault comes.

A step is a call of the engine that changes something outside: a file or folder made, synced, renamed, removed, a program
started. Its name is the file and the function of the engine, the call, and its number among those of this name.
Standard input has the task as JSON, standard output ends with the outcome as JSON.
"""

import collections
import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

ENGINE = Path(__file__).resolve().parents[2] / "module_utils"
FILES = (
    "open",
    "fsync",
    "rename",
    "replace",
    "mkdir",
    "unlink",
    "rmdir",
    "chmod",
    "chown",
    "link",
    "symlink",
    "remove",
)
ERRORS = {name: getattr(errno, name) for name in ("EIO", "ENOSPC", "EAGAIN")}
REAL = {"popen": subprocess.Popen, "time": time.time, "run": subprocess.run}


def site():
    """The engine's function that is at work, if it is the engine's doing."""
    frame = sys._getframe(3)
    while frame:
        folder, _, file = frame.f_code.co_filename.partition("/stack_backup/")
        if file and folder == str(ENGINE):
            return f"{file.removesuffix('.py')}:{frame.f_code.co_name}"
        frame = frame.f_back
    return None


def writes(mode):
    """Whether what is opened so may be changed."""
    if isinstance(mode, int):
        return bool(mode & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return mode not in ("r", "rb")


class Steps:
    """Counts the steps, and lets the fault come at the one that was asked for."""

    def __init__(self, task):
        self.folders, self.fault, self.hands = tuple(task["folders"]), task["fault"], task["hands"]
        self.seen, self.numbers, self.came = [], collections.Counter(), False
        self.lock = threading.Lock()

    def step(self, call, *, after=None):
        """Before the call, or right after it when that started a program."""
        where = site()
        if where is None:
            return
        with self.lock:
            name = f"{where} {call}"
            self.numbers[name] += 1
            name = f"{name} {self.numbers[name]}"
            self.seen.append(name)
            if self.fault is None or self.fault["step"] != name:
                return
            self.came = True
        self.let_come(self.fault["kind"])

    def let_come(self, kind):
        if kind in ERRORS:
            raise OSError(ERRORS[kind], os.strerror(ERRORS[kind]), "injected")
        if kind in ("SIGKILL", "SIGTERM"):
            os.kill(os.getpid(), getattr(signal, kind))
        elif kind.startswith("clock"):
            offset = float(kind.removeprefix("clock"))
            time.time = lambda: REAL["time"]() + offset
        elif kind == "client":
            for task in Path("/proc/self/task").iterdir():
                for child in (task / "children").read_text().split():
                    os.kill(int(child), signal.SIGKILL)
        else:  # what the harness has hands for: containers, servers
            argv = self.hands[kind]
            REAL["run"](["sh", "-c", argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            if kind == "power":
                os.kill(os.getpid(), signal.SIGKILL)

    def ours(self, path):
        return isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(self.folders)

    def wrap(self, place, name):
        real = getattr(place, name)

        def wrapped(*args, **more):
            if name == "open":
                counts = self.ours(args[0]) and len(args) > 1 and writes(args[1])
            else:  # a descriptor, or a name relative to one, is of a folder that was opened by its name
                counts = isinstance(args[0], int) or "dir_fd" in more or self.ours(args[0])
            if counts:
                self.step(name)
            return real(*args, **more)

        setattr(place, name, wrapped)

    def watch(self):
        for name in FILES:
            self.wrap(os, name)
        self.wrap(io, "open")
        steps = self

        class Popen(subprocess.Popen):
            def __init__(self, argv, *args, **more):
                named = [word for word in argv if word == "rclone"]  # inside a shell that ends it with us
                words = named or [word for word in argv if not word.startswith("-")]
                steps.step(f"start {' '.join(words[:2])[:24]}")
                super().__init__(argv, *args, **more)
                steps.step(f"started {' '.join(words[:2])[:24]}")

        subprocess.Popen = Popen


def main():
    task = json.load(sys.stdin)
    sys.path.insert(0, str(ENGINE))
    errors = import_module("stack_backup.errors")
    place, _, name = task["function"].rpartition(".")
    function = getattr(import_module(f"stack_backup.{place}"), name)
    steps = Steps(task)
    steps.watch()
    outcome = {"ok": False, "error": "", "result": {}}
    try:
        outcome.update(ok=True, result=function(task["params"]))
    except errors.BackupError as error:
        outcome.update(error=str(error), result=error.details)
    except Exception as error:  # a fault of the engine's own: the judge says so
        outcome.update(error=f"{type(error).__name__}: {error}", unforeseen=True)
    print(json.dumps({**outcome, "steps": steps.seen, "came": steps.came}, default=str))


if __name__ == "__main__":
    main()
