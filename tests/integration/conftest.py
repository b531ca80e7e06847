"""A Compose project with every version that is supported, made once, and removed by its exact name."""

import subprocess
import time

import pytest
from stack_backup import point, verify
from stack_backup.errors import BackupError

PROJECT = "stack-backup-test"
COMPOSE = """
services:
  pg15: &pg
    image: postgres:15
    environment: {POSTGRES_PASSWORD: secret, POSTGRES_DB: shop, POSTGRES_USER: owner}
  pg17: {<<: *pg, image: "postgres:17"}
  redis7: {image: "redis:7.0"}
  redis8:
    image: redis:8.0
    command: redis-server --appendonly yes --requirepass pw --save ""
    volumes: ["./pw:/run/pw:ro"]
  valkey8: {image: "valkey/valkey:8"}
  stopped: {image: "redis:7.0"}
  scaled: {image: "redis:7.0", deploy: {replicas: 2}}
"""
DATA = """
CREATE TABLE orders (id serial PRIMARY KEY, note text);
INSERT INTO orders (note) SELECT md5(i::text) FROM generate_series(1, 20000) i;
CREATE TABLE "odd ""name'" (x int); INSERT INTO "odd ""name'" VALUES (1), (2);
ALTER DATABASE shop SET work_mem = '7MB'; COMMENT ON DATABASE shop IS 'the shop''s';
"""


def sh(*argv, check=True, stdin=None, merge=False):
    result = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    assert not check or result.returncode == 0, f"{argv}: {result.stderr}"
    return result.stdout + (result.stderr if merge else "")


class Stack:
    """The project, and short ways into it."""

    def __init__(self, folder):
        self.folder = folder

    def name(self, service):
        return f"{PROJECT}-{service}-1"

    def compose(self, *args):
        return sh("docker", "compose", "--project-directory", str(self.folder), "-p", PROJECT, *args)

    def sql(self, service, sql, database="shop", user="owner"):
        return sh(
            "docker",
            "exec",
            "-i",
            self.name(service),
            "psql",
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            user,
            "-d",
            database,
            stdin=sql,
        ).strip()

    def redis(self, service, *args):
        cli = "valkey-cli" if service == "valkey8" else "redis-cli"
        env = ["-e", "REDISCLI_AUTH=pw"] if service == "redis8" else []
        return sh("docker", "exec", *env, self.name(service), cli, *args).strip()

    def take(self, backup_dir, stores, **options):
        params = {
            "stack": "test",
            "backup_dir": str(backup_dir),
            "project_dir": str(self.folder),
            "project_name": PROJECT,
        }
        return point.take({**params, "timeout": 120, "stores": stores, **options}, options.pop("check_mode", False))

    def fail(self, backup_dir, stores, **options):
        with pytest.raises(BackupError) as caught:
            self.take(backup_dir, stores, **options)
        return caught.value

    def verify(self, backup_dir, **options):
        return verify.verify({"backup_dir": str(backup_dir), "stack": "test", "timeout": 60, **options})

    def sides(self):
        return sh("docker", "ps", "-aq", "--filter", "label=stack-backup.dir").split()


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
        for service in ("pg15", "pg17"):
            for _ in range(120):
                probe = [
                    "docker",
                    "exec",
                    stack.name(service),
                    "psql",
                    "-h",
                    "127.0.0.1",
                    "-U",
                    "owner",
                    "-d",
                    "shop",
                    "-c",
                    "select 1",
                ]
                if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                    break
                time.sleep(0.5)
            stack.sql(service, DATA)
        for service in ("redis7", "redis8", "valkey8"):
            stack.redis(service, "mset", "a", "1", "b", "2")
            stack.redis(service, "xadd", "s", "1-1", "k", "v")
            stack.redis(service, "xgroup", "create", "s", "g", "0")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "1")


@pytest.fixture(autouse=True)
def nothing_is_left(request):
    yield
    if "stack" in request.fixturenames:
        assert request.getfixturevalue("stack").sides() == []
