"""What the manual procedure made, by its own commands, becomes recovery points that restore; what is no dump is refused."""

import calendar
import json
import re
import shutil
import time
from pathlib import Path

import pytest
from conftest import PROJECT, answers, sh, until
from stack_backup import adopt, arguments, catalog, cli, drill, restore, signing, verify
from stack_backup.errors import BackupError

from tests.signers import Pair

PG, BARE, REDIS = (f"{PROJECT}-adopt-{name}" for name in ("pg", "bare", "redis"))
STORES = [
    {"name": "redis", "engine": "redis", "container": REDIS},
    {"name": "postgres", "engine": "postgres", "container": PG},
]
DATA = """
CREATE ROLE reader LOGIN; CREATE ROLE "odd ""owner'" NOLOGIN;
CREATE TABLE orders (id serial PRIMARY KEY, note text); GRANT SELECT ON orders TO reader;
INSERT INTO orders (note) SELECT md5(i::text) FROM generate_series(1, 5000) i;
CREATE TABLE odd (x int); ALTER TABLE odd OWNER TO "odd ""owner'"; INSERT INTO odd VALUES (1), (2);
ALTER DATABASE shop SET work_mem = '7MB'; COMMENT ON DATABASE shop IS 'the shop''s'; GRANT CONNECT ON DATABASE shop TO reader;
"""
ORDERS = "select count(*), md5(string_agg(o::text, ',' order by id)) from orders o"


def psql(container, sql, database="shop"):
    program = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "owner", "-d", database]
    return sh("docker", "exec", "-i", "-e", "PGPASSWORD=secret", container, *program, stdin=sql).strip()


def redis(*args):
    return sh("docker", "exec", REDIS, "redis-cli", *args).strip()


@pytest.fixture(scope="module", autouse=True)
def servers():
    names = (PG, BARE, REDIS)
    sh("docker", "rm", "-fv", *names, check=False)
    given = {"POSTGRES_PASSWORD": "secret", "POSTGRES_USER": "owner", "POSTGRES_DB": "shop"}
    environment = [part for name, value in given.items() for part in ("-e", f"{name}={value}")]
    try:
        for name in (PG, BARE):
            sh("docker", "run", "-d", "--name", name, *environment, "postgres:17")
        sh("docker", "run", "-d", "--name", REDIS, "-v", "/data", "redis:8.0")
        assert until(lambda: answers(PG) and answers(BARE))
        psql(PG, DATA)
        redis("mset", "a", "1", "b", "2")
        redis("xadd", "s", "1-1", "k", "v")
        yield
    finally:
        sh("docker", "rm", "-fv", *names)


def by_hand(folder, stamp=None, form="-Fc"):
    """The runbook's two scripts: dump in the container, copy out."""
    stamp = stamp or time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    dump, rdb = folder / "postgres" / f"postgres-{stamp}.dump", folder / "redis" / f"redis-{stamp}.rdb"
    for file in (dump, rdb):
        file.parent.mkdir(parents=True, exist_ok=True)
    sh("docker", "exec", PG, "sh", "-lc", f'pg_dump -U "$POSTGRES_USER" -d "$POSTGRES_DB" {form} -f /tmp/backup.dump')
    sh("docker", "cp", f"{PG}:/tmp/backup.dump", str(dump))
    sh("docker", "exec", PG, "rm", "-r", "/tmp/backup.dump")
    redis("SAVE")
    sh("docker", "cp", f"{REDIS}:/data/dump.rdb", str(rdb))
    return stamp, dump, rdb


@pytest.fixture(scope="module")
def made(tmp_path_factory, servers):
    """Files as the runbook leaves them: their folder, their time, the two files."""
    folder = tmp_path_factory.mktemp("by-hand")
    return folder, *by_hand(folder)


def params(backups, spec=arguments.BACKUP_ADOPT, **given):
    known = {name: option.get("default") for name, option in spec.items()}
    return {**known, "stack": "shop", "backup_dir": str(backups), "stores": STORES, "timeout": 240, **given}


def take(backups, *paths, **given):
    backups.mkdir(exist_ok=True)
    return adopt.adopt(params(backups, paths=[str(path) for path in paths], **given))


def look(path):
    info = path.stat()
    return path.read_bytes(), info.st_mode, info.st_mtime_ns, info.st_ino


