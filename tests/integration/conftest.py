"""A Compose project with every version that is supported, made once, and removed by its exact name."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stack_backup import point, verify
from stack_backup.errors import BackupError

from tests.polling import until

# A checkout's and a worker's own: others may test beside it.
OWN = f"{Path(__file__).parent}{os.environ.get('PYTEST_XDIST_WORKER', '')}"
PROJECT = f"stack-backup-test-{hashlib.sha256(OWN.encode()).hexdigest()[:6]}"
COMPOSE = """
services:
  pg15: &pg
    image: postgres:15
    environment: {POSTGRES_PASSWORD: secret, POSTGRES_DB: shop, POSTGRES_USER: owner}
  pg17: {<<: *pg, image: "postgres:17"}
  pg18: {<<: *pg, image: "postgres:18"}
  redis7: {image: "redis:7.0", volumes: ["/data"]}
  redis8:
    image: redis:8.0
    command: redis-server --appendonly yes --requirepass pw --save ""
    volumes: ["./pw:/run/pw:ro", "/data"]
  valkey8: {image: "valkey/valkey:8", volumes: ["/data"]}
  stopped: {image: "redis:7.0"}
  scaled: {image: "redis:7.0", deploy: {replicas: 2}}
"""
DATA = """
CREATE TABLE orders (id serial PRIMARY KEY, note text);
INSERT INTO orders (note) SELECT md5(i::text) FROM generate_series(1, 20000) i;
CREATE TABLE "odd ""name'" (x int); INSERT INTO "odd ""name'" VALUES (1), (2);
ALTER DATABASE shop SET work_mem = '7MB'; COMMENT ON DATABASE shop IS 'the shop''s';
"""


ROOT = Path(__file__).resolve().parents[2]


def job(params, patch="", python=sys.executable, **options):
    """A recovery point in a process of its own; ``patch`` is run before it, with ``point`` imported."""
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'module_utils')!r})\n"
        f"from stack_backup import point, redis\nfrom stack_backup.errors import BackupError\n{patch}\n"
        f"try:\n point.take({params!r})\nexcept BackupError as error:\n sys.exit(str(error))\n"
    )
    return subprocess.Popen([python, "-c", program], stderr=subprocess.PIPE, text=True, **options)


def sh(*argv, check=True, stdin=None, merge=False):
    result = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    assert not check or result.returncode == 0, f"{argv}: {result.stderr}"
    return result.stdout + (result.stderr if merge else "")


def shim(program, folder, monkeypatch, script):
    """Another program of this name before the real one, REAL, on PATH."""
    real = shutil.which(program)
    folder.mkdir()
    path = folder / program
    path.write_text(f"#!/bin/sh\n{script.replace('REAL', real)}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


class Stack:
    """The project, and short ways into it."""

    def __init__(self, folder):
        self.folder = folder

    def name(self, service):
        return f"{PROJECT}-{service}-1"

    def compose(self, *args):
        return sh("docker", "compose", "--project-directory", str(self.folder), "-p", PROJECT, *args)

    def sql(self, service, sql, database="shop"):
        return self.psql(self.name(service), sql, database)

    def psql(self, container, sql, database="shop"):
        psql = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "owner", "-d", database]
        return sh("docker", "exec", "-i", "-e", "PGPASSWORD=secret", container, *psql, stdin=sql).strip()

    def redis(self, service, *args):
        cli = "valkey-cli" if service == "valkey8" else "redis-cli"
        env = ["-e", "REDISCLI_AUTH=pw"] if service == "redis8" else []
        return sh("docker", "exec", *env, self.name(service), cli, *args).strip()

    def state(self, container):
        return sh("docker", "inspect", "--format", "{{.State.Status}}", container).strip()

    def params(self, backup_dir, stores, **options):
        project = {"project_dir": str(self.folder), "project_name": PROJECT}
        return {"stack": "test", "backup_dir": str(backup_dir), **project, "timeout": 120, "stores": stores, **options}

    def take(self, backup_dir, stores, **options):
        check_mode = options.pop("check_mode", False)
        return point.take(self.params(backup_dir, stores, **options), check_mode)

    def fail(self, backup_dir, stores, **options):
        with pytest.raises(BackupError) as caught:
            self.take(backup_dir, stores, **options)
        return caught.value

    def verify(self, backup_dir, **options):
        return verify.verify({"backup_dir": str(backup_dir), "stack": "test", "timeout": 60, **options})

    def sides(self):
        """Throw-away containers of this test run's backup folders."""
        lines = sh(
            "docker",
            "ps",
            "-a",
            "--filter",
            "label=stack-backup.dir",
            "--format",
            '{{.ID}} {{.Label "stack-backup.dir"}}',
        )
        return [line.split()[0] for line in lines.splitlines() if line.split()[1].startswith(str(self.folder.parent))]


