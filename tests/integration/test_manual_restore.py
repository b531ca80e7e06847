"""The manual way back: what ``stack-backup restore-help`` prints is run by sh, and the databases are asked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT, ROOT, sh, until

NAME = f"{PROJECT}-manual"
COMPOSE = """
services:
  postgres:
    image: postgres:17
    environment: {POSTGRES_PASSWORD_FILE: /run/pw, POSTGRES_DB: shop, POSTGRES_USER: owner, POSTGRES_INITDB_ARGS: --auth=scram-sha-256}
    volumes: ["./pw:/run/pw:ro"]
  redis:
    image: IMAGE
    command: PROGRAM-server --appendonly APPEND --requirepass pw
    volumes: ["./pw:/run/pw:ro", "/data"]
  app: {image: "redis:8.0", command: sleep infinity, init: true, depends_on: [postgres, redis]}
"""
IMAGES = {"redis": "redis:8.0", "valkey": "valkey/valkey:8"}
DATA = """
CREATE ROLE reader LOGIN PASSWORD 'readers';
CREATE TABLE orders (id serial PRIMARY KEY, note text);
INSERT INTO orders (note) SELECT 'ü' || md5(i::text) FROM generate_series(1, 20000) i;
GRANT SELECT ON orders TO reader; GRANT CONNECT ON DATABASE shop TO reader;
ALTER DATABASE shop SET work_mem = '7MB'; COMMENT ON DATABASE shop IS E'the shop''s\\nEND\\n$(touch /tmp/no)';
"""
ASKED = """SELECT count(*), md5(string_agg(id || note, ',' ORDER BY id)) FROM orders;
SELECT current_setting('work_mem'), shobj_description(oid, 'pg_database'), pg_get_userbyid(datdba), datacl, datcollate
FROM pg_database WHERE datname = current_database(); SELECT count(*) FROM pg_stats WHERE tablename = 'orders';
SELECT rolname, rolcanlogin, rolpassword IS NOT NULL FROM pg_authid WHERE rolname = 'reader';"""


class Stack:
    """A project of its own, and the tool only for its backups."""

    def __init__(self, root, append, program="redis"):
        self.root, self.folder, self.program = root, root / "project", program
        self.folder.mkdir()
        (self.folder / "stack.yml").write_text(
            COMPOSE.replace("APPEND", append).replace("PROGRAM", program).replace("IMAGE", IMAGES[program])
        )
        (self.folder / "pw").write_text("pw\n")
        (root / "backups").mkdir()
        (root / "etc").mkdir()

    def compose(self, *args, **more):
        return sh("docker", "compose", "-p", NAME, "-f", str(self.folder / "stack.yml"), *args, **more)

    def sql(self, sql, database="shop"):
        # Over TCP: while the first start runs its init scripts the server has the socket only.
        argv = ["psql", "-h", "127.0.0.1", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "owner", "-d", database]
        return self.compose("exec", "-T", "-e", "PGPASSWORD=pw", "postgres", *argv, stdin=sql, check=False).strip()

    def redis(self, *args):
        return self.compose(
            "exec", "-T", "-e", "REDISCLI_AUTH=pw", "redis", f"{self.program}-cli", *args, check=False
        ).strip()

    def up(self):
        self.compose("up", "--detach")
        assert until(lambda: self.redis("ping") == "PONG", 90)
        assert until(lambda: self.sql("select 1") == "1", 90)

    def fill(self):
        self.sql(DATA)
        assert self.redis("mset", "a", "1", "b", "2") == "OK"
        self.redis("xadd", "orders", "1-1", "k", "v")
        self.redis("xgroup", "create", "orders", "workers", "0")

    def holds(self):
        streams = self.redis("xinfo", "groups", "orders")
        return self.sql(ASKED), self.redis("mget", "a", "b"), streams, self.redis("dbsize")

    def tool(self, *args, **options):
        stores = [
            {"name": "postgres", "engine": "postgres", "service": "postgres", **options.pop("postgres", {})},
            {
                "name": "redis",
                "engine": "redis",
                "service": "redis",
                **options.pop("redis", {"password_file": "/run/pw"}),
            },
        ]
        project = {"project_dir": str(self.folder), "project_name": NAME, "compose_files": ["stack.yml"]}
        params = {"stack": "shop", "backup_dir": str(self.root / "backups"), "stores": stores, **project, **options}
        config = {"format": 1, "stack": "shop", "backup": [["recovery_point", params]]}
        (self.root / "etc" / "shop.json").write_text(json.dumps(config))
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "module_utils"),
            "STACK_BACKUP_ETC": str(self.root / "etc"),
        }
        environment["STACK_BACKUP_VAR"] = str(self.root / "var")
        argv = [sys.executable, "-c", "import sys; from stack_backup.cli import main; sys.exit(main())", *args]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def by_hand(self, script, **environment):
        (self.root / "restore.sh").write_text(script)
        return subprocess.run(
            ["sh", str(self.root / "restore.sh")],
            env={"PATH": os.environ["PATH"], **environment},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture
def shop(tmp_path, request):
    stack = Stack(tmp_path, *getattr(request, "param", "yes").split())
    stack.compose("down", "--volumes", "--timeout", "1")
    try:
        stack.up()
        stack.fill()
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "1")


def down(stack):
    """All is lost but the project's files and the backups."""
    stack.compose("down", "--volumes", "--timeout", "1")


