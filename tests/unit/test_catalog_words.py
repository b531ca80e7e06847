"""What the catalog says, to the word: of each thing that is wrong, of each choice, and of a backup itself."""

import gc
import json
import os
import shutil
from pathlib import Path

import pytest
from stack_backup import age, catalog, chain
from stack_backup.artifact import digest
from stack_backup.catalog import Backup, Catalog, Folder
from stack_backup.errors import BackupError
from stack_backup.process import Deadline
from stack_backup.signing import LARGEST, key_of, signature_path, signers_of
from test_catalog import POINT, publish

from tests.signers import Pair

GONE, OLDER, NEWER = "20261122-020000", "20261123-020000", "20261125-020000"


def change(backup, **fields):
    """Other fields in a backup's manifest: ``point__failed`` is ``failed`` within ``point``."""
    path = backup.with_suffix(".json")
    told = json.loads(path.read_text())
    for name, value in fields.items():
        *way, last = name.split("__")
        inner = told
        for part in way:
            inner = inner[part]
        inner[last] = value
    path.write_text(json.dumps(told))


def wrong(folder, **given):
    """Problem and message by the path below the backup folder."""
    found = catalog.read(folder, "s", **given).problems
    return {str(Path(item["path"]).relative_to(folder)): (item["problem"], item["message"]) for item in found}


def only(folder):
    (item,) = wrong(folder).items()
    return (item[0].partition("/")[2], *item[1])


# --- what is wrong ----------------------------------------------------------------------------------------------------


def test_what_lies_there_and_is_no_backup_is_named(tmp_path):
    redis = publish(tmp_path).parent
    for name in (f"redis-{OLDER}.partial", f"redis-{NEWER}.json"):
        (redis / name).mkdir()
    for name in (
        f".redis-{OLDER}.json.new",
        f".redis-{OLDER}.verified.json.new",
        f".redis-{GONE}.json.removed",
        f"redis-{OLDER}.rdb",
        f"redis-{OLDER}.rdb.age",
        f"redis-{OLDER}.globals.sql",
        f"redis-{OLDER}.json.sig",
        f"redis-{OLDER}.verified.json",
        f"postgres-{OLDER}.rdb",
        "no\nline",
        "é",
    ):
        (redis / name).write_text("x")
    (redis / f"redis-{OLDER}.dump").symlink_to("nowhere")
    os.mkfifo(redis / f"redis-{OLDER}.dump.age")
    (tmp_path / "notes").write_text("x")
    (tmp_path / "-rf").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "link").symlink_to("redis")
    alone = ("orphaned", "there is no manifest beside it")
    odd = ("foreign", "a link, a pipe or a device: not written by stack-backup")
    ours = ("foreign", "not written by stack-backup")
    job = ("half-written", "left by a job that did not end")
    assert wrong(tmp_path) == {
        "-rf": ("foreign", "not a store's folder"),
        "link": ("foreign", "not a store's folder"),
        "notes": ("foreign", "not a store's folder"),
        f"redis/.redis-{OLDER}.json.new": job,
        f"redis/.redis-{GONE}.json.removed": (
            "half-removed",
            "left by a removal that did not end: the next prune ends it",
        ),
        f"redis/.redis-{OLDER}.verified.json.new": job,
        "redis/no\\nline": ours,
        "redis/é": ours,
        f"redis/postgres-{OLDER}.rdb": ours,
        f"redis/redis-{OLDER}.dump": odd,
        f"redis/redis-{OLDER}.dump.age": odd,
        f"redis/redis-{OLDER}.globals.sql": alone,
        f"redis/redis-{OLDER}.json.sig": alone,
        f"redis/redis-{OLDER}.partial": ("half-written", "left by a backup that did not end"),
        f"redis/redis-{OLDER}.rdb": ("orphaned", f"{alone[1]}; if other scripts made it: stack-backup adopt"),
        f"redis/redis-{OLDER}.rdb.age": alone,
        f"redis/redis-{OLDER}.verified.json": alone,
        f"redis/redis-{NEWER}.json": ("foreign", "not a file: not written by stack-backup"),
    }
    found = catalog.read(tmp_path, "s")
    assert found.begun == {GONE} and list(found.points) == [POINT]
    assert {point: len(paths) for point, paths in found.leftovers.items()} == {GONE: 1, OLDER: 8}
    assert all(path.exists() for paths in found.leftovers.values() for path in paths)


