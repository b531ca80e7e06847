"""Container hosts that a control node reaches by ssh. All are on one engine; their stacks share two servers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from module_utils.stack_backup import catalog
from module_utils.stack_backup.artifact import digest

from .servers import PROJECT, Server, Stack, fill, sh

__all__ = ["Fleet"]

_PROJECT = PROJECT.replace("-bench-", "-fleet-")
# The folder is mounted under its own name: what the engine mounts for a side container is a folder of the machine.
# `off` is a container that is there and does not run.
_SERVICES = """  host:
    image: {image}
    init: true
    command: ["sh", "-c", "mkdir -p /run/sshd && exec /usr/sbin/sshd -D -f /dev/null -h {ssh}/host -o StrictModes=no -o AuthorizedKeysFile={ssh}/key.pub -o Subsystem='sftp internal-sftp'"]
    volumes: ["/var/run/docker.sock:/var/run/docker.sock", "{folder}:{folder}"]
    deploy: {{replicas: {count}}}
  off:
    image: redis:8.0
    entrypoint: ["true"]
"""


class Fleet:
    """``with Fleet(...) as fleet:`` its hosts run while the block does."""

    def __init__(self, folder: Path, count: int, image: str) -> None:
        """``folder`` holds all that is the fleet's: keys, inventory, backups."""
        self._folder, self._count, self._ssh = folder, count, folder / "ssh"
        more = _SERVICES.format(image=image, ssh=self._ssh, folder=folder, count=count)
        self._stack = Stack(folder, ["17"], ["8.0"], more, _PROJECT)
        self.inventory = folder / "hosts.yml"
        self.names = [f"h{number:03}" for number in range(1, count + 1)]

    def __enter__(self) -> Fleet:
        self._ssh.mkdir()
        for name in ("host", "key"):
            sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._ssh / name))
        public = " ".join((self._ssh / "host.pub").read_text().split()[:2])
        (self._ssh / "known_hosts").write_text(f"* {public}\n")
        servers = self._stack.__enter__()
        try:
            fill(servers, {"postgres": 1, "redis": 1})
            _databases(servers[0], self.names)
            self.tell({})
        except BaseException:
            self._stack.__exit__()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.__exit__()

    def container(self, name: str) -> str:
        """A host's container."""
        return f"{_PROJECT}-host-{int(name[1:])}"

    def tell(self, broken: dict[str, dict[str, Any]]) -> None:
        """Write the inventory; ``broken`` has variables of hosts that take the place of theirs."""
        redis, postgres = f"{_PROJECT}-redis80-1", f"{_PROJECT}-postgres17-1"
        hosts = {}
        for name, address in zip(self.names, self._addresses()):
            stores = [
                {"name": "redis", "engine": "redis", "container": redis},
                {"name": "postgres", "engine": "postgres", "container": postgres, "database": name},
            ]
            own = {"ansible_host": address, "stack_backup_dir": str(self.backups(name)), "stack_stores": stores}
            hosts[name] = {**own, **broken.get(name, {})}
        shared = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self._ssh / "key"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self._ssh / 'known_hosts'}",
            "backup_report_dir": str(self._folder / "reports"),
        }
        # JSON is YAML.
        self.inventory.write_text(json.dumps({"stacks": {"hosts": hosts, "vars": shared}}))

    def _addresses(self) -> list[str]:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return sh("docker", "inspect", "--format", form, *map(self.container, self.names)).split("\n")

    def backups(self, name: str) -> Path:
        """The folder of a host's backups."""
        return self._folder / "backups" / name

    def whole(self, name: str) -> set[str]:
        """A host's recovery points that are complete, and whose files are what their manifests say."""
        if not self.backups(name).is_dir():
            return set()
        found = catalog.read(self.backups(name), name)
        return {
            point
            for point, backups in found.points.items()
            if found.complete(point)
            and all(
                digest(path)["sha256"] == told["sha256"]
                for backup in backups.values()
                for path, told in backup.files().items()
            )
        }

    def report(self) -> dict[str, Any]:
        """The newest report of the playbook."""
        newest = max((self._folder / "reports").iterdir(), key=os.path.getmtime)
        told: dict[str, Any] = json.loads(newest.read_text())
        return told


def _databases(server: Server, names: list[str]) -> None:
    """One database for each stack, each as the one that was filled, and connections enough for all at once."""
    server.sql("ALTER SYSTEM SET max_connections = 1000;")
    server.compose("restart", server.service)
    server.wait()
    admin = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "bench", "-d", "postgres")
    server.exec(*admin, stdin="".join(f"CREATE DATABASE {name} TEMPLATE bench STRATEGY file_copy;\n" for name in names))
