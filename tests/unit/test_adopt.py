"""Which dumps are one recovery point and what it is called; what a manifest may tell of an adopted one."""

import calendar
import json
import time
from pathlib import Path

import pytest
from stack_backup import adopt, catalog, manifest
from stack_backup.errors import BackupError
from stack_backup.postgres.adopt import _version
from stack_backup.stores import Store
from test_catalog import POINT, publish

STORES = {engine: Store(name=engine, engine=engine, service=engine) for engine in ("postgres", "redis")}
GOOD = Path(__file__).resolve().parents[2] / "benchmarks" / "manifests" / "postgres.json"


def at(stamp):
    return float(calendar.timegm(time.strptime(stamp, "%Y%m%d-%H%M%S")))


def file(engine, pinned, name="dump"):
    return adopt._File(Path("/old") / name, STORES[engine], pinned=at(pinned))


@pytest.mark.parametrize(
    ("name", "pinned", "expected"),
    [
        ("postgres-20261124-021500.dump", "20261124-021502", "20261124-021500"),  # the script's own time
        ("postgres-20261124-031500.dump", "20261124-021502", "20261124-021502"),  # a clock an hour ahead of UTC
        ("postgres.dump", "20261124-021502", "20261124-021502"),
        ("postgres-20269999-999999.dump", "20261124-021502", "20261124-021502"),
    ],
)
def test_the_id_is_the_time_in_the_name_where_that_is_the_time_of_the_data(name, pinned, expected):
    assert adopt._id_of(file("postgres", pinned, name)) == expected


def test_the_catalogs_own_files_are_no_news(tmp_path):
    folder = tmp_path / "redis"
    publish(tmp_path)
    for name in (f"redis-{POINT}.verified.json", f"redis-{POINT}.json.sig", "old.rdb", "notes.txt"):
        (folder / name).write_text("{}")
    adoption = adopt._Adoption.__new__(adopt._Adoption)
    adoption._dir, adoption._params, adoption._others = tmp_path, {"paths": [str(tmp_path)]}, []
    adoption._catalog = catalog.read(tmp_path, "s")
    assert adoption._candidates() == [folder / "old.rdb"]
    assert adoption._passed == [str(folder / "notes.txt")]


def paired(*files, minutes=10):
    adoption = adopt._Adoption.__new__(adopt._Adoption)
    adoption._params = {"pair_minutes": minutes}
    return [[item.store.name for item in group] for group in adoption._paired(files)]


def test_dumps_of_one_run_are_one_point_and_no_others():
    night = file("postgres", "20261124-021500"), file("redis", "20261124-021900")
    assert paired(*reversed(night)) == [["postgres", "redis"]]
    assert paired(*night, minutes=3) == [["postgres"], ["redis"]]
    twice = file("postgres", "20261124-021500"), file("postgres", "20261124-021600"), file("redis", "20261124-021700")
    assert paired(*twice) == [["postgres"], ["postgres", "redis"]]
    lone = file("redis", "20261125-021500"), file("postgres", "20261126-021500")
    assert paired(*night, *lone) == [["postgres", "redis"], ["redis"], ["postgres"]]


@pytest.mark.parametrize(("text", "number"), [("17.6 (Debian 17.6-1)", 170006), ("10.3", 100003), ("9.6.24", 90624)])
def test_versions(text, number):
    assert _version(text) == number


@pytest.mark.parametrize("told", [{}, [], {"source": "/a"}, {"source": 1, "roles": []}, {"source": "/a", "roles": [1]}])
def test_what_a_manifest_tells_of_an_adopted_dump_is_looked_at(told):
    whole = json.loads(GOOD.read_text())
    manifest.require_whole({**whole, "adopted": {"source": "/old/a.dump", "roles": ["reader"]}}, "x")
    with pytest.raises(BackupError, match="adopted is of the wrong kind"):
        manifest.require_whole({**whole, "adopted": told}, "x")
