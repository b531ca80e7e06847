"""Streams through age, without any container: what goes in comes out, and every failure is told."""

import hashlib
import os
import subprocess
import threading

import pytest
from stack_backup import age
from stack_backup.errors import BackupError
from stack_backup.process import Deadline, run

DATA = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def key():
    made = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True)
    return made.stdout, made.stderr.split()[-1]


def sealed(folder, key, data=DATA, program=("cat",), **more):
    sealing = age.Sealing(folder / "x.age", [key[1]], Deadline(20), **more)
    source = folder / "source"
    source.write_bytes(data)
    with source.open("rb") as file:
        result = sealing.run(lambda _pipe, out: run(program, deadline=Deadline(20), feed=file, out=out))
    return sealing, result


@pytest.mark.parametrize("data", [DATA, b"", b"x"])
@pytest.mark.parametrize("hold", [0, 40])
def test_what_goes_in_comes_out(tmp_path, key, data, hold):
    sealing, result = sealed(tmp_path, key, data, hold=hold)
    assert result.code == 0 and sealing.head == data[: 64 * 1024] and sealing.arrived == len(data)
    plain = sealing.describe()["plain"]
    assert plain == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "x.age"]
    identity = age.Identity(key[0])
    with age.unseal(tmp_path / "x.age", identity, Deadline(20), plain) as file:
        assert b"".join(iter(lambda: file.read(70_000), b"")) == data
    other = age.unseal(tmp_path / "x.age", identity, Deadline(20), {**plain, "sha256": "0"})
    with pytest.raises(BackupError, match="decrypts to other data"), other:
        pass  # what the block does not read is read, and compared, too
    assert age.peek(tmp_path / "x.age", identity, Deadline(20), 5) == data[:5]


def test_the_end_is_cut_when_all_was_seen(tmp_path, key):
    def cut(last, size, seen):
        assert (last, size, seen) == (DATA[-40:], len(DATA), DATA[:10])
        return 40

    sealing, _ = sealed(tmp_path, key, hold=40, cut=cut, witness=lambda feed: feed.read(10))
    assert sealing.describe()["plain"]["sha256"] == hashlib.sha256(DATA[:-40]).hexdigest()


def test_a_witness_hears_all_of_it(tmp_path, key):
    sealing, _ = sealed(tmp_path, key, witness=lambda feed: hashlib.file_digest(feed, "sha256").hexdigest())
    assert sealing.seen == hashlib.sha256(DATA).hexdigest()


def refuse(*_args):
    raise BackupError("I object")


@pytest.mark.parametrize("more", [{"witness": refuse}, {"cut": refuse}])
def test_an_objection_is_heard(tmp_path, key, more):
    with pytest.raises(BackupError, match="I object"):
        sealed(tmp_path, key, **more)
    assert not list(tmp_path.glob("*.pipe"))


def test_a_program_that_fails_is_the_callers_to_judge(tmp_path, key):
    _sealing, result = sealed(tmp_path, key, program=["sh", "-c", "head -c 100000; echo oops >&2; exit 3"], cut=refuse)
    assert (result.code, result.reason()) == (3, "oops")


def test_time_that_is_over_ends_all_of_it(tmp_path, key):
    sealing = age.Sealing(tmp_path / "x.age", [key[1]], Deadline(0.5))
    before = threading.active_count()
    with pytest.raises(BackupError, match="time limit|did not end"):
        sealing.run(lambda pipe, _out: run(["sh", "-c", f"exec 3>{pipe}; sleep 30"], deadline=Deadline(0.5)))
    assert threading.active_count() == before


def test_an_age_that_dies_ends_the_program(tmp_path, key, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "age").write_text("#!/bin/sh\necho 'age: error: no more' >&2\nexit 1\n")
    (tmp_path / "bin" / "age").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    sealing = age.Sealing(tmp_path / "x.age", [key[1]], Deadline(20))
    with pytest.raises(BackupError, match="did not encrypt x.age to its end: no more"):
        sealing.run(lambda pipe, _out: run(["sh", "-c", f"exec yes >{pipe}"], deadline=Deadline(20)))


def test_identities_are_told_from_what_is_none(key):
    secret = key[0].splitlines()[-1]
    assert secret not in repr(age.Identity(key[0])) and secret not in str(vars(age.Identity).values())
    for text in ("", "x", "-----BEGIN AGE ENCRYPTED FILE-----\nx\n-----END AGE ENCRYPTED FILE-----", "a" * 40_000):
        with pytest.raises(BackupError, match="age identity"):
            age.Identity(text)
    with pytest.raises(BackupError, match="not both"):
        age.identity_of({"age_identity": "x", "age_identity_file": "/y"})
    assert age.identity_of({"age_identity": "", "age_identity_file": None}) is None
