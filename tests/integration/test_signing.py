"""Signed backups of real servers: restored when they are what was written, and refused before anything reads them when not."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import PG, PROJECT, REDIS, ROOT, job, sh, shim
from redis_server import STORE, Server
from stack_backup import arguments, catalog, drill, restore, signing
from stack_backup.artifact import digest, encode
from stack_backup.catalog import UNTRUSTED
from stack_backup.errors import BackupError
from stack_backup.signing import signature_path
from test_host_command import Host

from tests.signers import Pair

POINT, OLDER = "20260102-000000", "20260101-000000"
DB = {"name": "postgres", "engine": "postgres", "database": "signed", "compression": "0"}


def params(spec, **given):
    return {**{name: item.get("default") for name, item in spec.items()}, **given}


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return Pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def signed(key):
    return {"sign_key": str(key.file), "allowed_signers": [key.public]}


@pytest.fixture(scope="module")
def made(stack, signed, tmp_path_factory):
    """A point whose dump is a folder, and one that is encrypted."""
    folder = tmp_path_factory.mktemp("made")
    sh("age-keygen", "-o", str(folder.parent / "age"))
    recipient = sh("age-keygen", "-y", str(folder.parent / "age")).strip()
    stack.take(folder, [{**PG, "format": "directory"}, REDIS], id=OLDER, **signed)
    stack.take(folder, [PG, REDIS], id=POINT, age_recipients=[recipient], **signed)
    return folder


def manifests(folder, point):
    return [folder / store / f"{store}-{point}.json" for store in ("postgres", "redis")]


def parts(manifest):
    """Every file of a backup, with what takes its digest into the manifest."""
    told = json.loads(manifest.read_text())
    for part in filter(None, (told["artifact"], told.get("globals"))):
        whole = manifest.parent / part["name"]
        for path in sorted(whole.iterdir()) if whole.is_dir() else [whole]:

            def fit(whole=whole, part=part, told=told):
                part.update(digest(whole))
                manifest.write_bytes(encode(told))

            yield path, fit


def test_openssh_itself_takes_every_manifest(made, key, tmp_path):
    (tmp_path / "allowed").write_text(f"test {key.public}\n")
    for path in [*manifests(made, OLDER), *manifests(made, POINT)]:
        argv = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "allowed"), "-I", "test", "-n", "stack-backup"]
        sh(*argv, "-s", str(signature_path(path)), stdin=path.read_text())
        assert signature_path(path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("point", [OLDER, POINT])
def test_every_byte_of_a_backup_is_covered(stack, made, signed, tmp_path, point):
    """Each file of a folder, roles, what is encrypted: changed alone, and with the digest in the manifest that fits."""
    trust = {"allowed_signers": signed["allowed_signers"], "point": point}
    assert stack.verify(made, **trust)["complete"]
    seen = 0
    for number in range(sum(1 for manifest in manifests(made, point) for _ in parts(manifest))):
        folder = tmp_path / str(number)
        shutil.copytree(made, folder)
        path, fit = [item for manifest in manifests(folder, point) for item in parts(manifest)][number]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(BackupError, match="is not what was written"):
            stack.verify(folder, **trust)
        fit()
        with pytest.raises(BackupError, match="its signature is not of what it says"):
            stack.verify(folder, **trust)
        shutil.rmtree(folder)
        seen += 1
    assert seen == 3 if point == POINT else seen > 4


def test_what_encryption_tells_is_covered(stack, made, signed, tmp_path):
    """Who changes the recipients or the digest of the plain data changes the manifest."""
    shutil.copytree(made, tmp_path / "b")
    path = manifests(tmp_path / "b", POINT)[1]
    told = json.loads(path.read_text())
    told["artifact"]["encryption"]["plain"]["sha256"] = "0" * 64
    path.write_bytes(encode(told))
    with pytest.raises(BackupError, match="its signature is not of what it says"):
        stack.verify(tmp_path / "b", allowed_signers=signed["allowed_signers"], point=POINT)


# --- restores ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(stack, signed, tmp_path):
    """A database and a Redis server with two signed points, the older with other data; then both are emptied."""
    server = Server()
    try:
        server.start("redis:8.0", "--save", "", "--appendonly", "yes")
        stack.sql("pg17", "CREATE DATABASE signed", "postgres")
        stores = [{**DB, "container": stack.name("pg17")}, STORE]
        yield Site(stack, server, tmp_path, stores, signed)
    finally:
        Server.remove()
        names = stack.sql(
            "pg17", "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname LIKE 'signed%'", "postgres"
        )
        for name in names.split():
            stack.sql("pg17", f'DROP DATABASE "{name}" WITH (FORCE)', "postgres")


class Site:
    def __init__(self, stack, server, folder, stores, signed):
        self.stack, self.server, self.stores, self.signed = stack, server, stores, signed
        self.backups = folder / "backups"
        self.backups.mkdir()
        self.points = []
        stack.sql("pg17", "CREATE TABLE t (x int)", "signed")
        for value in (1, 2):
            self.write(value)
            self.points.append(stack.take(self.backups, stores, project_dir=None, **signed)["id"])
        self.write(3)

    def write(self, value):
        self.stack.sql("pg17", f"TRUNCATE t; INSERT INTO t VALUES ({value})", "signed")
        self.server.cli("set", "x", str(value))

    def holds(self):
        return self.stack.sql("pg17", "SELECT sum(x) FROM t", "signed"), self.server.cli("get", "x")

    def params(self, spec, **given):
        common = {"stack": "test", "backup_dir": str(self.backups), "timeout": 200, **self.signed}
        common.update({"stores": self.stores} if "stores" in spec else {})
        mine = {name: value for name, value in {**common, **given}.items() if name in spec}
        return params(spec, **mine)

    def restore(self, check_mode=False, **given):
        more = {"confirm": "test", "dependents": [], "health_checks": [], **given}
        return restore.restore(self.params(arguments.STACK_RESTORE, **more), check_mode)

    def manifest(self, store, point=None):
        return self.backups / store / f"{store}-{point or self.points[-1]}.json"


def test_a_signed_point_restores_and_its_safety_backup_is_signed(site):
    report = site.restore()
    assert site.holds() == ("2", "2") and report["notes"] == []
    assert drill.drill(site.params(arguments.BACKUP_DRILL))["complete"]
    trust = signing.signers_of(site.signed)
    found = catalog.read(site.backups, "test", signers=trust)
    assert found.problems == [] and set(found.points) == {*site.points, report["safety_point"]}
    site.restore(action="back", safety_backup=False)
    assert site.holds() == ("3", "3")


def test_a_point_that_was_changed_is_never_read_and_latest_tells_that_it_is_older(site, tmp_path, monkeypatch):
    dump = site.backups / "postgres" / f"postgres-{site.points[-1]}.dump"
    dump.write_bytes(dump.read_bytes().replace(b"PGDMP", b"PGDMP", 1)[:-1] + b"X")
    told = json.loads(site.manifest("postgres").read_text())
    told["artifact"].update(digest(dump))
    site.manifest("postgres").write_bytes(encode(told))
    log = tmp_path / "calls"
    shim("docker", tmp_path / "bin", monkeypatch, f'echo "$@" >>{log}; exec REAL "$@"')
    for work in (
        lambda: site.restore(point=site.points[-1]),
        lambda: site.restore(True, point=site.points[-1]),
        lambda: site.stack.verify(site.backups, point=site.points[-1], **site.signed),
        lambda: drill.drill(site.params(arguments.BACKUP_DRILL, point=site.points[-1])),
    ):
        with pytest.raises(BackupError, match="its signature is not of what it says: .*docs/signing.md"):
            work()
    assert "pg_restore" not in log.read_text() and "redis-check-rdb" not in log.read_text()
    assert site.holds() == ("3", "3")
    report = site.restore()
    assert site.holds() == ("1", "1") and report["point"] == site.points[0]
    assert any(site.points[-1] in note and "not usable" in note for note in report["notes"])


def test_points_from_before_signing_are_restored_when_that_is_said(site):
    for path in site.backups.glob("*/*.sig"):
        path.unlink()
    with pytest.raises(BackupError, match="no recovery point that can be trusted.*it is not signed.*this once with -e"):
        site.restore()
    site.restore(allowed_signers=[])
    assert site.holds() == ("2", "2")


def test_a_restore_that_could_not_sign_its_safety_backup_touches_nothing(site):
    with pytest.raises(BackupError, match="backup_allowed_signers is set and backup_sign_key is not"):
        site.restore(sign_key=None)
    assert site.holds() == ("3", "3")
    site.restore(sign_key=None, safety_backup=False)  # as on a new machine, which has no key yet
    assert site.holds() == ("2", "2")


def test_the_way_back_of_in_place_does_not_read_what_was_planted(site):
    report = site.restore(restore_method="in_place")
    safety = site.manifest("postgres", report["safety_point"])
    signature = signature_path(safety).read_bytes()
    signature_path(safety).unlink()
    with pytest.raises(BackupError, match="it is not signed"):
        site.restore(action="back", safety_backup=False)
    assert site.holds() == ("2", "2")
    signature_path(safety).write_bytes(signature)
    site.restore(action="back", safety_backup=False)
    assert site.holds() == ("3", "3")


# --- backups ----------------------------------------------------------------------------------------------------------


def files(folder):
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".lock" and path.is_file()
    )


def test_without_its_key_a_backup_fails_and_nothing_is_published(stack, key, signed, tmp_path):
    gone = {**signed, "sign_key": str(tmp_path / "gone")}
    (tmp_path / "b").mkdir()
    assert "can't be read" in str(stack.fail(tmp_path / "b", [PG, REDIS], **gone))
    assert "can't be read" in str(stack.fail(tmp_path / "b", [PG, REDIS], check_mode=True, **gone))
    locked = Pair(tmp_path, "locked", passphrase="secret word")
    assert "has a passphrase" in str(stack.fail(tmp_path / "b", [REDIS], sign_key=str(locked.file)))
    assert files(tmp_path / "b") == []


def test_a_key_that_fails_in_the_middle(stack, signed, tmp_path, monkeypatch):
    """Signing worked when it was tried: the chain's begin and one manifest, and no more."""
    sign, calls = signing.Key.sign, []

    def failing(self, data):
        calls.append(data)
        if len(calls) > 3:
            raise BackupError("ssh-keygen does not sign with backup_sign_key: gone")
        return sign(self, data)

    monkeypatch.setattr(signing.Key, "sign", failing)
    with pytest.raises(BackupError, match="would not be missed if it went|ssh-keygen does not sign"):
        stack.take(tmp_path, [PG, REDIS], **signed)
    monkeypatch.undo()
    found = catalog.read(tmp_path, "test", signers=signing.signers_of(signed))
    assert not [item for item in found.problems if item["problem"] in UNTRUSTED]
    assert not list(tmp_path.rglob("*.partial")) and len(list(tmp_path.rglob("*.dump"))) < 2
    assert stack.take(tmp_path, [PG, REDIS], **signed)["complete"]
    assert catalog.read(tmp_path, "test", signers=signing.signers_of(signed)).problems == []


