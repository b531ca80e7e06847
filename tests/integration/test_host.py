"""Faults of the host: no engine, no right to it, a backup folder that is not what it should be."""

import os
import shutil
import stat
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import PG, REDIS, job, sh
from stack_backup import catalog

NOBODY = 65534
SOCKET = Path("/var/run/docker.sock")


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".lock")


@contextmanager
def mounted(folder, *options):
    folder.mkdir(exist_ok=True)
    sh("mount", *options, str(folder))
    try:
        yield folder
    finally:
        sh("umount", str(folder))


@pytest.fixture
def open_folder():
    """A folder that every user reaches; pytest's own are for their owner alone."""
    folder = Path(tempfile.mkdtemp(prefix="stack-backup-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_no_docker_engine(stack, tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/dead.sock")
    backups = tmp_path / "backups"
    backups.mkdir()
    assert "no Docker engine answers: start it (systemctl start docker)" in str(stack.fail(backups, [PG, REDIS]))
    assert files(backups) == []


def test_no_docker_command(stack, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert str(stack.fail(tmp_path, [PG])) == "the program docker is not on this host's PATH: install it"
    assert files(tmp_path) == []


def test_a_folder_that_is_only_read(stack, tmp_path):
    stack.take(tmp_path, [REDIS])
    with mounted(tmp_path / "ro", "--bind", "-o", "ro", str(tmp_path)) as folder:
        sh("mount", "-o", "remount,bind,ro", str(folder))
        assert f"{folder} is not writable by uid 0: mend its owner, mode or mount" in str(stack.fail(folder, [REDIS]))
        # What only reads goes on reading.
        assert len(catalog.read(folder).points) == 1
        assert stack.verify(folder)["complete"]


def test_a_folder_that_is_none(stack, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is not a folder" in str(stack.fail(tmp_path / "file", [REDIS]))
    assert "can't be seen by uid 0: Not a directory" in str(stack.fail(tmp_path / "file" / "below", [REDIS]))
    (tmp_path / "nowhere").symlink_to("gone")
    assert "is missing: create it" in str(stack.fail(tmp_path / "nowhere", [REDIS]))
    assert "must be an absolute path" in str(stack.fail(Path("backups"), [REDIS]))


def test_a_folder_may_be_a_link_but_a_stores_folder_may_not(stack, tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    assert stack.take(tmp_path / "link", [PG, REDIS])["complete"]
    assert stack.verify(tmp_path / "link")["complete"]
    assert len(list((real / "postgres").glob("*.dump"))) == 1

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (real / "other").symlink_to(elsewhere)
    before = files(real)
    error = stack.fail(tmp_path / "link", [{**PG, "name": "other"}])
    assert "other is a symbolic link: the folder of a store must be a folder" in str(error)
    assert (files(real), files(elsewhere)) == (before, [])
    (real / "third").write_text("")
    assert "third: File exists: mend the backup folder" in str(stack.fail(real, [{**PG, "name": "third"}]))


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
def test_a_user_without_rights(stack, open_folder):
    def said(folder, uid, gid):
        process = job(
            stack.params(folder, [{**PG, "service": None, "container": stack.name("pg17")}], project_dir=None),
            python=system_python(),
            **{"user": uid, "group": gid, "extra_groups": [], "cwd": "/"},
        )
        return process.communicate(timeout=60)[1].strip().splitlines()[-1]

    assert f"{open_folder} is not writable by uid {NOBODY}" in said(open_folder, NOBODY, NOBODY)
    hidden = open_folder / "hidden"
    (hidden / "backups").mkdir(parents=True)
    hidden.chmod(0o700)
    assert f"can't be seen by uid {NOBODY}: Permission denied" in said(hidden / "backups", NOBODY, NOBODY)
    own = open_folder / "own"
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)
    assert "this user may not talk to the Docker engine" in said(own, NOBODY, NOBODY)
    assert files(own) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
def test_a_user_who_may_use_docker_owns_what_is_written(stack, open_folder):
    os.chown(open_folder, NOBODY, NOBODY)
    stores = [{**PG, "service": None, "container": stack.name("pg17")}]
    stores.append({**REDIS, "service": None, "container": stack.name("redis8")})
    process = job(
        stack.params(open_folder, stores, project_dir=None),
        python=system_python(),
        **{"user": NOBODY, "group": NOBODY, "extra_groups": [SOCKET.stat().st_gid], "cwd": "/"},
    )
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 0, said
    made = [path for path in open_folder.rglob("*") if path.is_file()]
    assert len(made) == 6  # the lock, a dump and its globals, an RDB, two manifests
    for path in made:
        info = path.stat()
        assert (info.st_uid, stat.S_IMODE(info.st_mode)) == (NOBODY, 0o600), path
    assert stack.verify(open_folder)["complete"]


def system_python():
    """One that every user may start: this checkout's may lie where only its owner comes."""
    return shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
