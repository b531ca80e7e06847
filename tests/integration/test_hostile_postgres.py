"""A server whose names attack, dumps that attack, and what a drill's container could reach: asked of real servers."""

import hashlib
import json
import os
import subprocess

import pytest
from conftest import PROJECT, answers, sh, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stack_backup import arguments, catalog, drill, manual, point, restore, room
from stack_backup.containers import Container, Docker
from stack_backup.errors import BackupError
from stack_backup.postgres.connection import Connection
from stack_backup.postgres.names import identifier, literal, unquoted
from stack_backup.process import Deadline
from stack_backup.stores import Store

NAME = f"{PROJECT}-hostile"
OLD = f"{PROJECT}-hostile-old"  # an image
# 63 bytes at most. What runs any of it leaves /tmp/owned.
ROLE = "-r\"'$(touch /tmp/owned)\\\n\\! touch /tmp/owned\nü;%s:x -- /*"
DATABASE = "-d ='\"`touch /tmp/owned`\\\n\\! touch /tmp/owned\n$HOME ü"
TABLE = "t\"'\n\\! touch /tmp/owned\n;DROP TABLE x;--\\"
BODY = "SELECT '\n\\! touch /tmp/owned'"
DATA = f"""
CREATE SCHEMA {identifier(ROLE)}; CREATE TABLE {identifier(ROLE)}.{identifier(TABLE)} ({identifier(TABLE)} text);
INSERT INTO {identifier(ROLE)}.{identifier(TABLE)} VALUES ({literal(TABLE)}), ('2');
COMMENT ON TABLE {identifier(ROLE)}.{identifier(TABLE)} IS {literal(TABLE)};
CREATE FUNCTION {identifier(TABLE)}() RETURNS text LANGUAGE sql AS {literal(BODY)};
"""


