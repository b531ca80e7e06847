"""The stack that is hurt: Postgres, Redis with its AOF on, a service between them; its backups, and a remote."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from stack_backup import arguments, point
from stack_backup.offsite import copy

from .disk import Disk

ROOT = Path(__file__).resolve().parents[2]
RCLONE = Path(sys.executable).with_name("rclone")
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


def until(true, seconds=30):
    """Poll; the last answer is given back."""
    end = time.monotonic() + seconds
    while not (answer := true()) and time.monotonic() < end:
        time.sleep(0.1)
    return answer


class Stack:
    """The running project, and what a job is told of it."""

    def __init__(self, folder):
        self.folder, self.disk = folder, Disk(folder)
        self.backups = self.disk.mount / "backups"
        self.kept, self.remote, self.config = folder / "kept", folder / "remote", folder / "config"
        self.temporary = folder / "tmp"
        self.project = f"stack-backup-faults-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}"
        for made in (self.remote, self.config, self.temporary):
            made.mkdir(mode=0o700)
        (folder / "compose.yml").write_text(COMPOSE)
        (self.config / "rclone.conf").write_text("[disk]\ntype = local\n")
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
        for place in (self.backups, self.remote):
            shutil.copytree(place, self.kept / place.name, symlinks=True)
        self.write("new")

    def offsite(self):
        return self.params("OFFSITE_COPY", remote=f"disk:{self.remote}", runner="host", config_dir=str(self.config))

    def reset(self):
        """Everything as ``prepare`` left it."""
        self.disk.empty()
        for place in (self.backups, self.remote):
            shutil.rmtree(place)
            shutil.copytree(self.kept / place.name, place, symlinks=True)
        os.sync()

    def recover(self, kind):
        """What an administrator does after a fault of the machine."""
        self.disk.empty()
        if kind == "power" and self.disk.crashed.exists():
            until(lambda: not self.sides(), 20)
            self.disk.come_back()

    def hands(self):
        """What a fault does to the world outside, as shell commands; each ends by itself."""
        sides = f"docker ps -q --filter label=stack-backup.dir={self.backups}"

        def crash(service):  # as a crash of its own: Docker's own kill would keep it from coming back
            return f"kill -9 $(docker inspect -f '{{{{.State.Pid}}}}' {self.name(service)})"

        def pause(service):
            name = self.name(service)
            return f"docker pause {name} && (sleep 3; docker unpause {name}) >/dev/null 2>&1 &"

        return {
            **self.disk.hands(),
            "side": f"for id in $({sides}); do docker kill $id; done",
            "postgres crashes": crash("postgres"),
            "redis crashes": crash("redis"),
            "postgres stalls": pause("postgres"),
            "redis stalls": pause("redis"),
        }


@contextmanager
def running(folder):
    """The stack, prepared; removed at the end by its exact names."""
    stack = Stack(folder)
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
    return {**clean, "PATH": f"{RCLONE.parent}:{clean['PATH']}", "TMPDIR": str(stack.temporary)}
