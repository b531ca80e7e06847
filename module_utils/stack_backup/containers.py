"""Finds the containers of a stack, enters them, and starts throw-away ones beside them."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from . import content
from .errors import BackupError
from .kinds import mapping, text
from .limits import Limits, disk_of
from .process import Deadline, Guard, Readable, Result, Session, run
from .stores import Store

__all__ = ["LIFELINE", "MORTAL", "MOUNT", "Container", "Docker", "Project", "SideContainer", "choose"]

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
# In a throw-away server's container the shell is process 1: when standard input ends, we are gone, the shell ends,
# and with it all.
MORTAL = (
    'exec 3<&0; "$@" </dev/null >&2 & p=$!; trap "exit 1" USR1; '
    "(while read -r x; do :; done <&3; kill -USR1 $$) >/dev/null 2>&1 & s=0; wait $p || s=$?; exit $s"
)
# `docker compose` goes on when we die, and is two programs, the first of which may leave the second behind: when
# standard input ends, their whole process group does.
_TIED = (
    "exec 3<&0; (while read -r x; do :; done <&3; kill -KILL 0) >/dev/null 2>&1 & w=$!; "
    '"$@" </dev/null 3<&-; s=$?; kill $w; wait $w 2>/dev/null; exit $s'
)

_FREEZES = 3
_PROCESSES = "1024"  # of a throw-away container: what a dump brings along may start others without end
_ODD = "see that the docker command is Docker's own"


class _NotFrozen(BackupError):
    """The kernel's freezer gave up on a container."""


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
    writable: tuple[str, ...]  # what it may write to: names of volumes, absolute paths of the host
    project: str
    service: str
    restart_policy: str
    health: str  # of the container's own check: healthy, unhealthy, starting; empty without one
    started: str
    exit_code: int

    @property
    def finished(self) -> bool:
        """Whether it was a task that came to its good end."""
        return self.state == "exited" and self.exit_code == 0 and self.restart_policy in ("no", "on-failure")

    def changed(self, now: Optional[Container]) -> str:
        """What became of a running container since, and the cure; empty when it runs on."""
        if now is None:
            return f"container {self.name} was removed meanwhile"
        if now.state != "running":
            return f"container {self.name} is {now.state} meanwhile: {now.cure()}"
        if now.started != self.started:
            return f"container {self.name} was restarted meanwhile: see why: docker logs {self.name}"
        return ""

    def cure(self) -> str:
        """What makes it run."""
        cures = {"paused": "docker unpause", "restarting": "see why: docker logs"}
        return f"{cures.get(self.state, 'docker start')} {self.name}"


@dataclass(frozen=True)
class Project:
    """Where the Compose project is. ``name`` overrides what the files and the environment say."""

    directory: Optional[str] = None
    files: Sequence[str] = ()
    name: Optional[str] = None

    def compose(self) -> list[str]:
        """``compose`` of this project, for docker."""
        directory = self.directory or ""
        argv = ["compose", "--project-directory", directory]
        if self.name:
            argv += ["--project-name", self.name]
        for file in self.files:
            argv += ["--file", str(Path(directory) / file)]
        return argv