def test_what_belongs_to_a_backup_is_no_rest_of_another(tmp_path):
    """A drill's result and roles beside their manifest are its own to tell; drafts and marks are not."""
    artifact = publish(tmp_path)
    for name in (f"redis-{POINT}.globals.sql", f"redis-{POINT}.verified.json", f"redis-{POINT}.json.sig"):
        (artifact.parent / name).write_text("{}")
    assert wrong(tmp_path) == {}
    (artifact.parent / f".redis-{POINT}.json.removed").write_text("x")
    (artifact.parent / f"redis-{POINT}.partial").mkdir()
    (artifact.parent / f".redis-{POINT}.json.new").write_text("x")
    assert [item[0] for item in wrong(tmp_path).values()] == ["half-written", "half-removed", "half-written"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"format": 2}, ("foreign", "the manifest is of format 2, this program reads 1")),
        ({"stack": "t"}, ("foreign", "the backup is of stack t, not s")),
        ({"store": "cache"}, ("damaged", "the manifest tells of another backup than its name does")),
        ({"point__id": OLDER}, ("damaged", "the manifest tells of another backup than its name does")),
        ({"engine": "mysql"}, ("damaged", "the manifest can't be read: KeyError 'mysql'")),
        (
            {"artifact__encryption": {"program": "gpg"}},
            ("foreign", "the backup is encrypted by gpg, this program knows age"),
        ),
    ],
)
def test_a_manifest_that_is_not_this_backups_says_why(tmp_path, fields, said):
    artifact = publish(tmp_path)
    change(artifact, **fields)
    assert only(tmp_path) == (f"redis-{POINT}.json", *said)
    found = catalog.read(tmp_path, "s")
    told = f"redis-{POINT}.json: {said[1]}"
    assert found.unreadable == ({POINT: told} if said[0] == "damaged" else {}) and not found.points
    assert catalog.read(tmp_path).points if "stack" in fields else True


def test_files_that_are_not_as_their_manifest_says(tmp_path):
    artifact = publish(tmp_path)
    artifact.write_bytes(b"dat")
    name = artifact.name
    assert only(tmp_path) == (name, "damaged", f"{name} has 3 bytes, its manifest says 4")
    found = catalog.read(tmp_path, "s")
    assert list(found.broken[POINT]) == ["redis"] and found.fault(POINT) == "store redis is damaged"
    artifact.unlink()
    assert only(tmp_path) == (f"redis-{POINT}.json", "orphaned", f"{name} is missing beside its manifest")


def test_files_of_a_folder_that_are_not_as_their_manifest_says(tmp_path):
    artifact = publish(tmp_path)
    artifact.unlink()
    artifact.mkdir()
    for name in ("1.dat", "2.dat"):
        (artifact / name).write_bytes(b"1234")
    (artifact / "0.dat").touch()
    change(artifact, artifact={"name": artifact.name, **digest(artifact)})
    assert wrong(tmp_path) == {}
    (artifact / "empty").touch()  # what a file system leaves; nothing is in it
    assert wrong(tmp_path) == {}
    (artifact / "mo\nre").write_bytes(b"x")
    assert only(tmp_path)[2] == "mo\\nre is not of the dump that it lies in"
    (artifact / "2.dat").write_bytes(b"123")
    assert only(tmp_path)[2] == "2.dat has 3 bytes, its manifest says 4"
    (artifact / "2.dat").unlink()
    assert only(tmp_path)[2] == "2.dat is missing"
    (artifact / "2.dat").symlink_to("1.dat")
    assert only(tmp_path) == (artifact.name, "damaged", "2.dat is not a file")


