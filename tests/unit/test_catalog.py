"""What the catalog takes for a backup, and what it names as wrong."""

import json

import pytest
from stack_backup import catalog, report
from stack_backup.artifact import Lock, Partial, digest
from stack_backup.errors import BackupError

POINT = "20261124-020000"


def publish(folder, store="redis", engine="redis", stores=("redis",), point=POINT, stack="s", purpose="backup"):
    partial = Partial(folder, store, engine, point)
    partial.create()
    partial.artifact.write_bytes(b"data")
    sealed = partial.seal()
    manifest = {
        "format": 1,
        "stack": stack,
        "store": store,
        "engine": engine,
        "point": {"id": point, "stores": list(stores), "purpose": purpose},
        "artifact": {"name": partial.artifact.name, **sealed[partial.artifact.name]},
        "pin": {"at": "x"},
        "seconds": {"total": 1.0},
    }
    return partial.publish(manifest)


def problems(folder, stack="s"):
    return [(item["problem"], item["path"].rsplit("/", 1)[1]) for item in catalog.read(folder, stack).problems]


def test_a_published_backup_is_found_and_private(tmp_path):
    artifact = publish(tmp_path)
    found = catalog.read(tmp_path, "s")
    assert found.problems == []
    assert found.choose("latest") == POINT
    assert found.points[POINT]["redis"].report()["sha256"] == digest(artifact)["sha256"]
    assert {path.stat().st_mode & 0o777 for path in artifact.parent.iterdir()} == {0o600}
    assert artifact.parent.stat().st_mode & 0o777 == 0o700
    assert not list(artifact.parent.glob("*.partial"))


def test_a_backup_during_which_the_clock_was_set_back_is_one(tmp_path):
    path = publish(tmp_path).with_suffix(".json")
    manifest = json.loads(path.read_text())
    for seconds, told in ((-90000.0, []), (True, ["damaged"]), ("1", ["damaged"])):
        manifest["seconds"]["total"] = seconds
        path.write_text(json.dumps(manifest))
        assert [problem for problem, _path in problems(tmp_path)] == told


def test_a_backup_is_never_overwritten_nor_its_rest_removed(tmp_path):
    artifact = publish(tmp_path)
    with pytest.raises(BackupError, match="never overwritten"):
        Partial(tmp_path, "redis", "redis", POINT).create()
    assert artifact.read_bytes() == b"data"


def test_what_a_restore_saved_is_told_from_backups_and_is_never_the_newest(tmp_path):
    publish(tmp_path)
    publish(tmp_path, point="20261124-030000", purpose="safety")
    told = catalog.info({"backup_dir": str(tmp_path), "stack": "s"})
    assert told["latest"] == POINT == catalog.read(tmp_path, "s").choose("latest")
    _head, *rows = report.listing({**told, "offsite": {"points": {}}})
    assert [row[31:43].strip() for row in rows] == ["complete", "safety"], rows


def test_a_dump_of_other_scripts_under_our_names_is_told_with_what_to_do(tmp_path):
    publish(tmp_path)
    (tmp_path / "redis" / "redis-20261101-010203.rdb").write_bytes(b"data")
    (problem,) = catalog.read(tmp_path, "s").problems
    assert problem["problem"] == "orphaned" and "stack-backup adopt" in problem["message"]


def test_a_point_that_lacks_a_store_is_not_complete(tmp_path):
    publish(tmp_path, stores=("redis", "postgres"))
    found = catalog.read(tmp_path, "s")
    assert not found.complete(POINT)
    with pytest.raises(BackupError, match="no complete recovery point"):
        found.choose("latest")


