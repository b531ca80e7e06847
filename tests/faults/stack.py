"""The stack that is hurt: Postgres, Redis with its AOF on, a service between them; its backups, and a remote."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

from stack_backup import arguments, point
from stack_backup.offsite import copy

from tests.integration.endpoints import RCLONE, s3
from tests.polling import until

from .disk import Disk
from .engine import own_engine

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = """
services:
  postgres:
    image: postgres:17
    restart: unless-stopped
    environment: {POSTGRES_PASSWORD: secret, POSTGRES_DB: shop, POSTGRES_USER: owner}
  redis:
    image: redis:8.0
    restart: unless-stopped
    command: redis-server --appendonly yes --save "" --repl-diskless-sync-delay 0
  app:
    image: postgres:17
    init: true
    restart: unless-stopped
    entrypoint: ["sleep", "infinity"]
    depends_on: [postgres, redis]
"""
STORES = [
    {"name": "redis", "engine": "redis", "service": "redis"},
    {"name": "postgres", "engine": "postgres", "service": "postgres"},
]


class Stack:
    """The running project, and what a job is told of it."""

    def __init__(self, folder, remote, engine=None):
        """``remote``: an S3 over the network; ``engine``: one that may be hurt too."""
        self.folder, self.disk, self.engine = folder, Disk(folder), engine
        self.root, self.port = remote.path("trading"), remote.options["endpoint"].rpartition(":")[2]
        self.remote = remote.folder / "trading"
        self.backups = self.disk.mount / "backups"
        self.kept, self.config = folder / "kept", folder / "config"
        self.temporary = folder / "tmp"
        self.project = f"stack-backup-faults-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}"
        for made in (self.remote, self.config, self.temporary):
            made.mkdir(mode=0o700)
        self.network = f"OUTPUT --out-interface lo --protocol tcp --dport {self.port} --jump"
        (folder / "compose.yml").write_text(COMPOSE)
        (self.config / "rclone.conf").write_text(remote.config)
        (self.config / "rclone.conf").chmod(0o600)

    def docker(self, *args, check=True):
        result = subprocess.run(["docker", *args], capture_output=True, text=True, check=False)
        assert not check or result.returncode == 0, f"docker {args}: {result.stderr}"
        return result.stdout.strip()

    def compose(self, *args):
        return self.docker("compose", "--project-directory", str(self.folder), "-p", self.project, *args)

    def name(self, service):
        return f"{self.project}-{service}-1"

    def sql(self, sql, database="shop"):
        argv = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "owner", "-d", database, "-c", sql]
        return self.docker("exec", self.name("postgres"), *argv, check=False)

    def redis(self, *args):
        return self.docker("exec", self.name("redis"), "redis-cli", *args, check=False)

    def answers(self):
        return self.sql("select 1") == "1" and self.redis("ping") == "PONG"

    def write(self, mark):
        """Data of one age in both stores; reading gives it back."""
        self.sql(f"delete from marks; insert into marks select '{mark}' from generate_series(1, 500)")
        self.redis("set", "mark", mark)

    def marks(self):
        """What each store holds; two of the same age are one."""
        return {self.sql("select min(x) || ' ' || max(x) || ' ' || count(*) from marks"), self.redis("get", "mark")}

    def holds(self, mark):
        return self.marks() == {f"{mark} {mark} 500", mark}

    def up(self):
        self.disk.make()
        self.backups.mkdir(mode=0o700)
        self.compose("down", "--volumes", "--timeout", "1")
        self.compose("up", "--detach", "--pull", "never")
        assert until(self.answers, 60)
        until(lambda: self.sql("create table marks (x text); select 'made'") == "made", 20)

    def down(self):
        for name in self.states():
            self.docker("unpause", name, check=False)
        self.docker("compose", "-p", self.project, "down", "--volumes", "--timeout", "1", check=False)
        self.disk.unmount()

    def states(self):
        lines = self.docker(
            *("ps", "--all", "--filter", f"label=com.docker.compose.project={self.project}"),
            *("--format", "{{.Names}} {{.State}}"),
        )
        return dict(line.split() for line in lines.splitlines())

    def sides(self):
        return self.docker("ps", "--all", "--quiet", "--filter", f"label=stack-backup.dir={self.backups}").split()

    def databases(self):
        return self.sql("select string_agg(datname, ' ' order by datname) from pg_database", "postgres")

    def volumes(self):
        return set(self.docker("volume", "ls", "--quiet", "--filter", "dangling=true").split())

    # --- jobs --------------------------------------------------------------------------------------------------------

    def params(self, spec, **given):
        params = {name: option.get("default") for name, option in getattr(arguments, spec).items()}
        params.update(stack="shop", backup_dir=str(self.backups), timeout=180.0)
        if "stores" in params:
            params.update(stores=STORES, project_dir=str(self.folder), project_name=self.project)
        return {**params, **given}

    def prepare(self):
        """Backups of another age than the live data: three points, the oldest of them at the remote already."""
        for mark in ("older", "old", "old"):
            self.write(mark)
            point.take(self.params("RECOVERY_POINT"))
            if mark == "older":
                copy.copy(self.offsite())
        for place, kept in self.places():
            shutil.copytree(place, kept, symlinks=True)
        self.write("new")

    def places(self):
        return (self.backups, self.kept / "backups"), (self.remote, self.kept / "remote")

    def offsite(self, spec="OFFSITE_COPY", **given):
        given.update(remote=self.root, runner="host", config_dir=str(self.config), retries=1)
        return self.params(spec, **given)

    def oldest(self):
        """The recovery point that is at the remote."""
        return min(path.stem for path in (self.kept / "remote/redis").glob("*.json")).removeprefix("redis-")

    def lose(self, point):
        """A recovery point is not on this disk any more."""
        for path in self.backups.glob(f"*/*-{point}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def reset(self):
        """Everything as ``prepare`` left it."""
        self.disk.empty()
        for place, kept in self.places():
            shutil.rmtree(place)
            shutil.copytree(kept, place, symlinks=True)
        os.sync()

    def recover(self, kind):
        """What an administrator does after a fault of the machine."""
        self.disk.empty()
        for rule in self.refusals():
            subprocess.run(
                ["sh", "-c", f"while iptables --delete {rule}; do :; done"], capture_output=True, check=False
            )
        if self.engine:
            until(self.engine.answers, 120, pause=0.5)
        if kind == "dockerd crashes":  # Docker 20.10 takes what it stops at its next start for stopped by hand
            self.compose("start")
        if kind == "power" and self.disk.crashed.exists():
            until(lambda: not self.sides(), 20)
            self.disk.come_back()

    def refusals(self):
        """Rules of the kernel's that keep the remote from being reached: at once, or without a word."""
        return f"{self.network} REJECT", f"{self.network} DROP"

    def hands(self):
        """What a fault does to the world outside, as shell commands; each ends by itself."""
        sides = f"docker ps -q --filter label=stack-backup.dir={self.backups}"

        def crash(service):  # as a crash of its own: Docker's own kill would keep it from coming back
            return f"kill -9 $(docker inspect -f '{{{{.State.Pid}}}}' {self.name(service)})"

        def pause(service):
            name = self.name(service)
            return f"docker pause {name} && (sleep 3; docker unpause {name}) >/dev/null 2>&1 &"

        lost, silent = (f"iptables --insert {rule}" for rule in self.refusals())
        return {
            **self.disk.hands(),
            **(self.engine.hands() if self.engine else {}),
            "network lost": lost,
            "network silent": f"{silent}; (sleep 20; iptables --delete {self.network} DROP) >/dev/null 2>&1 &",
            "side": f"for id in $({sides}); do docker kill $id; done",
            "postgres crashes": crash("postgres"),
            "redis crashes": crash("redis"),
            "postgres stalls": pause("postgres"),
            "redis stalls": pause("redis"),
        }


@contextmanager
def running(folder, *, engine=False):
    """The stack, prepared; removed at the end by its exact names. ``engine``: on a Docker engine of its own."""
    with ExitStack() as around:
        remote = around.enter_context(s3(folder / "s3"))
        stack = Stack(folder, remote, around.enter_context(own_engine()) if engine else None)
        try:
            stack.up()
            stack.prepare()
            yield stack
        finally:
            stack.down()


def run(stack, job, fault=None, timeout=240):
    """A job in a process of its own: its outcome, or None when it was killed."""
    function, params = job
    task = {"function": function, "params": params, "fault": fault, "hands": stack.hands()}
    task["folders"] = [str(stack.backups), str(stack.remote), str(stack.temporary)]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("inside.py"))],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=timeout,
        env=_environment(stack),
        check=False,
    )
    if done.returncode < 0:
        return None
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def _environment(stack):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RCLONE_", "AWS_"))}
    return {**clean, "PATH": f"{Path(RCLONE).parent}:{clean['PATH']}", "TMPDIR": str(stack.temporary)}