def test_what_lies_beside_a_manifest_counts_when_it_is_a_file_of_its_own(tmp_path):
    artifact = publish(tmp_path)
    manifest = artifact.with_suffix(".json")
    signature, drill = signature_path(manifest), catalog.verified_path(manifest)
    for size, told in ((LARGEST, LARGEST), (LARGEST + 1, None), (0, 0)):
        signature.write_bytes(b"x" * size)
        assert catalog.read(tmp_path, "s").points[POINT]["redis"].signature == told
    for path in (signature, drill):
        (tmp_path / path.name).write_text('{"ok": false}')
        path.unlink(missing_ok=True)
        path.symlink_to(tmp_path / path.name)
    backup = catalog.read(tmp_path, "s").points[POINT]["redis"]
    assert backup.signature is None and backup.verified is None


def test_all_places_are_looked_at_after_one_that_is_wrong(tmp_path):
    for store in ("b", "d"):
        publish(tmp_path, store=store)
    for name in ("a", "c"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".first").mkdir()
    found = catalog.read(tmp_path, "s")
    assert list(found.points[POINT]) == ["b", "d"] and len(found.problems) == 2


class Refusing(Folder):
    """What a store "a" that belongs to somebody else is like."""

    def kinds(self, folder):
        if folder.name == "a":
            raise PermissionError(13, "Permission denied")
        return super().kinds(folder)

    def content(self, path):
        if path.parent.name == "b":
            raise PermissionError(13, "Permission denied")
        return super().content(path)


def test_what_can_not_be_read_is_damaged_and_hides_no_other(tmp_path):
    for store in ("a", "b", "redis"):
        publish(tmp_path, store=store)
    found = catalog.read_of(Refusing(tmp_path), "s")
    assert list(found.points[POINT]) == ["redis"]
    said = "the manifest can't be read: PermissionError [Errno 13] Permission denied"
    assert found.unreadable == {POINT: f"b-{POINT}.json: {said}"} and found.problems == [
        {"path": str(tmp_path / "a"), "problem": "damaged", "message": "the folder can't be read: Permission denied"},
        {"path": f"{tmp_path}/b/b-{POINT}.json", "problem": "damaged", "message": said},
    ]


def test_points_come_in_order_of_time_whatever_their_stores(tmp_path):
    publish(tmp_path, store="a", point=NEWER)
    publish(tmp_path, store="b", point=OLDER)
    publish(tmp_path, store="c", point=POINT)
    assert list(catalog.read(tmp_path, "s").points) == [OLDER, POINT, NEWER]


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(tmp_path, enabled):
    seen = []

    class Watched(Folder):
        def kinds(self, folder):
            seen.append(gc.isenabled())
            return super().kinds(folder)

    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        catalog.read_of(Watched(tmp_path))
        assert gc.isenabled() is enabled and seen == [False]
        with pytest.raises(OSError):
            catalog.read_of(Watched(tmp_path / "gone"))
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


# --- what is asked of a folder ----------------------------------------------------------------------------------------


def test_what_a_folder_answers(tmp_path):
    where = Folder(tmp_path)
    (tmp_path / "file").write_bytes(b"1234")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "one").write_bytes(b"1")
    (tmp_path / "inside" / "link").symlink_to("one")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "way").symlink_to("inside")
    os.mkfifo(tmp_path / "pipe")
    assert where.kinds(tmp_path) == {
        "file": "file",
        "inside": "folder",
        "link": "other",
        "way": "other",
        "pipe": "other",
    }
    assert where.sizes(tmp_path / "file") == {"file": 4}
    assert where.sizes(tmp_path / "inside") == {"one": 1, "link": -1}
    assert [where.sizes(tmp_path / name) for name in ("link", "way", "pipe", "gone")] == [None] * 4
    assert where.text(tmp_path / "file") == "1234" and where.content(tmp_path / "file") == b"1234"
    assert [where.small(tmp_path / "file", size) for size in (3, 4, 5)] == [b"", b"1234", b"1234"]
    assert where.small(tmp_path / "pipe", 5) == b""
    with pytest.raises(OSError):
        where.small(tmp_path / "link", 5)


