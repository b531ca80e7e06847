"""Encrypted backups: read by hand with age, and by nobody else; and what is never to be found anywhere."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from conftest import PG, PROJECT, ROOT, job, sh, shim, until
from redis_server import NAME, STORE, Server
from stack_backup import arguments, catalog, drill, point, restore
from stack_backup.errors import BackupError
from test_faults import finish, while_locked
from test_redis_dump import NO_DELAY, boot_as_aof_base

MARK = "plain-marker-7f"
QUESTION = "select count(*), md5(string_agg(id || note, ',' order by id)) from orders"


class Key:
    """An age key, or an SSH one, in a file beside the tests' own."""

    def __init__(self, folder, name, kind="age", passphrase=""):
        self.file = folder / name
        if kind == "age":
            sh("age-keygen", "-o", str(self.file))
            self.public = sh("age-keygen", "-y", str(self.file)).strip()
        else:
            sh("ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "who@where", "-f", str(self.file))
            self.public = self.file.with_suffix(".pub").read_text().strip()
        self.text = self.file.read_text()

    def open(self, path):
        """What age itself makes of a file."""
        argv = ["age", "--decrypt", "--identity", str(self.file), str(path)]
        return subprocess.run(argv, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return {
        "one": Key(folder, "one"),
        "two": Key(folder, "two"),
        "other": Key(folder, "other"),
        "ssh": Key(folder, "ssh", "ed25519"),
        "rsa": Key(folder, "rsa", "rsa"),
        "locked": Key(folder, "locked", "ed25519", "a passphrase"),
    }


@pytest.fixture
def server():
    yield Server()
    Server.remove()


def manifest(folder, store):
    path = next(path for path in (folder / store).glob("*.json") if "verified" not in path.name)
    return json.loads(path.read_text())


def opened(key, folder, store):
    """The artifact as the key opens it; the manifest must have said so before."""
    told = manifest(folder, store)["artifact"]
    path = folder / store / told["name"]
    data = key.open(path)
    assert told["encryption"]["plain"] == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() and told["size"] == path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o600
    return data


def regular(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file() and not path.is_symlink()]


@contextmanager
def watched(*texts, folders=()):
    """While the block runs, and at its end: where one of ``texts`` is in a file of ``folders``, or in what /proc tells.

    New files right under the folder of temporary files are looked into too.
    """
    found, over = [], threading.Event()
    looked = [0]
    began = time.time() - 1

    def scan():
        temporary = [item for item in Path("/tmp").iterdir() if item.is_file() and item.stat().st_mtime > began]
        temporary += [item for folder in Path("/tmp").glob("ansible*") for item in regular(folder)]
        processes = [path / name for path in Path("/proc").glob("[0-9]*") for name in ("cmdline", "environ")]
        for path in [*temporary, *processes, *(item for folder in folders for item in regular(folder))]:
            try:
                data = path.read_bytes()
            except OSError:
                continue
            found.extend((str(path), text) for text in texts if text.encode() in data)
        looked[0] += 1

    def watch():
        while not over.wait(0.05):
            try:
                scan()
            except OSError:  # a folder went away under the search
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()
        scan()
    assert looked[0] > 3
    assert found == []


def layer_of(container):
    """What is in a container beside its image and volumes."""
    return set(sh("docker", "diff", container).splitlines())


@pytest.mark.parametrize("via", ["side", "exec"])
@pytest.mark.parametrize("service", ["pg15", "pg18"])
def test_postgres_comes_back_by_age_and_pg_restore(stack, tmp_path, keys, monkeypatch, service, via):
    backups = tmp_path / "backups"
    backups.mkdir()
    # Slow at its end, so that what lies on disk meanwhile can be looked at.
    shim("age", tmp_path / "bin", monkeypatch, 'REAL "$@"; s=$?; sleep 0.4; exit $s')
    stack.sql(service, f"CREATE TABLE marked AS SELECT '{MARK}'::text AS x; CREATE ROLE \"{MARK}\"")
    name = stack.name(service)
    layer = layer_of(name)
    try:
        with watched(MARK, folders=[backups]):
            options = {"service": service, "via": via, "compression": "0"}
            result = stack.take(backups, [{**PG, **options}], age_recipients=[keys["one"].public])
        assert layer_of(name) == layer
        report = result["stores"][0]
        assert report["via"]["used"] == via
        assert report["file"].endswith(f"postgres-{result['id']}.dump.age")
        dump = opened(keys["one"], backups, "postgres")
        assert MARK.encode() in dump  # the watch knew what to look for
        roles = keys["one"].open(next((backups / "postgres").glob("*.globals.sql.age"))).decode()
        assert "CREATE ROLE owner" in roles and MARK in roles
        archive = tmp_path / "archive"
        archive.write_bytes(dump)
        sh("docker", "cp", str(archive), f"{name}:/tmp/back")
        sh("docker", "exec", name, "createdb", "-U", "owner", "-T", "template0", "back")
        sh("docker", "exec", name, "pg_restore", "--exit-on-error", "-U", "owner", "-d", "back", "/tmp/back")
        assert stack.sql(service, QUESTION, "back") == stack.sql(service, QUESTION)
        assert sorted(path.suffix for path in (backups / "postgres").iterdir()) == [".age", ".age", ".json"]
    finally:
        sh("docker", "exec", name, "rm", "-f", "/tmp/back")
        stack.sql(service, f'DROP DATABASE IF EXISTS back; DROP ROLE "{MARK}"', "postgres")
        stack.sql(service, "DROP TABLE marked")


@pytest.mark.parametrize("method", ["bgsave", "save", "stream"])
@pytest.mark.parametrize("image", ["redis:7.0", "redis:8.0", "valkey/valkey:8"])
def test_redis_comes_back_by_age_and_a_server(server, tmp_path, keys, monkeypatch, image, method):
    backups = tmp_path / "backups"
    backups.mkdir()
    shim("age", tmp_path / "bin", monkeypatch, 'REAL "$@"; s=$?; sleep 0.4; exit $s')
    server.start(image, "--save", "", *NO_DELAY)
    server.cli("mset", MARK, "1", "b", "2", "c", "3")
    layer = layer_of(NAME)
    params = {"stack": "test", "backup_dir": str(backups), "timeout": 60, "age_recipients": [keys["one"].public]}
    with watched(MARK, folders=[backups]):
        report = point.take({**params, "stores": [{**STORE, "method": method}]})["stores"][0]
    assert layer_of(NAME) == layer
    assert report["file"].endswith(".rdb.age")
    assert report["via"]["used"] == ("exec" if method == "stream" else "side")
    rdb = opened(keys["one"], backups, "redis")
    assert MARK.encode() in rdb and rdb[-9] == 0xFF  # no end mark of a transfer behind it
    assert manifest(backups, "redis")["counts"]["keys"] == 3
    (tmp_path / "rdb").write_bytes(rdb)
    assert boot_as_aof_base(image, tmp_path / "rdb") == 3


def test_a_file_in_no_volume_is_read_where_it_is(server, tmp_path, keys):
    server.start("--tmpfs", "/hidden:uid=999", "redis:8.0", "--dir", "/hidden", "--save", "")
    server.cli("set", "a", "1")
    params = {"stack": "test", "backup_dir": str(tmp_path), "timeout": 60, "age_recipients": [keys["one"].public]}
    assert point.take({**params, "stores": [STORE]})["stores"][0]["via"]["used"] == "exec"
    assert opened(keys["one"], tmp_path, "redis").startswith(b"REDIS")


def test_each_recipient_reads_by_itself(stack, tmp_path, keys):
    chosen = [keys[name] for name in ("one", "two", "ssh", "rsa")]
    stack.take(tmp_path, [PG], age_recipients=[key.public for key in chosen])
    assert {opened(key, tmp_path, "postgres")[:5] for key in chosen} == {b"PGDMP"}
    assert manifest(tmp_path, "postgres")["artifact"]["encryption"]["recipients"] == [key.public for key in chosen]
    for key in chosen:
        checked = stack.verify(tmp_path, age_identity=key.text)["stores"][0]["checked"]
        assert checked == {"program": "pg_restore", "structure": True}
    # All in one text, as after a change of recipients.
    both = keys["other"].text + keys["rsa"].text + keys["ssh"].text
    assert stack.verify(tmp_path, age_identity=both)["stores"][0]["ok"]


REFUSED = [
    ("age1qqqqqqqqqq", "age does not take 'age1qqqqqqqqqq'"),
    ("--output=/x", "is no recipient"),
    ("ssh-ed25519 AAAA", "age does not take 'ssh-ed25519 AAAA'"),
    ("", "is no recipient"),
    ("bob@example.com", "is no recipient"),
]


@pytest.mark.parametrize(("recipient", "message"), REFUSED)
@pytest.mark.parametrize("check_mode", [False, True])
def test_what_is_no_recipient_is_refused_and_named(stack, tmp_path, keys, recipient, message, check_mode):
    said = str(stack.fail(tmp_path, [PG], age_recipients=[keys["one"].public, recipient], check_mode=check_mode))
    assert message in said
    assert regular(tmp_path) == [tmp_path / ".lock"]


def test_a_secret_key_among_the_recipients_is_not_repeated(stack, tmp_path, keys):
    secret = keys["one"].text.splitlines()[-1]
    said = str(stack.fail(tmp_path, [PG], age_recipients=[secret]))
    assert "recipient 1" in said and secret not in said


def test_a_folder_is_not_encrypted(stack, tmp_path, keys):
    said = str(stack.fail(tmp_path, [{**PG, "format": "directory"}], age_recipients=[keys["one"].public]))
    assert "set format: custom" in said


def without_age(folder, monkeypatch):
    folder.mkdir()
    (folder / "docker").symlink_to(sh("sh", "-c", "command -v docker").strip())
    (folder / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(folder))


def test_without_age_nothing_is_begun(stack, tmp_path, keys, monkeypatch):
    backups = tmp_path / "backups"
    backups.mkdir()
    stack.take(backups, [PG], age_recipients=[keys["one"].public])
    before = regular(backups)
    without_age(tmp_path / "bin", monkeypatch)
    assert "apt-get install age" in str(stack.fail(backups, [PG], age_recipients=[keys["one"].public]))
    assert regular(backups) == before
    with pytest.raises(BackupError, match="apt-get install age"):
        stack.verify(backups, age_identity=keys["one"].text)
    # Who does not encrypt does not need it.
    assert stack.verify(backups)["stores"][0]["checked"] == {"program": "sha256", "structure": False}
    time.sleep(1)
    assert stack.take(backups, [PG])["complete"]


@pytest.mark.parametrize("store", ["side", "exec", "bgsave", "stream"])
def test_when_age_dies_nothing_is_published(stack, server, tmp_path, keys, monkeypatch, store):
    backups = tmp_path / "backups"
    backups.mkdir()
    dying = 'case "$(head -c 1 | od -An -tx1)" in "") exec REAL "$@" </dev/null ;; esac; head -c 100000 | REAL "$@"; kill -9 $$'
    shim("age", tmp_path / "bin", monkeypatch, dying)
    if store in ("bgsave", "stream"):
        server.start("redis:8.0", "--save", "", *NO_DELAY)
        for number in range(8):
            server.cli("-x", "set", f"k{number}", stdin=os.urandom(100_000).hex())
        given = {**STORE, "method": store}
    else:
        given = {**PG, "via": store, "compression": "0"}
    began = time.monotonic()
    said = str(stack.fail(backups, [given], age_recipients=[keys["one"].public]))
    assert "age did not encrypt" in said, said
    assert time.monotonic() - began < 30
    assert regular(backups) == [backups / ".lock"]
    assert [path.name for path in backups.iterdir()] == [".lock"]


@pytest.mark.parametrize("how", ["time", "container"])
@pytest.mark.parametrize("via", ["side", "exec"])
def test_a_dump_that_is_held_up_or_dies_leaves_nothing(stack, tmp_path, keys, how, via):
    def act():
        if how == "container" and via == "side":
            sh("docker", "rm", "-fv", *stack.sides())
        elif how == "container":
            stack.sql("pg17", "select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'")

    lock, thread = while_locked(stack, act)
    began = time.monotonic()
    try:
        store = {**PG, "row_counts": False, "via": via}
        given = {"age_recipients": [keys["one"].public], "timeout": 8 if how == "time" else 60}
        said = str(stack.fail(tmp_path, [store], **given))
    finally:
        finish(lock, thread)
    assert ("time limit" in said or "did not end within" in said) if how == "time" else "pg_dump failed" in said
    assert time.monotonic() - began < 40
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("Thread-")]


def test_a_job_that_is_killed_leaves_no_backup_and_stops_no_other(stack, tmp_path, keys):
    given = stack.params(tmp_path, [{**PG, "row_counts": False}], age_recipients=[keys["one"].public])
    process = job(given)
    lock, thread = while_locked(stack, process.kill)
    try:
        process.wait()
    finally:
        finish(lock, thread)
    assert {item["problem"] for item in catalog.read(tmp_path, "test").problems} <= {"half-written"}
    assert until(
        lambda: not [path for path in Path("/proc").glob("[0-9]*/cmdline") if keys["one"].public in read(path)]
    )
    assert stack.take(tmp_path, [PG], age_recipients=[keys["one"].public])["complete"]


def read(path):
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def test_the_wrong_identity_is_one_clear_error(stack, tmp_path, keys):
    stack.take(tmp_path, [PG], age_recipients=[keys["one"].public])
    for text, message in (
        (keys["other"].text, "does not decrypt .*give that of one of its recipients"),
        (keys["locked"].text, "has a passphrase"),
        ("hello", "identity is none"),
        ("AGE-SECRET-KEY-1QQQ", "can't read the identity"),
        (keys["ssh"].text.replace("OPENSSH", "OPENSSL"), "is none|can't read"),
    ):
        with pytest.raises(BackupError, match=message) as caught:
            stack.verify(tmp_path, age_identity=text)
        assert text.splitlines()[-1] not in str(caught.value)
    file = tmp_path.parent / f"{tmp_path.name}.key"
    file.write_text(keys["one"].text)
    file.chmod(0o644)
    with pytest.raises(BackupError, match="chmod 600"):
        stack.verify(tmp_path, age_identity_file=str(file))
    file.chmod(0o600)
    assert stack.verify(tmp_path, age_identity_file=str(file))["stores"][0]["checked"]["structure"]
    file.unlink()


def flip(path):
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def test_what_was_changed_on_disk_is_told(stack, tmp_path, keys):
    stack.take(tmp_path, [PG], age_recipients=[keys["one"].public])
    artifact = next((tmp_path / "postgres").glob("*.dump.age"))
    flip(artifact)
    with pytest.raises(BackupError, match="is not what was written"):
        stack.verify(tmp_path)
    # A manifest that was made to fit does not help: age knows too.
    path = next((tmp_path / "postgres").glob("*.json"))
    told = json.loads(path.read_text())
    told["artifact"]["sha256"] = hashlib.sha256(artifact.read_bytes()).hexdigest()
    path.write_text(json.dumps(told))
    assert stack.verify(tmp_path)["stores"][0]["ok"]
    with pytest.raises(BackupError, match="age does not decrypt"):
        stack.verify(tmp_path, age_identity=keys["one"].text)
    # Nor does another file of the same recipient: the digest of the plain data is another.
    subprocess.run(
        ["age", "-r", keys["one"].public, "-o", str(artifact)],
        input=subprocess.run(
            ["docker", "exec", stack.name("pg17"), "pg_dump", "-U", "owner", "-Fc", "shop"],
            capture_output=True,
            check=True,
        ).stdout,
        check=True,
    )
    told["artifact"].update(sha256=hashlib.sha256(artifact.read_bytes()).hexdigest(), size=artifact.stat().st_size)
    path.write_text(json.dumps(told))
    with pytest.raises(BackupError, match="decrypts to other data"):
        stack.verify(tmp_path, age_identity=keys["one"].text)


def params(spec, **given):
    return {**{name: item.get("default") for name, item in spec.items()}, **given}


@pytest.fixture
def pair(stack, server, tmp_path, keys):
    """A database and a Redis server with encrypted backups, then spoilt; and a restore of them."""
    server.start("redis:8.0", "--save", "", "--appendonly", "yes")
    server.cli("mset", MARK, "1", "b", "2")
    stack.sql("pg17", "CREATE DATABASE sealed", "postgres")
    stack.sql(
        "pg17",
        f"CREATE TABLE t AS SELECT x, '{MARK}'::text AS y FROM generate_series(1, 30000) x; CREATE ROLE lost",
        "sealed",
    )
    stack.sql("pg17", "GRANT SELECT ON t TO lost", "sealed")
    backups = tmp_path / "backups"
    backups.mkdir()
    stores = [{**PG, "service": None, "container": stack.name("pg17"), "database": "sealed", "compression": "0"}, STORE]
    common = {"stack": "test", "backup_dir": str(backups), "timeout": 200, "stores": stores}
    common["age_recipients"] = [keys["one"].public, keys["ssh"].public]
    point.take(common)
    stack.sql("pg17", "TRUNCATE t; DROP OWNED BY lost; DROP ROLE lost", "sealed")
    server.cli("flushall")
    defaults = {**common, "confirm": "test", "dependents": [], "health_checks": []}
    yield backups, lambda **more: restore.restore(params(arguments.STACK_RESTORE, **{**defaults, **more}))
    names = stack.sql(
        "pg17", "SELECT string_agg(quote_ident(datname), ' ') FROM pg_database WHERE datname LIKE 'sealed%'", "postgres"
    )
    for name in names.split():
        stack.sql("pg17", f"DROP DATABASE {name} WITH (FORCE)", "postgres")
    stack.sql("pg17", "DROP ROLE IF EXISTS lost", "postgres")


def is_back(stack, server):
    rows = stack.sql("pg17", "SELECT count(*), sum(x), has_table_privilege('lost', 't', 'SELECT') FROM t", "sealed")
    return rows == "30000|450015000|t" and server.cli("get", MARK) == "1" and server.cli("dbsize") == "2"


@pytest.mark.parametrize("method", ["side_by_side", "in_place"])
def test_a_restore_decrypts_in_memory(stack, server, tmp_path, keys, pair, method):
    backups, run = pair
    secret = keys["one"].text.splitlines()[-1]
    with watched(secret, MARK, folders=[backups]):
        report = run(age_identity=keys["one"].text, restore_method=method)
    assert is_back(stack, server)
    assert secret not in json.dumps(report)
    # The safety backup, too, is encrypted.
    safety = catalog.read(backups, "test").points[report["safety_point"]]
    assert all(backup.encrypted for backup in safety.values())
    if method == "side_by_side":
        run(action="back", safety_backup=False)
        assert stack.sql("pg17", "SELECT count(*) FROM t", "sealed") == "0" and server.cli("dbsize") == "0"


def test_the_way_back_of_in_place_is_encrypted_too(stack, server, tmp_path, keys, pair):
    _backups, run = pair
    run(age_identity=keys["ssh"].text, restore_method="in_place")
    for wrong in ({}, {"age_identity": keys["other"].text}):
        with pytest.raises(BackupError, match="is encrypted: give the identity|does not decrypt"):
            run(action="back", safety_backup=False, **wrong)
        assert is_back(stack, server)  # nothing was undone half-way
    run(action="back", safety_backup=False, age_identity=keys["one"].text)
    assert stack.sql("pg17", "SELECT count(*) FROM t", "sealed") == "0"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "is encrypted: give the identity"),
        ({"age_identity": "other"}, "does not decrypt"),
        ({"age_identity": "locked"}, "passphrase"),
        (
            {"age_identity": "one", "age_recipients": "two", "restore_method": "in_place"},
            "goes back by the safety backup",
        ),
    ],
)
def test_a_restore_without_the_right_identity_touches_nothing(stack, server, tmp_path, keys, pair, given, message):
    backups, run = pair
    before = regular(backups), stack.sql("pg17", "SELECT array_agg(oid) FROM pg_database")
    given = dict(given)
    if given.get("age_identity"):
        given["age_identity"] = keys[given["age_identity"]].text
    if given.get("age_recipients"):
        given["age_recipients"] = [keys[given["age_recipients"]].public]
    with pytest.raises(BackupError, match=message):
        run(**given)
    assert (regular(backups), stack.sql("pg17", "SELECT array_agg(oid) FROM pg_database")) == before
    assert server.cli("dbsize") == "0"


