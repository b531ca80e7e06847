"""Finds the containers of a stack, enters them, and starts throw-away ones beside them."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Sequence

from .errors import BackupError
from .process import Deadline, Guard, Result, Session, run
from .stores import Store

__all__ = ["MOUNT", "Container", "Docker", "Project", "SideContainer"]

MOUNT = "/stack-backup"
LABEL = "stack-backup.dir"
# A program inside a container outlives the docker client that started it. So a watcher waits on
# standard input: when that ends (we died, or let go) it tells the shell, which ends the program. The shell
# waits for both children, always: an orphan falls to process 1, and when that is Postgres, a stranger's
# child that died by a signal makes it restart every session as after a crash. `read` is the shell's own,
# so the watcher has no child either.
LIFELINE = (
    'exec 3<&0; "$@" </dev/null & p=$!; trap "kill $p" USR1; '
    "(while read -r x; do :; done <&3; kill -USR1 $$) >/dev/null 2>&1 & w=$!; "
    'wait $p; s=$?; trap "" USR1; wait $p 2>/dev/null; kill $w 2>/dev/null; wait $w 2>/dev/null; exit $s'
)


@dataclass(frozen=True)
class Container:
    """A running container, as ``docker inspect`` told of it."""

    id: str
    name: str
    image: str
    image_id: str
    state: str
    env: dict[str, str]
    mounts: tuple[str, ...]


@dataclass(frozen=True)
class Project:
    """Where the Compose project is. ``name`` overrides what the files and the environment say."""

    directory: Optional[str] = None
    files: Sequence[str] = ()
    name: Optional[str] = None


class Docker:
    """The docker command, for one job."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline

    def call(self, *args: str, stdin: Optional[str] = None, check: bool = True, at_most: float = 120) -> Result:
        """Run ``docker ARGS``. Raises BackupError with the client's own words when ``check``."""
        result = run(["docker", *args], deadline=self.deadline, stdin=stdin, at_most=at_most)
        if check and result.code:
            raise BackupError(_cure(result))
        return result

    def project_services(self, project: Project) -> tuple[str, list[str]]:
        """The Compose project's name and the names of its services."""
        if not project.directory:
            raise BackupError(
                "a store names a service but stack_project_dir is not set: it is the folder that holds compose.yml"
            )
        if not Path(project.directory).is_dir():
            raise BackupError(
                f"the project folder {project.directory} is missing: set stack_project_dir to the folder that holds compose.yml"
            )
        argv = ["compose", "--project-directory", project.directory]
        if project.name:
            argv += ["--project-name", project.name]
        for file in project.files:
            argv += ["--file", str(Path(project.directory) / file)]
        config = json.loads(self.call(*argv, "config", "--format", "json").out)
        return str(config["name"]), sorted(config.get("services", {}))

    def inspect(self, ids: Sequence[str]) -> list[Container]:
        """What the named containers are; those that do not exist are left out."""
        if not ids:
            return []
        result = self.call("container", "inspect", *ids, check=False)
        if result.code and "No such container" not in result.err:
            raise BackupError(_cure(result))
        return [_container(item) for item in json.loads(result.out or "[]")]

    def find_service(self, project_name: str, service: str) -> list[Container]:
        """All containers of a service, running or not."""
        filters = (
            f"com.docker.compose.project={project_name}",
            f"com.docker.compose.service={service}",
            "com.docker.compose.oneoff=False",
        )
        args = [arg for value in filters for arg in ("--filter", f"label={value}")]
        return self.inspect(self.call("ps", "--all", "--quiet", "--no-trunc", *args).out.split())

    def locate(
        self, stores: Sequence[Store], project: Project, quiesce: Sequence[str]
    ) -> tuple[dict[str, Any], list[Container]]:
        """For each store its Container or the BackupError that says why not; and the containers to pause."""
        name = ""
        services: list[str] = []
        if quiesce or any(store.service for store in stores):
            name, services = self.project_services(project)
        else:
            self.call("version", "--format", "{{.Server.Version}}")
        found: dict[str, Any] = {}
        for store in stores:
            try:
                found[store.name] = self._locate_one(store, name, services)
            except BackupError as error:
                found[store.name] = error
        pause: list[Container] = []
        for service in quiesce:
            if service not in services:
                raise BackupError(
                    f"backup_quiesce names {service}, which is no service of project {name}: {', '.join(services)}"
                )
            pause += [item for item in self.find_service(name, service) if item.state == "running"]
        return found, pause

    def _locate_one(self, store: Store, project: str, services: Sequence[str]) -> Container:
        if store.container:
            containers = self.inspect([store.container])
            cure = f"docker start {store.container}"
        else:
            service = store.service or ""
            if service not in services:
                raise BackupError(
                    f"store {store.name}: project {project} has no service {service}: it has {', '.join(services)}"
                )
            containers = self.find_service(project, service)
            cure = f"docker compose up -d {service}"
        if not containers:
            raise BackupError(f"store {store.name}: {store.where} has no container: {cure}")
        running = [item for item in containers if item.state == "running"]
        if len(running) > 1:
            names = ", ".join(item.name for item in running)
            raise BackupError(
                f"store {store.name}: {store.where} is scaled to {len(running)} ({names}): name one of them with container:"
            )
        if not running:
            state = containers[0].state
            if state == "paused":
                cure = f"docker unpause {containers[0].name}"
            if state == "restarting":
                cure = f"see why: docker logs {containers[0].name}"
            raise BackupError(f"store {store.name}: {store.where} is {state}, not running: {cure}")
        return running[0]

    def exec_argv(
        self, container: str, argv: Sequence[str], *, interactive: bool = False, user: Optional[str] = None
    ) -> list[str]:
        """``docker exec`` of a program."""
        return [
            "docker",
            "exec",
            *(["--interactive"] if interactive else []),
            *(["--user", user] if user else []),
            container,
            *argv,
        ]

    def exec(self, container: str, argv: Sequence[str], *, at_most: float = 60) -> Result:
        """Run a short program in a container; its exit status is the caller's to judge."""
        return run(self.exec_argv(container, argv), deadline=self.deadline, at_most=at_most)

    def pause_guarded(self, containers: Sequence[Container], seconds: int) -> Guard:
        """Pause containers; releasing the guard, or our death, unpauses them."""
        ids = [item.id for item in containers]
        guard = Guard(["docker", "unpause", *ids], seconds=seconds)
        result = self.call("pause", *ids, check=False)
        if result.code:
            guard.release()
            raise BackupError(f"backup_quiesce: {_cure(result)}")
        return guard

    def unpause(self, guard: Guard, containers: Sequence[Container]) -> None:
        """Release the guard and see that the containers do run."""
        guard.release()
        stuck = [item.name for item in self.inspect([item.id for item in containers]) if item.state == "paused"]
        if stuck:
            self.call("unpause", *stuck)

    def remove_leftovers(self, backup_dir: str) -> list[str]:
        """Throw-away containers of a run that died. Call it with the stack's lock held."""
        ids = self.call("ps", "--all", "--quiet", "--filter", f"label={LABEL}={backup_dir}").out.split()
        if ids:
            self.call("rm", "--force", "--volumes", *ids, check=False)
        return ids