def test_names():
    manifest = Path(f"/b/redis/redis-{POINT}.json")
    assert catalog.verified_path(manifest) == Path(f"/b/redis/redis-{POINT}.verified.json")
    assert catalog.removed_name(manifest.name) == f".redis-{POINT}.json.removed"
    for ending in (".rdb", ".rdb.age", ".dump", ".dump.age", ".globals.sql", ".globals.sql.age"):
        assert catalog.stem(f"a-b-{POINT}{ending}") == f"a-b-{POINT}"
    for name in (f"redis-{POINT}.json", f"redis-{POINT}.rdb.gz", "redis.rdb", f"{POINT}.rdb", f"redis-{POINT}xrdb"):
        assert catalog.stem(name) == ""
    assert catalog.ids_in(f"/20200101-000000/redis-{POINT}-{NEWER}.rdb") == [POINT, NEWER]


# --- a backup ---------------------------------------------------------------------------------------------------------


def described(path, **fields):
    artifact = {"name": path.name, "size": 4, "sha256": "a" * 64}
    manifest = {"engine": "redis", "artifact": artifact, "pin": {"at": "then"}, "seconds": {"total": 1.5}, **fields}
    return Backup("redis", POINT, path, manifest)


def test_a_backup_in_a_persons_terms(tmp_path):
    path = tmp_path / f"redis-{POINT}.rdb"
    plain = described(path)
    told = {
        "store": "redis",
        "engine": "redis",
        "file": str(path),
        "size": 4,
        "sha256": "a" * 64,
        "encrypted": False,
        "signed": False,
        "pinned_at": "then",
        "seconds": 1.5,
        "verified": None,
    }
    assert plain.report() == told and plain.size == 4 and plain.files() == {path: plain.manifest["artifact"]}
    roles = {"size": 5, "sha256": "b" * 64}
    sealed = described(path, globals=roles)
    sealed.manifest["artifact"]["encryption"] = {"plain": {"size": 3}}
    assert sealed.report() == {**told, "encrypted": True} and sealed.size == 3
    assert sealed.files() == {
        path: sealed.manifest["artifact"],
        path.with_name(f"redis-{POINT}.globals.sql.age"): roles,
    }
    assert Backup("redis", POINT, path, plain.manifest, {"ok": True}, signature=0).report() == {
        **told,
        "signed": True,
        "verified": {"ok": True},
    }
    with pytest.raises(BackupError) as caught:
        sealed.key()
    assert str(caught.value) == (
        f"{path} is encrypted: give the identity that decrypts it (age_identity; restore_age_identity, verify_age_identity)"
    )


def test_the_head_of_a_backup(tmp_path):
    path = tmp_path / "it.rdb"
    path.write_bytes(b"x" * 65536 + b"y")
    assert described(path).head(Deadline(5)) == b"x" * 65536
    path.unlink()
    with pytest.raises(BackupError, match="/it.rdb can't be read: No such file or directory$"):
        described(path).head(Deadline(5))


def test_the_roles_of_a_backup(tmp_path):
    backup = described(tmp_path / f"redis-{POINT}.rdb", globals={"size": 5})
    assert described(backup.artifact).globals(Deadline(5)) is None
    path = tmp_path / f"redis-{POINT}.globals.sql"
    with pytest.raises(BackupError, match=f"^{path} can't be read: .*No such file"):
        backup.globals(Deadline(5))
    path.write_bytes("create role é;".encode())
    assert backup.globals(Deadline(5)) == "create role é;"
    path.write_bytes(b"-" * (33 * 1024 * 1024))  # more than a manifest may have
    assert len(backup.globals(Deadline(5))) == 33 * 1024 * 1024
    path.write_bytes("create role é;".encode("latin-1"))
    with pytest.raises(BackupError) as caught:
        backup.globals(Deadline(5))
    assert str(caught.value) == (
        f"{path} is not in UTF-8: convert it, client_encoding in it too, or create its roles by hand"
    )