class Docker:
    """The docker command, for one job."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.limits: Optional[Limits] = None  # of its throw-away containers

    def limit(self, folder: Path, *, cpus: Optional[float], memory: Optional[str], io: Optional[str]) -> None:
        """Limit the throw-away containers from now on; ``folder`` is where they write. Raises BackupError."""
        if not io:
            self.limits = Limits(cpus, memory)
            return
        version, _, warnings = self.call("info", "--format", "{{.CgroupVersion}} {{json .Warnings}}").out.partition(" ")
        if version != "2" or "wbps" in warnings:  # there docker would drop the limit with a warning
            raise BackupError(
                f"backup_io is {io}, but this host (cgroup v{version}) limits no buffered writes: that needs cgroup v2 and "
                "its io controller; leave it empty, backup_cpus slows a dump down too"
            )
        self.limits = Limits(cpus, memory, io, disk_of(folder))

    def call(self, *args: str, stdin: Optional[str] = None, check: bool = True, at_most: float = 120) -> Result:
        """Run ``docker ARGS``. Raises BackupError with the client's own words when ``check``."""
        result = run(["docker", *args], deadline=self.deadline, stdin=stdin, at_most=at_most)
        if check and result.code:
            raise BackupError(_cure(result))
        return result

    def image_id(self, image: str) -> str:
        """The id of an image; empty where it is not on this host. Raises BackupError where that can't be told."""
        result = self.call("image", "inspect", image, "--format", "{{.Id}}", check=False)
        if result.code and "No such image" not in result.err:
            raise BackupError(_cure(result))
        return "" if result.code else result.out.strip()

    def told(self, *args: str) -> Any:
        """The JSON that ``docker ARGS`` prints. Raises BackupError."""
        result = self.call(*args)
        try:
            return content.parse(result.out)
        except ValueError as error:
            raise BackupError(f"docker {args[0]} does not answer in JSON: {error}: {_ODD}") from None

    def project_config(self, project: Project) -> dict[str, Any]:
        """The Compose project, as ``docker compose config`` tells of it; its services by their names."""
        if not project.directory:
            raise BackupError(
                "a store names a service but stack_project_dir is not set: it is the folder that holds compose.yml"
            )
        if not os.path.isdir(project.directory):  # noqa: PTH112 - Path.is_dir raises where a parent can't be entered
            raise BackupError(
                f"the project folder {project.directory} is missing, or not to be seen by uid {os.getuid()}: "
                "set stack_project_dir to the folder that holds compose.yml"
            )
        try:
            config = self.told(*project.compose(), "config", "--format", "json")
        except BackupError as error:
            if "no configuration file provided" not in str(error):
                raise
            raise BackupError(
                f"the project folder {project.directory} holds no compose.yml: set stack_project_dir to the folder that "
                f"does, or stack_compose_files ({error})"
            ) from None
        services: Any = (config.get("services") or {}) if mapping(config) else None
        if not isinstance(services, dict) or not text(config.get("name")):
            raise BackupError("docker compose config tells of no project: this program needs Docker Compose v2")
        services = {name: item if mapping(item) else {} for name, item in sorted(services.items())}
        return {**config, "services": services}

    def up(self, project: Project, services: Sequence[str]) -> None:
        """``docker compose up`` of these services alone, in the order of their ``depends_on``. It ends with us."""
        argv = ["docker", *project.compose(), "up", "--detach", "--no-deps", "--quiet-pull", *services]
        result = run(["sh", "-c", _TIED, "sh", *argv], deadline=self.deadline, hold_stdin=True)
        if result.code:
            raise BackupError(f"docker compose up {' '.join(services)}: {result.reason()}")

    def inspect(self, ids: Sequence[str]) -> list[Container]:
        """What the named containers are; those that do not exist are left out."""
        if not ids:
            return []
        result = self.call("container", "inspect", *ids, check=False)
        if result.code and "No such container" not in result.err:
            raise BackupError(_cure(result))
        try:
            return [_container(item) for item in content.parse(result.out or "[]")]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackupError(
                f"docker container inspect tells of no container: {type(error).__name__} {error}: {_ODD}"
            ) from None

    def find(self, project_name: str, services: Sequence[str], names: Sequence[str] = ()) -> list[Container]:
        """All containers of some services of a project, running or not, and those of the given names."""
        ids = []
        if services:
            listed = self.call(
                *("ps", "--all", "--no-trunc", "--format", '{{.ID}} {{.Label "com.docker.compose.service"}}'),
                *("--filter", f"label=com.docker.compose.project={project_name}"),
                *("--filter", "label=com.docker.compose.oneoff=False"),
            ).out.splitlines()
            ids = [
                container for container, _, service in (line.partition(" ") for line in listed) if service in services
            ]
        return list({item.id: item for item in self.inspect([*ids, *names])}.values())

    def locate(
        self, stores: Sequence[Store], project: Project, quiesce: Sequence[str]
    ) -> tuple[dict[str, Any], list[Container]]:
        """For each store its Container or the BackupError that says why not; and the containers to pause."""
        name = ""
        services: list[str] = []
        wanted = [*quiesce, *(store.service for store in stores if store.service)]
        if wanted:
            config = self.project_config(project)
            name, services = str(config["name"]), list(config["services"])
        for service in quiesce:
            if service not in services:
                raise BackupError(
                    f"backup_quiesce names {service}, which is no service of project {name}: {', '.join(services)}"
                )
        containers = self.find(name, wanted, [store.container for store in stores if store.container])
        found: dict[str, Any] = {}
        for store in stores:
            try:
                found[store.name] = choose(store, containers, name, services)
            except BackupError as error:
                found[store.name] = error
        pause = [
            item for item in containers if item.project == name and item.service in quiesce and item.state == "running"
        ]
        for store in stores:
            if found[store.name] in pause:
                raise BackupError(
                    f"backup_quiesce names {found[store.name].service}, which holds store {store.name}: "
                    "a paused database gives no backup, name only services that use it"
                )
        return found, pause

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
        """Pause containers; releasing the guard, or our death, unpauses them.

        On cgroup v1 the freezer's success is a game of chances when processes start meanwhile, a health check's for
        one (https://github.com/opencontainers/runc/pull/2791): what could not be frozen is tried again.
        """
        for _ in range(_FREEZES - 1):
            try:
                return self._pause(containers, seconds)
            except _NotFrozen:
                pass
        return self._pause(containers, seconds)

    def _pause(self, containers: Sequence[Container], seconds: int) -> Guard:
        ids = [item.id for item in containers]
        guard = Guard(["docker", "unpause", *ids], seconds=seconds)
        try:
            result = run(["docker", "pause", *ids], deadline=self.deadline, at_most=seconds, holds=[guard.lifeline])
            if result.code:
                kind = _NotFrozen if "unable to freeze" in result.reason() else BackupError
                raise kind(f"backup_quiesce: {_cure(result)}")
        except BaseException:
            guard.release()
            raise
        return guard

    def unpause(self, guard: Guard, containers: Sequence[Container]) -> None:
        """Release the guard and see that the containers do run, also past the deadline."""
        if guard.release():
            docker = Docker(Deadline(30))
            for item in docker.inspect([item.id for item in containers]):
                if item.state == "paused":
                    docker.call("unpause", item.id)

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
        volumes_writable: bool = False,
        data: Optional[str] = None,
        user: Optional[str] = None,
        capabilities: Sequence[str] = (),
        writable: bool = False,
        memory: Optional[str] = None,
        environment: Optional[Mapping[str, str]] = None,
    ) -> None:
        self.docker = docker
        self.name = f"stack-backup-{store}-{secrets.token_hex(4)}"
        if read_only and not user and os.getuid() == 0:
            capabilities = [*capabilities, "DAC_OVERRIDE"]  # root also reads what another user's job wrote
        self._options = [
            *("--rm", "--interactive", "--name", self.name, "--label", f"{LABEL}={backup_dir}", "--network", network),
            *(() if writable else ("--read-only",)),
            *(
                "--cap-drop",
                "ALL",
                "--security-opt",
                "no-new-privileges",
                "--security-opt",
                "label=disable",
                "--pids-limit",
                _PROCESSES,
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
            *(docker.limits.options() if docker.limits else ()),
            *(("--memory", memory) if memory else ()),
            *(arg for name, value in (environment or {}).items() for arg in ("--env", f"{name}={value}")),
        ]
        if folder is not None:
            # --mount takes one CSV record: quotes keep a comma in the folder's name.
            source = str(folder).replace('"', '""')
            self._options += [
                "--mount",
                f'type=bind,"source={source}",target={MOUNT}{",readonly" if read_only else ""}',
            ]
        if data:
            self._options += ["--volume", data]  # a volume of its own, removed with it
        if volumes_from:
            self._options += ["--volumes-from", volumes_from if volumes_writable else f"{volumes_from}:ro"]
        self._image = image

    def argv(self, program: Sequence[str]) -> list[str]:
        """``docker run`` of a program in it."""
        return ["docker", "run", *self._options, "--entrypoint", program[0], self._image, *program[1:]]

    def run(self, program: Sequence[str], feed: Optional[Readable] = None) -> Result:
        """Run a program to its end; the container ends with it, or with us. ``feed``: its standard input."""
        held = ["sh", "-c", LIFELINE, "sh"] if feed is None else []
        try:
            return run(self.argv([*held, *program]), deadline=self.docker.deadline, feed=feed, hold_stdin=feed is None)
        except BackupError:
            self.remove()
            raise

    def session(self, program: Sequence[str]) -> Session:
        """Open a program in it; ``exec`` of others goes by ``name`` while it is open."""
        return Session(self.argv(program), deadline=self.docker.deadline)

    def remove(self) -> None:
        """Remove it by force, also past the deadline."""
        run(["docker", "rm", "--force", "--volumes", self.name], deadline=Deadline(30))


def choose(
    store: Store, containers: Sequence[Container], project: str, services: Sequence[str], *, running: bool = True
) -> Container:
    """The one container of a store among those that were found; BackupError says why there is none.

    ``running=False`` takes a stopped one too.
    """
    if store.container:
        mine = [item for item in containers if item.name == store.container]
        mine = mine or [item for item in containers if item.id.startswith(store.container)]
        cure = f"docker start {store.container}"
    else:
        service = store.service or ""
        if service not in services:
            raise BackupError(
                f"store {store.name}: project {project} has no service {service}: it has {', '.join(services)}"
            )
        mine = [item for item in containers if (item.project, item.service) == (project, service)]
        cure = f"docker compose up -d {service}"
    if not mine:
        raise BackupError(f"store {store.name}: {store.where} has no container: {cure}")
    fit = [item for item in mine if item.state == "running" or not running]
    if len(fit) > 1:
        names = ", ".join(item.name for item in fit)
        raise BackupError(
            f"store {store.name}: {store.where} is scaled to {len(fit)} ({names}): name one of them with container:"
        )
    if not fit:
        if mine[0].state in ("paused", "restarting"):
            cure = mine[0].cure()
        raise BackupError(f"store {store.name}: {store.where} is {mine[0].state}, not running: {cure}")
    return fit[0]


def _container(item: dict[str, Any]) -> Container:
    labels = item["Config"].get("Labels") or {}
    env = dict(entry.split("=", 1) for entry in item["Config"].get("Env") or [] if "=" in entry)
    mounts = item.get("Mounts") or []
    return Container(
        id=item["Id"],
        name=item["Name"].lstrip("/"),
        image=item["Config"]["Image"],
        image_id=item["Image"],
        state="restarting" if item["State"].get("Restarting") else item["State"]["Status"],
        env=env,
        mounts=tuple(mount["Destination"] for mount in mounts),
        writable=tuple(
            mount.get("Name") or mount["Source"] for mount in mounts if mount["RW"] and mount["Type"] != "tmpfs"
        ),
        project=labels.get("com.docker.compose.project", ""),
        service=labels.get("com.docker.compose.service", ""),
        restart_policy=item["HostConfig"]["RestartPolicy"]["Name"],
        health=(item["State"].get("Health") or {}).get("Status", "").replace("none", ""),
        started=item["State"]["StartedAt"],
        exit_code=item["State"]["ExitCode"],
    )


def _cure(result: Result) -> str:
    reason = result.reason()
    if "Cannot connect to the Docker daemon" in reason or "Is the docker daemon running" in reason:
        return f"no Docker engine answers: start it (systemctl start docker) ({reason})"
    if "permission denied" in reason.lower() and "docker" in reason.lower():
        return f"this user may not talk to the Docker engine: run as root or join the group docker ({reason})"
    return f"docker {result.argv[1]}: {reason}"