def spoil(stack):
    stack.sql(
        "DROP TABLE orders; CREATE TABLE disaster (x int); ALTER ROLE owner PASSWORD 'pw'; ALTER DATABASE shop RESET ALL"
    )
    stack.redis("flushall")
    stack.redis("set", "disaster", "struck")


@pytest.mark.parametrize(
    ("shop", "disaster", "options"),
    [
        pytest.param("yes", spoil, {"host_password": True}, id="live, append-only"),
        pytest.param("no valkey", down, {}, id="empty host, Valkey, dump.rdb"),
        pytest.param("yes", down, {"encrypted": True}, id="empty host, encrypted"),
        pytest.param("no", spoil, {"postgres": {"format": "directory", "user": "owner", "port": 5432}}, id="directory"),
    ],
    indirect=["shop"],
)
def test_the_printed_commands_bring_the_data_back(shop, tmp_path, disaster, options):
    environment = {}
    options = dict(options)
    if options.pop("encrypted", False):
        environment["IDENTITY"] = str(tmp_path / "key")
        sh("age-keygen", "-o", environment["IDENTITY"])
        options["age_recipients"] = [sh("age-keygen", "-y", environment["IDENTITY"]).strip()]
    if options.pop("host_password", False):
        options["redis"] = options["postgres"] = {"host_password_file": str(shop.folder / "pw")}
    shop.sql("ANALYZE orders")
    before = shop.holds()
    assert before[0].startswith("20000|") and "reader|t|t" in before[0] and before[1] == "1\n2"
    shop.tool("run", "backup", **options)
    script = shop.tool("restore-help", **options)
    disaster(shop)
    done = shop.by_hand(script, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert shop.holds() == before
    assert "# 20000" in script and "\n20000\n" in done.stdout
    # Whatever else ran runs again, the live data of before is there, and both are what a restart finds.
    databases = shop.sql("select datname from pg_database order by 1", "postgres")
    assert "shop_old_" in databases and "shop_new_" not in databases
    assert not Path("/tmp/no").exists()
    running = shop.compose("ps", "--services", "--status", "running").split()
    assert sorted(running) == (["app", "postgres", "redis"] if disaster is spoil else ["postgres", "redis"])
    shop.redis("set", "after", "1")
    shop.compose("restart", "--timeout", "5", "redis")
    assert until(lambda: shop.redis("mget", "a", "after") == "1\n1")


def test_a_damaged_file_stops_it_before_anything_is_touched(shop, tmp_path):
    shop.tool("run", "backup")
    script = shop.tool("restore-help", "--point", next((tmp_path / "backups/redis").glob("*.rdb")).stem[6:])
    artifact = next((tmp_path / "backups/redis").glob("*.rdb"))
    data = bytearray(artifact.read_bytes())
    data[-20] ^= 1
    artifact.write_bytes(data)
    started = shop.compose("ps", "--format", "{{.ID}} {{.CreatedAt}} {{.State}}")
    done = shop.by_hand(script)
    assert done.returncode and f"{artifact}: FAILED" in done.stdout
    assert shop.compose("ps", "--format", "{{.ID}} {{.CreatedAt}} {{.State}}") == started
    assert "shop_" not in shop.sql("select datname from pg_database", "postgres")