@pytest.mark.parametrize("sealed", [False, True])
def test_too_many_roles_are_refused_before_they_are_read(tmp_path, sealed):
    most = 128 * 1024 * 1024
    for size, said in (
        (most, "can't be read|give the identity"),
        (most + 1, f"more than {most} bytes of roles: create"),
    ):
        roles = {"size": 1, "encryption": {"plain": {"size": size}}} if sealed else {"size": size}
        backup = described(tmp_path / f"redis-{POINT}.rdb", globals=roles)
        if sealed:
            backup.manifest["artifact"]["encryption"] = {"plain": {"size": 1}}
        with pytest.raises(BackupError, match=said):
            backup.globals(Deadline(5))


# --- choices ----------------------------------------------------------------------------------------------------------


def fault_of(found):
    with pytest.raises(BackupError) as caught:
        found.choose("latest")
    return str(caught.value)


def test_what_there_is_to_choose(tmp_path):
    fetch = "fetch one (-e restore_from=offsite), or, if nothing is lost, take one (playbooks/backup.yml)"
    assert fault_of(catalog.read(tmp_path, "s")) == f"there is no complete recovery point here; {fetch}"
    for point in (OLDER, POINT):
        publish(tmp_path, point=point, stores=("redis", "postgres"))
    assert fault_of(catalog.read(tmp_path, "s")) == (
        f"there is no complete recovery point here; {POINT} has redis only: restore that by its id, with restore_stores; {fetch}"
    )
    publish(tmp_path, store="postgres", engine="postgres", stores=("redis", "postgres"), point=OLDER)
    found = catalog.read(tmp_path, "s")
    assert found.choose("latest") == OLDER and found.choose(POINT) == POINT
    assert found.passed_over(OLDER) == [f"the newer recovery point {POINT} is incomplete"]
    with pytest.raises(BackupError) as caught:
        found.choose(NEWER)
    assert str(caught.value) == (
        f"there is no recovery point {NEWER}: newest are {OLDER}, {POINT} (stack-backup list shows all, also those offsite)"
    )
    with pytest.raises(BackupError, match=f"no recovery point {NEWER}: newest are none "):
        Catalog().choose(NEWER)


def test_a_point_that_was_chosen_is_not_passed_over(tmp_path):
    stores = ("redis", "postgres", "cache")
    for point in (OLDER, POINT, NEWER):
        for store in ("redis", "cache"):
            publish(tmp_path, store=store, point=point, stores=stores)
    (tmp_path / "redis" / f"redis-{NEWER}.partial").mkdir()
    found = catalog.read(tmp_path, "s")
    assert found.passed_over(NEWER) == [] and len(found.passed_over(POINT)) == 2
    assert fault_of(found).startswith(f"there is no complete recovery point here; {NEWER} has cache, redis only: ")


def test_points_that_nobody_signed_are_named_by_what_is_wrong_with_them():
    found = Catalog(
        untrusted={point: dict.fromkeys(("redis", "postgres")) for point in (NEWER, OLDER)},
        problems=[
            {"path": f"/b/redis/redis-{point}.json", "problem": problem, "message": f"{problem} {point}"}
            for point in (OLDER, NEWER)
            for problem in ("damaged", "untrusted", "removed")
        ],
    )
    assert found.fault(NEWER) == "store postgres, redis is not signed by who may sign"
    said = f"recovery point {NEWER}: /b/redis/redis-{NEWER}.json: untrusted {NEWER}"
    assert fault_of(found) == f"there is no recovery point that can be trusted; the newest: {said}"
    with pytest.raises(BackupError) as caught:
        found.choose(NEWER)
    assert str(caught.value) == said