def test_every_kind_of_damage_is_named(tmp_path):
    artifact = publish(tmp_path)
    other = publish(tmp_path, point="20261124-030000")
    manifest = other.with_suffix(".json")
    artifact.write_bytes(b"dat")
    (tmp_path / "redis" / "redis-20261124-040000.rdb").write_bytes(b"x")
    (tmp_path / "redis" / "redis-20261124-050000.partial").mkdir()
    (tmp_path / "redis" / "notes.txt").write_text("x")
    data = json.loads(manifest.read_text())
    data["artifact"]["name"] = "../../etc/passwd"
    manifest.write_text(json.dumps(data))
    (tmp_path / "redis" / "redis-20261124-060000.txt").write_text("x")
    (tmp_path / "redis" / ".redis-20261124-060000.verified.json.new").write_text("x")
    (tmp_path / "redis" / ".redis-20261124-060000.json.removed").write_text("x")
    assert sorted(problems(tmp_path)) == [
        ("damaged", "redis-20261124-020000.rdb"),
        ("damaged", "redis-20261124-030000.json"),
        ("foreign", "notes.txt"),
        ("foreign", "redis-20261124-060000.txt"),
        ("half-removed", ".redis-20261124-060000.json.removed"),
        ("half-written", ".redis-20261124-060000.verified.json.new"),
        ("half-written", "redis-20261124-050000.partial"),
        ("orphaned", "redis-20261124-040000.rdb"),
    ]
    manifest.write_text("{")
    assert ("damaged", "redis-20261124-030000.json") in problems(tmp_path)


def test_a_missing_artifact_a_link_and_another_stack(tmp_path):
    artifact = publish(tmp_path)
    assert problems(tmp_path, stack="t") == [("foreign", artifact.with_suffix(".json").name)]
    moved = artifact.rename(tmp_path.parent / f"{tmp_path.name}.rdb")
    assert problems(tmp_path) == [("orphaned", artifact.with_suffix(".json").name)]
    artifact.symlink_to(moved)
    assert problems(tmp_path) == [("orphaned", artifact.with_suffix(".json").name)]
    manifest = artifact.with_suffix(".json")
    manifest.symlink_to(manifest.rename(tmp_path.parent / f"{tmp_path.name}.json"))
    assert problems(tmp_path) == [("foreign", manifest.name)]


def test_one_job_at_a_time(tmp_path):
    with Lock(tmp_path), pytest.raises(BackupError, match="another job of this stack is running"), Lock(tmp_path):
        pass
    with Lock(tmp_path):
        pass


def test_the_backup_folder_must_be_there(tmp_path):
    with pytest.raises(BackupError, match="is missing: create it, or mount"):
        catalog.read(tmp_path / "gone")


def test_a_folder_has_the_digest_of_its_list(tmp_path):
    (tmp_path / "b").write_bytes(b"1")
    (tmp_path / "a").write_bytes(b"2")
    first = digest(tmp_path)
    assert (first["size"], sorted(first["files"])) == (2, ["a", "b"])
    (tmp_path / "a").write_bytes(b"3")
    assert digest(tmp_path)["sha256"] != first["sha256"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda it: it.update(globals={"name": "roles"}),
        lambda it: it["artifact"].update(files=["toc.dat"]),
        lambda it: it["artifact"].update(files={"toc.dat": {"size": 4}}),
        lambda it: it["artifact"].update(files={"../toc.dat": {"size": 4, "sha256": "x"}}),
        lambda it: it["point"].update(failed=["redis"]),
        lambda it: it.update(artifact="redis"),
    ],
    ids=["globals", "files", "file", "way-out", "failed", "artifact"],
)
def test_a_manifest_of_another_shape_is_damaged_and_hides_no_other(tmp_path, spoil):
    publish(tmp_path, point="20261123-020000")
    manifest = publish(tmp_path).with_suffix(".json")
    told = json.loads(manifest.read_text())
    spoil(told)
    manifest.write_text(json.dumps(told))
    found = catalog.read(tmp_path, "s")
    assert list(found.points) == ["20261123-020000"] and "can't be read" in found.fault(POINT)


def test_a_manifest_too_deep_to_be_read_is_damaged(tmp_path):
    publish(tmp_path).with_suffix(".json").write_text("[" * 100_000)
    assert "can't be read" in catalog.read(tmp_path, "s").fault(POINT)