def test_a_drill_of_encrypted_backups(stack, server, tmp_path, keys, pair):
    backups, _run = pair
    given = params(arguments.BACKUP_DRILL, stack="test", backup_dir=str(backups), timeout=200)
    with pytest.raises(BackupError, match="is encrypted: give the identity"):
        drill.drill(given)
    secret = "\n".join(keys["ssh"].text.splitlines()[1:3])
    queries = [{"store": "postgres", "sql": "select sum(x) from t", "expect": "450015000"}]
    queries.append({"store": "redis", "command": f"get {MARK}", "expect": "1"})
    with watched(secret, folders=[backups]):
        report = drill.drill({**given, "age_identity": keys["ssh"].text, "smoke_queries": queries})
    assert [store["ok"] for store in report["stores"]] == [True, True]
    backup = next(iter(catalog.read(backups, "test").points.values()))["redis"]
    assert backup.verified["ok"]


def play(stack, tmp_path, name, *args, **settings):
    """A playbook against this host; ``settings``: environment."""
    hosts = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "stack_name": "test",
        "stack_backup_dir": str(tmp_path / "backups"),
        "stack_project_dir": str(stack.folder),
        "stack_project_name": PROJECT,
        "stack_stores": [PG],
        "stack_dependents": [],
    }
    path = tmp_path / "hosts.yml"
    path.write_text(yaml.safe_dump({"stacks": {"hosts": {"test": {}}, "vars": hosts}}))
    env = {
        **os.environ,
        "ANSIBLE_HOME": str(tmp_path / "ansible"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        **settings,
    }
    argv = ["ansible-playbook", "-i", str(path), f"playbooks/{name}.yml", *args]
    result = subprocess.run(
        argv, cwd=ROOT, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    return result.returncode, result.stdout + result.stderr


def test_the_playbooks_hand_the_identity_over_in_memory(stack, tmp_path, keys):
    (tmp_path / "backups").mkdir()
    secret = keys["one"].text.splitlines()[-1]
    # What Ansible Vault would hold: on the control node, which is this host here, so apart from what is searched.
    vault = keys["one"].file.with_name("vault.json")
    vault.write_text(json.dumps({"restore_age_identity": keys["one"].text, "verify_age_identity": keys["one"].text}))
    recipients = json.dumps(
        {"backup_age_recipients": [keys["one"].public], "backup_report_dir": str(tmp_path / "reports")}
    )
    code, said = play(stack, tmp_path, "backup", "-e", recipients)
    assert code == 0, said
    assert next((tmp_path / "backups" / "postgres").glob("*.dump.age"))
    with watched(secret, folders=[tmp_path, Path.home() / ".ansible" / "tmp"]):
        code, said = play(stack, tmp_path, "verify", "-vvv", "-e", f"@{vault}")
        assert code == 0 and "restores" in said and secret not in said, said
        code, said = play(stack, tmp_path, "restore", "--check", "-vvv", "-e", recipients, "-e", f"@{vault}")
        assert code == 0 and "restore recovery point" in said and secret not in said, said
    code, said = play(stack, tmp_path, "verify")
    assert code == 2 and "is encrypted: give the identity" in said
    for playbook in ("verify", "restore"):
        code, said = play(stack, tmp_path, playbook, "--check", "-e", f"@{vault}", ANSIBLE_PIPELINING="false")
        assert code == 2 and "written to the host's disk" in said.replace("\n", " ") and secret not in said, said