@pytest.mark.parametrize(
    "patch",
    [
        "from stack_backup import chain\nimport os\nchain.extend = lambda *a, **b: os._exit(9)",
        "import os\npoint.Partial.publish = lambda *a, **b: os._exit(9)",
        "import os\nfrom stack_backup import artifact\nartifact.Partial.discard = lambda *a: os._exit(9)\n"
        "rename = artifact.Path.rename\n"
        "artifact.Path.rename = lambda self, to: os._exit(9) if to.suffix == '.json' else rename(self, to)",
    ],
    ids=["published-not-listed", "begun-not-published", "signature-without-manifest"],
)
def test_a_crash_is_no_alarm(stack, signed, tmp_path, patch):
    trust = signing.signers_of(signed)
    died = job(stack.params(tmp_path, [REDIS], **signed), patch)
    died.communicate()
    assert died.returncode == 9
    found = catalog.read(tmp_path, "test", signers=trust)
    assert not [item for item in found.problems if item["problem"] in UNTRUSTED], found.problems
    assert stack.take(tmp_path, [REDIS], **signed)["complete"]
    assert not [item for item in catalog.read(tmp_path, "test", signers=trust).problems if item["problem"] in UNTRUSTED]


def test_one_store_by_its_own_module_is_signed_too(stack, signed, tmp_path):
    from stack_backup.modules import MODULES

    one = {"stack": "test", "backup_dir": str(tmp_path), "name": "redis", "container": stack.name("redis7"), **signed}
    done = MODULES["redis_dump"].run(params(arguments.REDIS_DUMP, **one))
    found = catalog.read(tmp_path, "test", signers=signing.signers_of(signed))
    assert found.problems == [] and list(found.chain.points) == [done["id"]]


