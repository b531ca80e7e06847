"""The example stack as tests use it: a project of this checkout's own, on ports of its own."""

import contextlib
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import urllib.request

import yaml
from conftest import PROJECT, ROOT, sh, until
from stack_backup import arguments, drill, point, restore

NAME = f"{PROJECT}-trading"
PORT = 20000 + int(PROJECT[-6:], 16) % 4500 * 6  # and the next two, for the agents; a second stack has the next three
RATE = 400
STORES = [
    {"name": "redis", "engine": "redis", "service": "redis", "password_file": "/run/secrets/redis_password"},
    {"name": "postgres", "engine": "postgres", "service": "postgres"},
]


def health_checks(port):
    return [
        {"url": f"http://127.0.0.1:{port}/health", "json": {"db": "ok", "redis": "ok"}},
        {"url": f"http://127.0.0.1:{port + 1}/health", "json": {"redis": "ok"}},
    ]


HEALTH = health_checks(PORT)
SMOKE = [
    {"store": "postgres", "sql": "select count(*) from position_differences", "expect": "0"},
    {"store": "redis", "command": "EXISTS orders", "expect": "1"},
]


class Trading:
    """The running stack, and short ways into it."""

    def __init__(self, folder, name, port):
        self.folder, self.name, self.port = folder, name, port  # the folder is a copy of examples/trading

    def compose(self, *args):
        return sh("docker", "compose", "--project-directory", str(self.folder), "-p", self.name, *args)

    def up(self):
        environment = {
            "ORCHESTRATOR_PORT": self.port,
            "AGENT_PORTS": f"{self.port + 1}-{self.port + 2}",
            "ORDERS_PER_SECOND": RATE,
            "HEALTH_INTERVAL": "1s",
        }
        (self.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
        subprocess.run(
            [self.folder / "prepare.sh"], env={**os.environ, "PYTHON": sys.executable}, check=True, capture_output=True
        )
        self.down()  # what a run that was killed has left: other passwords
        self.compose("up", "--detach", "--build", "--wait", "--quiet-pull")

    def rest(self):
        """Take no processor time until ``wake``."""
        for name, state in self.states().items():
            if state == "running":  # the freezer may give up on one that starts processes just now
                assert until(lambda name=name: "unable to freeze" not in self._pause(name), 10)

    def _pause(self, name):
        return sh("docker", "pause", f"{self.name}-{name}", check=False, merge=True)

    def wake(self):
        """Run, all of it, and be healthy."""
        self._unpause()
        # Whose health was asked for while it was paused is unhealthy at first, and Compose would not wait for more.
        until(lambda: "unhealthy" not in sh("docker", "ps", "--filter", f"name=^{self.name}-"), 60)
        self.compose("up", "--detach", "--wait")

    def _unpause(self):
        for name, state in self.states().items():
            if state == "paused":
                sh("docker", "unpause", f"{self.name}-{name}")

    def down(self):
        self._unpause()
        self.compose("down", "--volumes", "--rmi", "local", "--timeout", "1")

    def sql(self, sql, database="trading", check=True):
        program = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "trading", "-d", database]
        return sh("docker", "exec", "-i", f"{self.name}-postgres-1", *program, stdin=sql, check=check).strip()

    def redis(self, *args):
        password = (self.folder / "secrets" / "redis_password").read_text()
        return sh(
            "docker", "exec", "-e", f"REDISCLI_AUTH={password}", f"{self.name}-redis-1", "redis-cli", *args
        ).strip()

    def health(self, number=0):
        """What the orchestrator says, or an agent (1, 2)."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port + number}/health", timeout=20) as answer:
                return json.load(answer)
        except OSError as error:
            return str(error)

    def containers(self):
        """Name → (state, when it was started)."""
        listed = sh("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={self.name}").split()
        shown = json.loads(sh("docker", "inspect", *listed)) if listed else []
        return {item["Name"].strip("/"): (item["State"]["Status"], item["State"]["StartedAt"]) for item in shown}

    def states(self):
        return {name.removeprefix(f"{self.name}-"): state for name, (state, _) in self.containers().items()}

    def databases(self):
        return self.sql("select datname from pg_database where not datistemplate order by 1", "postgres").split()

    def _params(self, spec, backup_dir, given):
        params = {name: option.get("default") for name, option in spec.items()}
        params.update(stack="trading", backup_dir=str(backup_dir), project_dir=str(self.folder), project_name=self.name)
        return {**params, "stores": STORES, "timeout": 300, **given}

    def take(self, backup_dir, **given):
        return point.take(self._params(arguments.RECOVERY_POINT, backup_dir, given))

    def drill(self, backup_dir, **given):
        params = {name: option.get("default") for name, option in arguments.BACKUP_DRILL.items()}
        params.update(stack="trading", backup_dir=str(backup_dir), smoke_queries=SMOKE)
        return drill.drill({**params, **given})

    def restore_params(self, backup_dir, **given):
        usual = {
            "confirm": "trading",
            "health_checks": health_checks(self.port),
            "health_timeout": 60,
            "smoke_queries": SMOKE,
        }
        return self._params(arguments.STACK_RESTORE, backup_dir, {**usual, **given})

    def restore(self, backup_dir, check_mode=False, **given):
        return restore.restore(self.restore_params(backup_dir, **given), check_mode)

    def play(self, backups, *args, playbook="restore", **variables):
        """The exit status of a playbook, and what it said."""
        argv, env = self._command(backups, *args, playbook=playbook, **variables)
        result = subprocess.run(
            argv, cwd=ROOT, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        return result.returncode, result.stdout + result.stderr

    def answer(self, backups, name):
        """As ``play`` of a restore, on a terminal where a person types ``name`` when asked."""
        argv, env = self._command(backups, playbook="restore")
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(ROOT)
            os.execvpe(argv[0], argv, env)
        said = b""
        with os.fdopen(terminal, "r+b", buffering=0) as file, contextlib.suppress(OSError):  # its end
            while True:
                # Once it has asked, Ansible throws away what was typed before.
                if b"Type the name of the stack" in said and not select.select([file], [], [], 1)[0]:
                    file.write(f"{name}\r".encode())
                said += file.read(4096)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.decode()

    def _command(self, backups, *args, playbook, **variables):
        """A playbook's command line and environment."""
        told = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "stack_project_dir": str(self.folder),
            "stack_project_name": self.name,
            "stack_backup_dir": str(backups),
            "stack_stores": STORES,
            "stack_health_checks": health_checks(self.port),
            "stack_smoke_queries": SMOKE,
        }
        path = backups.parent / "hosts.yml"
        path.write_text(yaml.safe_dump({"stacks": {"hosts": {"trading": {}}, "vars": {**told, **variables}}}))
        home = {"ANSIBLE_HOME": str(backups.parent / "ansible"), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        return ["ansible-playbook", "-i", str(path), f"playbooks/{playbook}.yml", *args], {**os.environ, **home}


def start(folder, name=NAME, port=PORT):
    """A copy of the example, so that the checkout's own secrets and wheels stay as they are."""
    example = ROOT / "examples" / "trading"
    shutil.copytree(example, folder, ignore=shutil.ignore_patterns("secrets", "backups"))
    trading = Trading(folder, name, port)
    trading.up()
    return trading