class Server:
    """One container, and a backup folder of it."""

    def __init__(self, folder):
        self.folder = folder
        self.store = {"name": "pg", "engine": "postgres", "container": NAME, "database": DATABASE, "user": ROLE}

    def psql(self, sql, database="shop", user="owner"):
        entry = f"dbname='{escaped(database)}' user='{escaped(user)}'"
        argv = ["docker", "exec", "-i", NAME, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", entry]
        return sh(*argv, stdin=sql).rstrip("\n")

    def params(self, spec, **given):
        params = {name: option.get("default") for name, option in spec.items()}
        params.update(stack="test", backup_dir=str(self.folder), timeout=120)
        return {**params, **({"stores": [self.store]} if "stores" in spec else {}), **given}

    def take(self, **given):
        return point.take(self.params(arguments.RECOVERY_POINT, **given))

    def drill(self, *queries):
        asked = [{"store": "pg", "sql": sql} for sql in queries]
        return drill.drill(self.params(arguments.BACKUP_DRILL, point="latest", smoke_queries=asked))["stores"][0]

    def newest(self):
        found = catalog.read(self.folder, "test")
        return found.points[found.choose("latest")]["pg"]

    def owned(self):
        return subprocess.run(["docker", "exec", NAME, "test", "-e", "/tmp/owned"], check=False).returncode == 0


def escaped(name):
    return name.replace("\\", "\\\\").replace("'", "\\'")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    sh("docker", "rm", "-fv", NAME)
    environment = [f"--env=POSTGRES_{name}" for name in ("PASSWORD=secret", "USER=owner", "DB=shop")]
    sh("docker", "run", "--detach", "--name", NAME, *environment, "postgres:17")
    server = Server(tmp_path_factory.mktemp("hostile"))
    try:
        assert until(lambda: answers(NAME))
        server.psql(f"CREATE ROLE {identifier(ROLE)} SUPERUSER LOGIN PASSWORD 'secret'")
        server.psql(f"CREATE DATABASE {identifier(DATABASE)} OWNER {identifier(ROLE)}")
        server.psql(DATA, DATABASE, ROLE)
        yield server
    finally:
        sh("docker", "rm", "-fv", NAME)


@pytest.fixture(scope="module")
def taken(server):
    assert len(ROLE.encode()) <= 63 and len(DATABASE.encode()) <= 63 and len(TABLE.encode()) <= 63
    return server.take()


@pytest.fixture(autouse=True)
def nothing_is_left(server):
    yield
    assert sh("docker", "ps", "-aq", "--filter", f"label=stack-backup.dir={server.folder}") == ""
    assert not server.owned()


def test_a_database_and_a_role_whose_names_attack_come_back(server, taken):
    assert taken["complete"] and taken["stores"][0]["warnings"] == []
    backup = server.newest()
    table = f"{identifier(ROLE)}.{identifier(TABLE)}"
    assert backup.manifest["counts"]["rows"] == {table: 2} and backup.manifest["client_version"] >= 170000
    report = server.drill(
        f"SELECT count(*) FROM {table}", "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'drill'"
    )
    assert report["ok"] and sorted(report["checked"]["roles"]) == [ROLE, "owner"]
    assert [item["answer"] for item in report["checked"]["smoke"]] == ["2", ROLE]
    server.psql(f"INSERT INTO {table} VALUES ('3')", DATABASE, ROLE)
    params = server.params(
        arguments.STACK_RESTORE, action="restore", point="latest", confirm="test", safety_backup=False
    )
    done = restore.restore(params)
    assert done["outcome"] == "restored" and server.psql(f"SELECT count(*) FROM {table}", DATABASE, ROLE) == "2"
    restore.restore({**params, "action": "drop"})
    assert "before" not in server.psql("SELECT string_agg(datname, ' ') FROM pg_database")


def rewritten(server, folder, text):
    """The newest backup with another globals file, whose digest the manifest has: as an old pg_dumpall writes one."""
    backup = server.newest()
    made = folder / "pg"
    made.mkdir()
    for path in (*backup.files(), backup.artifact.with_suffix(".json")):
        (made / path.name).write_bytes(path.read_bytes())
    manifest = json.loads(json.dumps(backup.manifest))
    data = text.encode()
    manifest["globals"].update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    (made / f"pg-{backup.point}.globals.sql").write_bytes(data)
    (made / f"pg-{backup.point}.json").write_text(json.dumps(manifest))
    other = Server(folder)
    return other, other.newest()


# A role's name with a line's end in it, in a comment: pg_dumpall before 17.6 wrote it so (CVE-2025-8715).
ATTACK = 'CREATE ROLE app;\n--\n-- User Config "x\n\\! touch /tmp/owned\n"\n--\n'


def test_a_globals_file_that_attacks_psql_is_obeyed_by_psql_alone(server, taken, tmp_path):
    sh("docker", "exec", "-i", NAME, "psql", "-Xq", "-U", "owner", "-d", "shop", stdin=ATTACK, check=False)
    assert server.owned()  # it is a real attack
    sh("docker", "exec", NAME, "rm", "/tmp/owned")
    server.psql("DROP ROLE IF EXISTS app")
    other, backup = rewritten(server, tmp_path, ATTACK)
    with pytest.raises(BackupError, match="the globals file can't be read at line 4"):
        other.drill()
    assert not server.owned()
    script = "".join(manual.script({"stack": "test", "stores": [server.store]}, backup.point, {"pg": backup}))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert done.returncode and "there are backslashes in the roles" in done.stderr, done.stderr
    assert server.psql("SELECT count(*) FROM pg_roles WHERE rolname = 'app'") == "0"


def test_what_code_in_a_dump_can_reach(server, taken, monkeypatch):
    """A drill's queries are the superuser's, as a dump's functions may be."""
    monkeypatch.setenv("STACK_BACKUP_TEST_SECRET", "hunter2")
    look = (
        "cat /proc/net/dev /proc/self/mountinfo /proc/self/status; env; ls /stack-backup; cat /stack-backup/*; "
        "touch /stack-backup/x; echo pids $(cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max)"
    )
    program = literal(f"({look}) 2>&1 | tr '\\t\\\\' '  '")
    report = server.drill(
        f"CREATE TEMP TABLE said (line text); COPY said FROM PROGRAM {program}; SELECT string_agg(line, E'\\n') FROM said"
    )
    said = report["checked"]["smoke"][0]["answer"]
    lines = said.splitlines()
    assert [
        line.split(":")[0].strip() for line in lines if "|" not in line and line.split(":")[0].strip() in ("lo", "eth0")
    ] == ["lo"]
    mount = [line for line in lines if " /stack-backup " in line]
    assert len(mount) == 1 and mount[0].split(" /stack-backup ")[1].startswith("ro,")
    assert "docker.sock" not in said and str(server.folder.parent.parent / "compose.yml") not in said
    assert "hunter2" not in said and "secret" not in said and "SCRAM" not in said
    assert f"CapEff: {0:016x}" in lines and "NoNewPrivs: 1" in lines
    if os.getuid() == 0:
        assert any("Permission denied" in line or "can't open" in line or "cannot open" in line for line in lines)
    assert any(line.startswith("pids ") and "1024" in line for line in lines)


def test_a_dump_that_grows_without_end_does_not_fill_the_disk(server, taken, monkeypatch):
    """What compresses to nothing: the drill's server is ended while the disk has room for the live databases."""
    real, began = room.free_bytes, []

    def shrinking(folder):  # the disk, but for what it had when the drill began, less half a gigabyte
        free = real(folder)
        began[:] = began or [free]
        return free - began[0] + 300 * 1024 * 1024

    monkeypatch.setattr(room, "free_bytes", shrinking)
    monkeypatch.setattr(room, "require", lambda *_args: None)
    bomb = "CREATE TABLE bomb AS SELECT repeat(md5(i::text), 60) FROM generate_series(1, 400000) i; SELECT 1"
    with pytest.raises(BackupError, match="filled the disk of .*, where Docker keeps its data"):
        server.drill(bomb)
    assert real(room._disk(Docker(Deadline(30)))) > began[0] - 250 * 1024 * 1024  # and it is free again


def test_a_drill_that_has_no_room_is_not_begun(server, taken, monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda _folder: 100 * 1024 * 1024)
    with pytest.raises(BackupError, match="where Docker keeps its data, has 104857600 bytes free, the drill needs"):
        server.drill()


def test_old_programs_are_told_in_backup_restore_and_drill(server, tmp_path):
    """An image whose psql says that it is of 17.5; all else of it is the real one's."""
    context = tmp_path / "image"
    context.mkdir()
    (context / "psql").write_text('#!/bin/sh\nexec /usr/lib/postgresql/17/bin/psql -v VERSION_NUM=170005 "$@"\n')
    (context / "psql").chmod(0o755)
    (context / "Dockerfile").write_text("FROM postgres:17\nCOPY psql /opt/old/\nENV PATH=/opt/old:$PATH\n")
    (tmp_path / "backups").mkdir()
    sh("docker", "build", "--quiet", "--tag", OLD, str(context))
    sh("docker", "rm", "-fv", OLD)
    try:
        environment = [f"--env=POSTGRES_{name}" for name in ("PASSWORD=secret", "USER=owner", "DB=shop")]
        sh("docker", "run", "--detach", "--name", OLD, *environment, OLD)
        assert until(lambda: answers(OLD))
        old = Server(tmp_path / "backups")
        old.store = {"name": "pg", "engine": "postgres", "container": OLD}
        said = [old.take()["stores"][0]["warnings"], old.drill()["checked"]["warnings"]]
        params = old.params(arguments.STACK_RESTORE, action="restore", point="latest", confirm="test", allow_empty=True)
        said.append([note for note in restore.restore(params, True)["notes"] if "CVE" in note])
        for warnings in said:
            assert (
                len(warnings) == 1 and "CVE-2025-8714" in warnings[0] and "update it to 17.10 or later" in warnings[0]
            )
    finally:
        sh("docker", "rm", "-fv", OLD)
        sh("docker", "rmi", OLD)


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=15)


def test_any_name_is_itself_to_the_server(server):
    """Quoted by us, taken as it was by psql and by the server; and what the server quotes is read by us."""
    docker = Docker(Deadline(60))
    container: Container = docker.inspect([NAME])[0]
    store = Store(name="pg", engine="postgres", container=NAME)
    connection = Connection(docker, store, container, backup_dir=server.folder, folder=None)
    psql = connection.open()

    @settings(max_examples=250, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(NAMES)
    def ask(name):
        sql = f"SELECT json_build_array({literal(name)}, quote_ident({literal(name)})) AS {identifier(name)};"
        there, quoted = json.loads("\n".join(psql.ask(sql)))
        assert there == name and unquoted(quoted) == name

    try:
        ask()
    finally:
        connection.close()