def test_the_newest_three_are_named(tmp_path):
    points = [f"2026112{day}-020000" for day in range(5)]
    for point in points:
        publish(tmp_path, point=point)
    with pytest.raises(BackupError, match=f"newest are {', '.join(points[2:])} "):
        catalog.read(tmp_path, "s").choose(POINT[:-1] + "9")


def test_what_is_passed_over_is_newer_and_no_choice(tmp_path):
    publish(tmp_path)
    safety = publish(tmp_path, point="20261125-030000", stores=("redis", "postgres"))
    change(safety, point__purpose="safety")
    (tmp_path / "redis" / f"redis-{NEWER}.rdb").write_text("x")
    (tmp_path / "redis" / f"redis-{OLDER}.rdb").write_text("x")
    (tmp_path / "redis" / f"redis-{NEWER}.txt").write_text("x")
    found = catalog.read(tmp_path, "s")
    assert found.passed_over(POINT) == [
        f"newer, and not usable: {tmp_path}/redis/redis-{NEWER}.rdb: there is no manifest beside it; "
        "if other scripts made it: stack-backup adopt"
    ]
    assert found.safety("20261125-030000") and not found.safety(POINT) and not found.safety("gone")
    whole = publish(tmp_path, point="20261125-040000")
    change(whole, point__purpose="safety")
    assert catalog.read(tmp_path, "s").choose("latest") == POINT


def test_why_a_point_is_not_good(tmp_path):
    both = ("redis", "postgres")
    artifact = publish(tmp_path, stores=both)
    assert catalog.read(tmp_path, "s").fault(POINT) == "incomplete, store postgres is missing"
    change(artifact, point__failed={"postgres": "store postgres failed: no space"})
    assert catalog.read(tmp_path, "s").fault(POINT) == "incomplete, store postgres failed: no space"
    publish(tmp_path, store="postgres", engine="postgres", stores=both)
    assert catalog.read(tmp_path, "s").fault(POINT) == ""
    drill = catalog.verified_path(artifact.with_suffix(".json"))
    for ok, said in ((False, "store redis did not restore in its drill"), (True, "")):
        drill.write_text(json.dumps({"ok": ok}))
        assert catalog.read(tmp_path, "s").fault(POINT) == said
    for nonsense in ("{", "[]", '{"ok": 1}', "\udcff"):
        drill.write_bytes(nonsense.encode("utf-8", "surrogateescape"))
        assert catalog.read(tmp_path, "s").points[POINT]["redis"].verified is None
    drill.unlink()
    drill.mkdir()
    assert catalog.read(tmp_path, "s").fault(POINT) == ""
    shutil.rmtree(tmp_path / "postgres")
    publish(tmp_path, store="more")  # one that the point was not taken of is judged too
    (tmp_path / "more" / f"more-{POINT}.rdb").write_bytes(b"x")
    assert catalog.read(tmp_path, "s").fault(POINT) == "store more is damaged"


def test_the_catalog_as_data(tmp_path):
    assert catalog.info({"backup_dir": str(tmp_path)}) == {
        "changed": False,
        "points": [],
        "latest": None,
        "problems": [],
    }
    for point in (GONE, OLDER, POINT):
        publish(tmp_path, point=point)
    publish(tmp_path, point=NEWER, stores=("redis", "postgres"))
    (tmp_path / "notes").write_text("x")
    found = catalog.read(tmp_path, "s")
    told = catalog.info({"backup_dir": str(tmp_path), "stack": "s"})
    assert told == {
        "changed": False,
        "points": [
            {
                "id": point,
                "complete": point != NEWER,
                "safety": False,
                "backups": [found.points[point]["redis"].report()],
            }
            for point in (GONE, OLDER, POINT, NEWER)
        ],
        "latest": POINT,
        "problems": found.problems,
    }
    assert catalog.info({"backup_dir": str(tmp_path), "stack": "other"})["points"] == []


# --- signatures -------------------------------------------------------------------------------------------------------