class SideContainer:
    """A throw-away container of a database's own image; ``folder`` is mounted at MOUNT."""

    def __init__(
        self,
        docker: Docker,
        *,
        image: str,
        backup_dir: str,
        store: str,
        network: str = "none",
        folder: Optional[Path] = None,
        read_only: bool = False,
        volumes_from: Optional[str] = None,
        user: Optional[str] = None,
        capabilities: Sequence[str] = (),
    ) -> None:
        self.docker = docker
        self.name = f"stack-backup-{store}-{secrets.token_hex(4)}"
        self._options = [
            *("--rm", "--interactive", "--name", self.name, "--label", f"{LABEL}={backup_dir}", "--network", network),
            *(
                "--read-only",
                "--cap-drop",
                "ALL",
                "--security-opt",
                "no-new-privileges",
                "--security-opt",
                "label=disable",
            ),
            *(
                "--user",
                user or f"{os.getuid()}:{os.getgid()}",
                "--workdir",
                "/",
                "--log-driver",
                "none",
                "--pull",
                "never",
            ),
            *(arg for name in capabilities for arg in ("--cap-add", name)),
        ]
        if folder is not None:
            # --mount takes one CSV record: quotes keep a comma in the folder's name.
            source = str(folder).replace('"', '""')
            self._options += [
                "--mount",
                f'type=bind,"source={source}",target={MOUNT}{",readonly" if read_only else ""}',
            ]
        if volumes_from:
            self._options += ["--volumes-from", f"{volumes_from}:ro"]
        self._image = image

    def argv(self, program: Sequence[str]) -> list[str]:
        """``docker run`` of a program in it."""
        return ["docker", "run", *self._options, "--entrypoint", program[0], self._image, *program[1:]]

    def run(self, program: Sequence[str]) -> Result:
        """Run a program to its end; the container ends with it, or with us."""
        try:
            return run(
                self.argv(["sh", "-c", LIFELINE, "sh", *program]), deadline=self.docker.deadline, hold_stdin=True
            )
        except BackupError:
            self.remove()
            raise

    def session(self, program: Sequence[str]) -> Session:
        """Open a program in it; ``exec`` of others goes by ``name`` while it is open."""
        return Session(self.argv(program), deadline=self.docker.deadline)

    def remove(self) -> None:
        """Remove it by force, also past the deadline."""
        run(["docker", "rm", "--force", "--volumes", self.name], deadline=Deadline(30))


def _container(item: dict[str, Any]) -> Container:
    env = dict(entry.split("=", 1) for entry in item["Config"].get("Env") or [] if "=" in entry)
    return Container(
        id=item["Id"],
        name=item["Name"].lstrip("/"),
        image=item["Config"]["Image"],
        image_id=item["Image"],
        state="restarting" if item["State"].get("Restarting") else item["State"]["Status"],
        env=env,
        mounts=tuple(mount["Destination"] for mount in item.get("Mounts") or []),
    )


def _cure(result: Result) -> str:
    reason = result.reason()
    if "Cannot connect to the Docker daemon" in reason or "Is the docker daemon running" in reason:
        return f"no Docker engine answers: start it (systemctl start docker) ({reason})"
    if "permission denied" in reason.lower() and "docker" in reason.lower():
        return f"this user may not talk to the Docker engine: run as root or join the group docker ({reason})"
    return f"docker {result.argv[1]}: {reason}"