# --- the front doors --------------------------------------------------------------------------------------------------


def test_the_host_command_signs_checks_and_tells(stack, key, signed, tmp_path):
    host = Host(stack, tmp_path)
    common = {"stack": "test", "backup_dir": str(host.backups)}
    host.jobs["backup"][0][1].update(signed)
    host.jobs["backup"][1][1].update(signed)
    host.jobs["verify"][0][1].update(allowed_signers=signed["allowed_signers"])
    host.jobs["prune"] = [["backup_prune", {**common, "keep_last": 1, "keep_daily": 0, "keep_weekly": 0,
                                            "keep_monthly": 0, **signed}]]  # fmt: skip
    check = {"allowed_signers": signed["allowed_signers"], "schedule_file": str(tmp_path / "none")}
    host.jobs["check"] = [["stack_check", {**common, **check, "min_free_share": 0}]]
    host.write(host.jobs)
    points = []
    for _ in range(3):
        assert host("run", "backup")[0] == 0
        points.append(host.json("status")["latest"])
    assert host("run", "prune")[0] == 0
    assert host("verify")[0] == 0
    code, said, _err = host("check")
    assert "OK signatures: all 1 recovery points are signed, and none is missing" in said, said
    assert host("list")[1].count("PROBLEM") == 0 and host.json("list")["points"][0]["backups"][0]["signed"]

    assert host("run", "backup")[0] == 0
    newest = host.json("status")["latest"]
    for path in host.backups.glob(f"*/*{newest}*"):
        path.unlink()
    assert f"postgres-{newest}.json: is gone, and no prune removed it" in host("list")[1]
    code, said, _err = host("check")
    assert code == 2 and "CRITICAL signatures: " in said and newest in said
    signature_path(host.backups / "redis" / f"redis-{points[-1]}.json").unlink()
    for command in (["verify"], ["restore-help"], ["restore-help", "--point", points[-1]]):
        code, said, err = host(*command)
        assert code and "it is not signed, as backup_allowed_signers asks for" in said + err, command