def test_what_the_runbook_made_restores_after_the_data_is_lost(made, tmp_path):
    """In the very folder that is the backup folder now."""
    backups = tmp_path / "backups"
    shutil.copytree(made[0], backups)
    stamp = made[1]
    answer = take(backups, backups)
    assert [(point["id"], point["complete"]) for point in answer["points"]] == [(stamp, True)]
    (point,) = catalog.read(backups, "shop").points
    assert point == stamp and catalog.read(backups, "shop").problems == []
    assert verify.verify({"backup_dir": str(backups), "stack": "shop", "timeout": 60})["complete"]
    drilled = drill.drill(params(backups, arguments.BACKUP_DRILL, point="latest"))
    assert drilled["complete"] and all(store["ok"] for store in drilled["stores"])
    before = psql(PG, ORDERS)
    psql(PG, "drop table orders cascade; delete from odd")
    redis("FLUSHALL")
    report = restore.restore(params(backups, arguments.STACK_RESTORE, confirm="shop"))
    assert psql(PG, ORDERS) == before and psql(PG, "select count(*) from odd") == "2"
    assert redis("get", "b") == "2" and redis("xlen", "s") == "1"
    assert psql(PG, "select tableowner from pg_tables where tablename = 'odd'") == "odd \"owner'"
    assert (
        psql(PG, "show work_mem") == "7MB"
        and psql(PG, "select has_table_privilege('reader', 'orders', 'select')") == "t"
    )
    assert sum("adopted from" in note for note in report["notes"]) == 2
    restore.restore(params(backups, arguments.STACK_RESTORE, confirm="shop", action="drop"))
    with pytest.raises(BackupError, match="no dump is in"):  # all that is there is in the catalog
        take(backups, backups)


@pytest.mark.parametrize("in_place", [True, False])
def test_what_is_adopted_is_signed_as_what_is_made(made, tmp_path, in_place):
    pair = Pair(tmp_path)
    signed = {"sign_key": str(pair.file), "allowed_signers": [f"shop {pair.public}"]}
    backups = tmp_path / "backups"
    if in_place:
        shutil.copytree(made[0], backups)
    take(backups, backups if in_place else made[0], **signed)
    found = catalog.read(backups, "shop", signers=signing.signers_of(signed))
    assert found.problems == [] and found.choose("latest") == made[1]
    assert found.chain.points == found.manifests and len(found.manifests[made[1]]) == 2
    with pytest.raises(BackupError, match="backup_sign_key is not"):
        take(backups, made[0], **{**signed, "sign_key": None})


def test_a_server_that_lacks_the_roles_gets_them_without_a_login(made, tmp_path):
    take(tmp_path / "source", made[2])
    stores = [{**STORES[1], "container": BARE}]
    given = {"confirm": "shop", "source_dir": str(tmp_path / "source"), "stores": stores, "point": made[1]}
    (tmp_path / "backups").mkdir()
    report = restore.restore(params(tmp_path / "backups", arguments.STACK_RESTORE, **given))
    assert psql(BARE, ORDERS) == psql(PG, ORDERS)
    assert psql(BARE, "select rolcanlogin from pg_roles where rolname = 'reader'") == "f"
    assert any("'reader' are made without LOGIN" in note for note in report["notes"]), report["notes"]
    restore.restore(params(tmp_path / "backups", arguments.STACK_RESTORE, **{**given, "action": "drop"}))


def test_originals_stay_as_they_are_and_one_without_a_partner_is_incomplete(made, tmp_path):
    _folder, stamp, dump, rdb = made
    before = look(dump), look(rdb)
    backups = tmp_path / "backups"
    answer = take(backups, dump)
    assert [point["complete"] for point in answer["points"]] == [False]
    found = catalog.read(backups, "shop")
    assert not found.complete(stamp) and "no dump of redis" in found.fault(stamp)
    with pytest.raises(BackupError, match="no complete recovery point"):
        found.choose("latest")
    manifest = found.points[stamp]["postgres"].manifest
    assert manifest["server_version"] // 10000 == 17 and manifest["counts"]["rows"]["public.orders"] == 5000
    assert manifest["adopted"]["source"] == str(dump) and manifest["adopted"]["roles"] == [
        "odd \"owner'",
        "owner",
        "reader",
    ]
    again = take(backups, dump)
    assert not again["changed"] and again["there"] == [str(dump)]
    assert (look(dump), look(rdb)) == before
    assert (backups / "postgres" / dump.name).stat().st_ino != dump.stat().st_ino


def test_moved_ones_and_a_folder_of_the_directory_format(tmp_path):
    folder, backups = tmp_path / "old", tmp_path / "backups"
    _stamp, dump, rdb = by_hand(folder, "backup", "-Fd -j2")  # no time in its name: that of its content counts
    assert dump.is_dir()
    answer = take(backups, folder, move=True)
    (point,) = answer["points"]
    assert point["complete"] and abs(time.time() - _seconds(point["id"])) < 120
    assert not dump.exists() and not rdb.exists()
    assert catalog.read(backups, "shop").complete(point["id"])
    assert drill.drill(params(backups, arguments.BACKUP_DRILL, point="latest"))["complete"]


def test_an_original_that_can_not_be_removed_is_told_and_its_backup_stays(made, tmp_path, monkeypatch):
    """As on a medium that is mounted read-only."""
    backups, copy = tmp_path / "backups", tmp_path / "copy.rdb"
    shutil.copy(made[3], copy)
    real = Path.unlink

    def unlink(path, **options):
        if path == copy:
            raise OSError(30, "Read-only file system")
        real(path, **options)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(BackupError, match="is adopted, and can't be removed: Read-only file system") as caught:
        take(backups, copy, move=True)
    (point,) = caught.value.details["points"]
    assert "redis" in catalog.read(backups, "shop").points[point["id"]] and copy.exists()