def test_what_is_said_where_signatures_are_asked_for(tmp_path):
    backups = tmp_path / "backups"
    backups.mkdir()
    mine, theirs = Pair(tmp_path, "mine"), Pair(tmp_path, "theirs")
    given = {"stack": "s", "backup_dir": str(backups), "allowed_signers": [mine.public], "sign_key": str(mine.file)}
    key, signers = key_of(given), signers_of(given)
    third = "20261126-020000"
    manifests = {point: publish(backups, point=point).with_suffix(".json") for point in (OLDER, POINT, NEWER, third)}
    mine.sign(manifests[OLDER])
    theirs.sign(manifests[NEWER])
    mine.sign(manifests[third])
    manifests[third].with_suffix(".rdb").write_bytes(b"x")
    broken = ("damaged", f"redis-{third}.rdb has 1 bytes, its manifest says 4")
    cure = (
        ": if you know who wrote it, such as for a backup from before signing, sign it (docs/signing.md), or "
        "restore it this once with -e '{\"backup_allowed_signers\": []}'"
    )
    told = wrong(backups, signers=signers)
    other = told.pop(f"redis/redis-{NEWER}.json")
    assert (
        other[0] == "untrusted" and other[1].startswith("it is signed by the key SHA256:") and other[1].endswith(cure)
    )
    assert told == {
        f"redis/redis-{POINT}.json": ("untrusted", f"it is not signed, as backup_allowed_signers asks for{cure}"),
        f"redis/redis-{third}.rdb": broken,
        ".chain.json": (
            "unchained",
            "the chain of recovery points is missing, which shows when one is taken away: the next backup begins it anew",
        ),
    }
    found = catalog.read(backups, "s", signers=signers)
    assert list(found.points) == [OLDER] and list(found.broken) == [third] and found.chain is None
    assert {point: list(stores) for point, stores in found.untrusted.items()} == {POINT: ["redis"], NEWER: ["redis"]}
    assert all(backup.manifest for stores in found.untrusted.values() for backup in stores.values())
    hashes = {point: {"redis": digest(path)["sha256"]} for point, path in manifests.items()}
    assert found.manifests == hashes and catalog.read(backups, "s").manifests == {}
    chain.extend(backups, "s", key, 1.0, hashes)
    found = catalog.read(backups, "s", signers=signers)
    assert found.chain.points == hashes and len(found.problems) == 3
    identity = age.Identity("AGE-SECRET-KEY-1X")
    assert catalog.read(backups, "s", identity, signers).points[OLDER]["redis"].identity is identity
    found = catalog.read(backups, "t", signers=signers)
    assert not found.points and [item["message"] for item in found.problems] == [
        *["the backup is of stack s, not t"] * 4,
        "the chain of recovery points is of stack s, not t",
    ]
    manifests[OLDER].unlink()
    told = wrong(backups, signers=signers)
    assert told[f"redis/redis-{OLDER}.json"] == (
        "removed",
        "is gone, and no prune removed it: see who did; the remote may have a copy",
    )
    assert told[f"redis/redis-{third}.rdb"] == broken and ".chain.json" not in told
    (backups / ".chain.json").write_text("{}")
    assert wrong(backups, signers=signers)[".chain.json"] == (
        "untrusted",
        "the chain of recovery points is not as stack-backup writes it: KeyError 'list'",
    )
    assert catalog.info({**given, "stack": "s"})["points"] == []


def test_who_signs_does_so_for_a_stack_and_at_a_time(tmp_path):
    backups = tmp_path / "backups"
    backups.mkdir()
    pair = Pair(tmp_path)
    for point in (OLDER, NEWER):
        pair.sign(publish(backups, point=point).with_suffix(".json"))
    for line, trusted in (
        (f"s {pair.public}", [OLDER, NEWER]),
        (f"t {pair.public}", []),
        (f'* valid-before="20261124" {pair.public}', [OLDER]),
        (f'* valid-after="20261124" {pair.public}', [NEWER]),
    ):
        assert list(catalog.read(backups, "s", signers=signers_of({"allowed_signers": [line]})).points) == trusted