def play(stack, folder, name, stores, given, *args, fails=False):
    hosts = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "stack_name": "test",
        "stack_backup_dir": str(folder / "backups"),
        "stack_project_dir": str(stack.folder),
        "stack_project_name": PROJECT,
        "stack_stores": stores,
        "stack_dependents": [],
        "backup_report_dir": str(folder / "reports"),
        **given,
    }
    (folder / "hosts.yml").write_text(yaml.safe_dump({"stacks": {"hosts": {"test": {}}, "vars": hosts}}))
    env = {**os.environ, "ANSIBLE_HOME": str(folder / "ansible"), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    argv = ["ansible-playbook", "-i", str(folder / "hosts.yml"), f"playbooks/{name}.yml", *args]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


def test_the_playbooks_sign_and_refuse(site, key, tmp_path):
    """Backup, prune, status and restore by the inventory's two variables."""
    given = {"backup_sign_key": str(key.file), "backup_allowed_signers": [f"test {key.public}"]}

    def run(name, *args, **more):
        return play(site.stack, tmp_path, name, site.stores, given, *args, **more)

    run("backup")
    newest = catalog.read(site.backups, "test").choose("latest")
    assert newest not in site.points
    run("verify")
    assert "are signed, and none is missing" in run("status", "-e", "monitor_min_free_share=0")
    run("restore", "-e", "restore_confirm=test")
    assert site.holds() == ("3", "3")
    signature_path(site.manifest("redis", newest)).unlink()
    said = run("restore", "-e", "restore_confirm=test")
    assert site.holds() == ("2", "2") and "it is not signed, as backup_allowed_signers asks for" in said
    said = run("restore", "-e", "restore_confirm=test", "-e", f"restore_point={newest}", fails=True)
    assert "it is not signed" in said and site.holds() == ("2", "2")
    asked = ["-e", "restore_confirm=test", "-e", f"restore_point={newest}"]
    run("restore", *asked, "-e", '{"backup_allowed_signers": []}')
    assert site.holds() == ("3", "3")
    said = run("prune", "-e", "retention_keep_last=1", fails=True)
    assert f"recovery point {newest} is the newest of its stores and not good: store redis is not signed" in said
