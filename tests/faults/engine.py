"""A Docker engine of the harness' own, in a network of its own: it may crash and restart, nobody else's containers do."""

import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from tests.polling import until

IMAGES = ("postgres:17", "redis:8.0")


class Engine:
    """dockerd with all that it keeps below one folder."""

    def __init__(self, folder):
        self.folder, self.pid, self.log = folder, folder / "docker.pid", folder / "dockerd.log"
        self.address = f"unix://{folder}/docker.sock"

    @property
    def _start(self):
        places = " ".join(f"--{name}-root {self.folder / name}" for name in ("data", "exec"))
        # As a service manager does: it comes again after a crash, and when its containerd took longer than it waits.
        again = f"until dockerd --host {self.address} {places} --pidfile {self.pid}; do sleep 1; done"
        return f"(TMPDIR={self.folder} setsid unshare --net sh -c 'ip link set lo up; {again}' </dev/null >>{self.log} 2>&1 &)"

    def _end(self, signal):
        return f"pid=$(cat {self.pid}) && kill -{signal} $pid && while test -d /proc/$pid; do sleep 0.1; done"

    def answers(self):
        return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0

    def hands(self):
        """Shell commands, as Stack.hands: they leave a daemon that is just starting."""
        return {
            "dockerd restarts": f"{self._end('TERM')}; {self._start}",
            "dockerd crashes": self._end("KILL"),
        }

    def start(self):
        subprocess.run(["sh", "-c", self._start], check=True)
        assert until(self.answers, 60, pause=0.5), self.log.read_text()[-2000:]

    def stop(self):
        subprocess.run(["sh", "-c", self._end("TERM")], check=False)
        subprocess.run(["umount", "--recursive", "--lazy", str(self.folder / "data")], capture_output=True, check=False)


@contextmanager
def own_engine():
    """Whatever calls docker in here, and what it starts, calls this engine."""
    with tempfile.TemporaryDirectory(prefix="engine-") as folder:  # a short name: a socket's has at most 104 bytes
        yield from _running(Path(folder))


def _running(folder):
    engine, before = Engine(folder), os.environ.get("DOCKER_HOST")
    images = folder / "images.tar"
    subprocess.run(["docker", "save", "--output", str(images), *IMAGES], check=True)
    os.environ["DOCKER_HOST"] = engine.address
    try:
        engine.start()
        subprocess.run(["docker", "load", "--quiet", "--input", str(images)], check=True, capture_output=True)
        images.unlink()
        yield engine
    finally:
        engine.stop()
        del os.environ["DOCKER_HOST"]
        if before is not None:
            os.environ["DOCKER_HOST"] = before
