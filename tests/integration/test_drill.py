"""The drill proves that a backup restores, or says why it does not, and leaves nothing."""

import json
import shutil
import time

import pytest
from conftest import sh
from stack_backup import catalog
from stack_backup.errors import BackupError


@pytest.fixture(scope="module")
def taken(trading, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drill")
    trading.take(folder, quiesce=["orchestrator"])
    return folder


@pytest.fixture
def backups(taken, tmp_path):
    folder = tmp_path / "backups"
    shutil.copytree(taken, folder)
    return folder


def events(since, *filters):
    """What the engine did since then."""
    argv = [arg for value in filters for arg in ("--filter", value)]
    lines = sh(
        "docker",
        "events",
        "--since",
        f"{since:.3f}",
        "--until",
        f"{time.time():.3f}",
        *argv,
        "--format",
        "{{json .Actor}}",
    )
    return [json.loads(line) for line in lines.splitlines()]


@pytest.fixture(autouse=True)
def nothing_is_left(trading, backups):
    live, began = trading.containers(), time.time()
    yield
    label = f"label=stack-backup.dir={backups}"
    assert sh("docker", "ps", "-aq", "--filter", label) == ""
    made = {actor["ID"] for actor in events(began, "type=container", "event=create", label)}
    mounted = events(began, "type=volume", "event=mount")
    volumes = {actor["ID"] for actor in mounted if actor["Attributes"].get("container") in made}
    assert not volumes & set(sh("docker", "volume", "ls", "-q").split())
    assert trading.containers() == live


def verified(folder):
    points = catalog.info({"backup_dir": str(folder), "stack": "trading"})["points"]
    return {backup["store"]: backup["verified"] for backup in points[-1]["backups"]}


def test_a_good_point_restores_and_the_catalog_says_so(trading, backups):
    assert verified(backups) == {"postgres": None, "redis": None}
    report = trading.drill(backups)
    assert [store["ok"] for store in report["stores"]] == [True, True]
    told = verified(backups)
    assert told["postgres"]["ok"] and told["redis"]["ok"]
    rows = json.loads(next((backups / "postgres").glob("postgres-*[0-9].json")).read_text())["counts"]["rows"]
    assert told["postgres"]["checked"]["counts"]["rows"] == sum(rows.values()) > 0
    assert told["redis"]["checked"]["smoke"] == [{"query": "EXISTS orders", "answer": "1"}]
    plan = trading.restore(backups, True)
    assert set(plan["expected"]["drill_seconds"]) == {"postgres", "redis"}


@pytest.mark.parametrize(
    ("query", "store"),
    [
        ({"store": "postgres", "sql": "select count(*) from orders", "expect": "-1"}, "postgres"),
        ({"store": "redis", "command": "XLEN orders", "expect": "-1"}, "redis"),
        ({"store": "postgres", "sql": "select * from no_such_table"}, "postgres"),
    ],
)
def test_a_smoke_query_that_fails_fails_the_drill_and_is_remembered(trading, backups, query, store):
    with pytest.raises(BackupError, match="does not restore: .*(orders|no_such_table)"):
        trading.drill(backups, smoke_queries=[query], only=[store])
    assert verified(backups)[store]["ok"] is False


def test_rows_that_are_missing_are_noticed(trading, backups):
    path = next((backups / "postgres").glob("postgres-*[0-9].json"))
    manifest = json.loads(path.read_text())
    manifest["counts"]["rows"]["public.orders"] += 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(BackupError, match="public.orders has .* rows, was saved with"):
        trading.drill(backups, only=["postgres"])


def test_a_damaged_file_is_never_loaded(trading, backups):
    path = next((backups / "redis").glob("*.rdb"))
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    with pytest.raises(BackupError, match="is not what was written"):
        trading.drill(backups, only=["redis"])


def test_too_little_memory_is_told_and_not_held_against_the_backup(trading, backups):
    trading.drill(backups, only=["redis"])
    before = verified(backups)["redis"]
    with pytest.raises(BackupError, match="store redis could not be tried to the end: .*more memory than 6m"):
        trading.drill(backups, only=["redis"], memory="6m")
    assert verified(backups)["redis"] == before and before["ok"]
    assert not catalog.read(backups, "trading").fault(next(iter(catalog.read(backups, "trading").points)))


def test_an_unknown_store_or_point(trading, backups):
    with pytest.raises(BackupError, match="has no store gone"):
        trading.drill(backups, only=["gone"])
    with pytest.raises(BackupError, match="no recovery point 20200101-000000"):
        trading.drill(backups, point="20200101-000000")
