"""An encrypted backup from its making to its reading, by age itself: what went in comes out, with the identity alone."""

import hashlib
import os
import subprocess
from io import BytesIO

import pytest
from stack_backup import age, catalog
from stack_backup.artifact import Partial
from stack_backup.errors import BackupError
from stack_backup.process import Deadline, run

POINT = "20261124-021500"
DATA = os.urandom(200_000)
ROLES = "create role é;\n" * 10_000


@pytest.fixture(scope="module")
def key():
    made = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True)
    return made.stdout, made.stderr.split()[-1]


@pytest.fixture
def backups(tmp_path, key):
    partial = Partial(tmp_path, "postgres", "postgres", POINT, [key[1]])
    partial.create()
    for target, data in ((partial.artifact, DATA), (partial.globals, ROLES.encode())):
        sealing = partial.sealing(target, Deadline(20), witness=lambda feed: hashlib.file_digest(feed, "sha256"))
        sealing.run(lambda _pipe, out, data=data: run(["cat"], deadline=Deadline(20), feed=BytesIO(data), out=out))
        assert sealing.seen.hexdigest() == hashlib.sha256(data).hexdigest()
    sealed = partial.seal()
    files = {
        name: {"name": path.name, "encryption": partial.encryption(path), **sealed[path.name]}
        for name, path in (("artifact", partial.artifact), ("globals", partial.globals))
    }
    point = {"id": POINT, "stores": ["postgres"]}
    told = {"format": 1, "stack": "s", "store": "postgres", "engine": "postgres", "point": point, **files}
    partial.publish({**told, "pin": {"at": "x"}, "seconds": {"total": 1.0}})
    return tmp_path


def test_what_went_in_comes_out(backups, key):
    found = catalog.read(backups, "s", age.Identity(key[0]))
    backup = found.points[POINT]["postgres"]
    assert found.problems == [] and backup.encrypted is True and backup.size == len(DATA)
    assert sorted(path.name for path in backup.files()) == [
        f"postgres-{POINT}.dump.age",
        f"postgres-{POINT}.globals.sql.age",
    ]
    assert not any(DATA[:1000] in path.read_bytes() for path in backup.files())
    with backup.stream(Deadline(20)) as file:
        assert b"".join(iter(lambda: file.read(70_000), b"")) == DATA
    assert backup.head(Deadline(20)) == DATA[: 64 * 1024]
    assert backup.globals(Deadline(20)) == ROLES


def test_data_that_is_not_what_the_manifest_tells_is_refused(backups, key):
    backup = catalog.read(backups, "s", age.Identity(key[0])).points[POINT]["postgres"]
    for told in (backup.manifest["artifact"], backup.manifest["globals"]):
        told["encryption"]["plain"]["sha256"] = "0" * 64
    with pytest.raises(BackupError, match="decrypts to other data"), backup.stream(Deadline(20)):
        pass
    with pytest.raises(BackupError, match="decrypts to other data"):
        backup.globals(Deadline(20))


def test_without_the_identity_nothing_comes_out(backups, key):
    backup = catalog.read(backups, "s").points[POINT]["postgres"]
    for read in (backup.head, backup.globals, lambda deadline: backup.stream(deadline).__enter__()):
        with pytest.raises(BackupError, match=r"\.dump\.age is encrypted: give the identity that decrypts it"):
            read(Deadline(20))


def test_what_is_shown_of_a_backup_has_no_identity(backups, key):
    backup = catalog.read(backups, "s", age.Identity(key[0])).points[POINT]["postgres"]
    assert "dentity" not in repr(backup) and "AGE-SECRET" not in str(backup.report())
