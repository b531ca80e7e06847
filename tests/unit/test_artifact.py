"""Whose the files are that a job writes."""

import os

import pytest
from stack_backup.artifact import Lock, Partial
from stack_backup.journal import Journal
from stack_backup.monitor.state import locked


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for others")
def test_what_root_writes_belongs_to_the_owner_of_the_folder(tmp_path):
    os.chown(tmp_path, 4242, 4243)
    with Lock(tmp_path), locked(tmp_path):
        Journal.begin(tmp_path, id="20261124-021500")
        for store, engine in (("postgres", "postgres"), ("redis", "redis")):
            partial = Partial(tmp_path, store, engine, "20261124-021500")
            partial.create()
            partial.globals.write_text("roles")
            if engine == "redis":
                partial.artifact.write_text("data")
            else:  # format: directory
                partial.artifact.mkdir()
                (partial.artifact / "toc.dat").write_text("data")
            partial.publish({"format": 1})
    made = sorted(tmp_path.rglob("*"))
    assert len(made) == 13
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(4242, 4243)}