def _seconds(point):
    return calendar.timegm(time.strptime(point, "%Y%m%d-%H%M%S"))


BAD = {
    "postgres/empty.dump": (lambda data: b"", "is empty"),
    "postgres/cut.dump": (lambda data: data[: len(data) // 2], "can't read it"),
    "postgres/page.dump": (lambda data: b"\n<!DOCTYPE html><html><body>502 Bad Gateway", "is a page of HTML"),
    "postgres/plain.dump": (lambda data: b"--\n-- PostgreSQL database dump\n--\n", "is plain SQL"),
    "postgres/noise.dump": (lambda data: b"\0" * 5000, "is neither an archive of pg_dump"),
    "postgres/zipped.dump": (lambda data: b"\x1f\x8b\x08rest", "is compressed by gzip"),
    "redis/cut.rdb": (lambda data: b"REDIS0011", "no RDB|ends in its head|redis-check-rdb refuses"),
}


def test_what_is_no_dump_is_refused_each_by_name_and_the_others_are_adopted(made, tmp_path, monkeypatch, capsys):
    folder, backups, etc = tmp_path / "old", tmp_path / "backups", tmp_path / "etc"
    shutil.copytree(made[0], folder)
    for name, (spoil, _why) in BAD.items():
        (folder / name).write_bytes(spoil(made[2].read_bytes()))
    whole = made[3].read_bytes()
    (folder / "redis" / "flipped.rdb").write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
    (folder / "redis" / "link.rdb").symlink_to(made[3])
    (folder / "README.txt").write_text("old dumps")
    for made_folder in (backups, etc):
        made_folder.mkdir()
    job = [["recovery_point", {"stack": "shop", "backup_dir": str(backups), "stores": STORES}]]
    (etc / "shop.json").write_text(json.dumps({"format": 1, "stack": "shop", "backup": job}))
    monkeypatch.setenv("STACK_BACKUP_ETC", str(etc))
    assert cli.main(["adopt", str(folder), "--check"]) == 1
    assert f"would adopt as recovery point {made[1]}, complete" in capsys.readouterr().out
    assert not (backups / "postgres").exists()
    assert cli.main(["adopt", str(folder)]) == 1
    said = capsys.readouterr().out
    print(said)
    assert f"adopted as recovery point {made[1]}, complete:" in said and "passed over: " in said
    refused = {
        Path(line.split()[1].rstrip(":")).name: line for line in said.splitlines() if line.startswith("REFUSED: ")
    }
    assert set(refused) == {Path(name).name for name in BAD if name != "redis/cut.rdb"} | {
        "cut.rdb",
        "flipped.rdb",
        "link.rdb",
    }
    for name, (_spoil, why) in BAD.items():
        line = next(line for line in said.splitlines() if f"{name}: " in line)
        assert re.search(why, line), line
    found = catalog.read(backups, "shop")
    assert list(found.points) == [made[1]] and found.complete(made[1]) and found.problems == []


def test_encrypted_where_the_stacks_backups_are(made, tmp_path):
    if not shutil.which("age-keygen"):
        pytest.skip("no age here")
    key = tmp_path / "key"
    sh("age-keygen", "-o", str(key))
    recipient = sh("age-keygen", "-y", str(key)).strip()
    backups = tmp_path / "backups"
    answer = take(backups, made[2], made[3], age_recipients=[recipient])
    assert answer["points"][0]["complete"]
    assert not [path for path in backups.rglob("*") if path.suffix in (".dump", ".rdb")]
    given = {"backup_dir": str(backups), "stack": "shop", "timeout": 60, "age_identity_file": str(key)}
    assert all(store["checked"]["structure"] for store in verify.verify(given)["stores"])


def test_a_dump_of_another_database_and_one_of_two_stores(made, tmp_path):
    sh("docker", "exec", PG, "pg_dump", "-U", "owner", "-Fc", "-f", "/tmp/other.dump", "postgres")
    other = tmp_path / "other.dump"
    sh("docker", "cp", f"{PG}:/tmp/other.dump", str(other))
    with pytest.raises(BackupError, match="is of database postgres, store postgres is shop"):
        take(tmp_path / "backups", other)
    second = {**STORES[1], "name": "second", "database": "postgres"}
    with pytest.raises(BackupError, match="may be of postgres, second: name one"):
        take(tmp_path / "backups", other, stores=[*STORES, second])
    answer = take(tmp_path / "backups", other, stores=[*STORES, second], only=["second"])
    assert answer["points"][0]["stores"][0]["store"] == "second" and not answer["points"][0]["complete"]
    assert any((tmp_path / "backups" / "second").iterdir())