def answers(container):
    """Whether Postgres takes TCP: during its first start it has the socket only."""
    psql = ["psql", "-h", "127.0.0.1", "-U", "owner", "-d", "shop", "-c", "select 1"]
    argv = ["docker", "exec", "-e", "PGPASSWORD=secret", container, *psql]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


PG = {"name": "postgres", "engine": "postgres", "service": "pg17"}
REDIS = {"name": "redis", "engine": "redis", "service": "redis8", "password_file": "/run/pw"}


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "compose.yml").write_text(COMPOSE)
    (folder / "pw").write_text("pw\n")
    stack = Stack(folder)
    stack.compose("down", "--volumes", "--timeout", "1")
    stack.compose("up", "--detach")
    try:
        stack.compose("stop", "--timeout", "1", "stopped")
        for service in ("pg15", "pg17", "pg18"):
            assert until(lambda service=service: answers(stack.name(service)))
            stack.sql(service, DATA)
        for service in ("redis7", "redis8", "valkey8"):
            stack.redis(service, "mset", "a", "1", "b", "2")
            stack.redis(service, "xadd", "s", "1-1", "k", "v")
            stack.redis(service, "xgroup", "create", "s", "g", "0")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "1")


LONE = f"{PROJECT}-lone"


@pytest.fixture(scope="session")
def lone(stack):
    """A Postgres in no project, that asks every client for its password. Tests may kill it: it comes back."""
    argv = ["docker", "run", "--detach", "--name", LONE, "--restart", "unless-stopped"]
    argv += ["--env", "POSTGRES_PASSWORD=secret", "--env", "POSTGRES_USER=owner", "--env", "POSTGRES_DB=shop"]
    sh("docker", "rm", "-fv", LONE)
    sh(*argv, "--env", "POSTGRES_INITDB_ARGS=--auth=scram-sha-256", "postgres:17")
    try:
        assert until(lambda: answers(LONE))
        stack.psql(LONE, DATA)
        yield LONE
    finally:
        sh("docker", "rm", "-fv", LONE)


@pytest.fixture(autouse=True)
def nothing_is_left(request):
    yield
    if "stack" in request.fixturenames:
        assert request.getfixturevalue("stack").sides() == []


@pytest.fixture(scope="session")
def example(tmp_path_factory):
    """The example stack, made once."""
    import trading

    stack = trading.start(tmp_path_factory.mktemp("trading") / "stack")
    yield stack
    stack.down()


@pytest.fixture(scope="module")
def trading(example):
    """The example stack under traffic, which rests while other modules are tested."""
    example.wake()
    yield example
    example.rest()


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """rclone's own S3 server, as a remote for offsite copies."""
    import endpoints

    with endpoints.s3(tmp_path_factory.mktemp("s3")) as remote:
        yield remote


@pytest.fixture(scope="module", params=["s3", "moto", "gcs", "sftp", "local"])
def remote(request, tmp_path_factory):
    """A remote of each kind, for offsite copies."""
    import endpoints

    folder = {"folder": tmp_path_factory.mktemp("remote")} if request.param in ("s3", "sftp", "local") else {}
    with getattr(endpoints, request.param)(**folder) as remote:
        yield remote


@pytest.fixture
def own_rclone(monkeypatch):
    """The rclone of the tests for the jobs too, and nothing that it would take from the environment."""
    import endpoints

    monkeypatch.setenv("PATH", f"{Path(endpoints.RCLONE).parent}:{os.environ['PATH']}")
    for name in [name for name in os.environ if name.startswith(("RCLONE_", "AWS_"))]:
        monkeypatch.delenv(name)
