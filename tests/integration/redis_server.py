"""One Redis or Valkey server in a plain container, and backups of it."""

import subprocess
import time

import pytest
from conftest import PROJECT, sh
from stack_backup import point
from stack_backup.errors import BackupError

NAME = f"{PROJECT}-server"
STORE = {"name": "redis", "engine": "redis", "container": NAME}


def files(folder):
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".lock"]


def take(backup_dir, store):
    backup_dir.mkdir(exist_ok=True)
    params = {"stack": "test", "backup_dir": str(backup_dir), "timeout": 60, "stores": [store]}
    return point.take(params)["stores"][0]


def fail(backup_dir, store):
    with pytest.raises(BackupError) as caught:
        take(backup_dir, store)
    assert files(backup_dir) == []
    return str(caught.value)


class Server:
    """One server; ``args`` are docker's up to the image, the server's after it."""

    def __init__(self, cli=()):
        self._cli = cli

    def start(self, *args):
        # Not every official image brings a volume.
        volume = [] if any(arg.endswith(":/data") for arg in args) else ["--volume", "/data"]
        sh("docker", "run", "--detach", "--name", NAME, *volume, *args)
        return self.wait()

    def wait(self):
        for _ in range(100):
            if self.cli("ping", check=False) == "PONG":
                return self
            time.sleep(0.05)
        raise AssertionError(sh("docker", "logs", NAME, merge=True))

    @staticmethod
    def remove():
        subprocess.run(["docker", "rm", "-fv", NAME], capture_output=True, check=False)

    def cli(self, *args, check=True, stdin=None):
        program = "valkey-cli" if "valkey" in sh("docker", "inspect", "-f", "{{.Config.Image}}", NAME) else "redis-cli"
        return sh("docker", "exec", "-i", NAME, program, *self._cli, *args, check=check, stdin=stdin).strip()
