"""What a backup may take of the host."""

import json

import pytest
from conftest import PG, sh
from stack_backup.postgres.dump import Source

MEMORY = "128m"


def test_the_containers_that_dump_have_them(stack, tmp_path, monkeypatch):
    seen, locked = [], Source._locked

    def look(source):
        seen.extend(json.loads(sh("docker", "inspect", *stack.sides())))
        locked(source)

    monkeypatch.setattr(Source, "_locked", look)
    assert stack.take(tmp_path, [PG], cpus=0.5, memory=MEMORY)["complete"]
    limits = [
        (item["HostConfig"]["NanoCpus"], item["HostConfig"]["CpuShares"], item["HostConfig"]["Memory"]) for item in seen
    ]
    assert limits == [(500_000_000, 256, 128 << 20)]
    seen.clear()
    assert stack.take(tmp_path, [PG])["complete"]
    assert [(item["HostConfig"]["NanoCpus"], item["HostConfig"]["CpuShares"]) for item in seen] == [(0, 256)]


def test_too_little_memory_is_told(stack, tmp_path):
    stack.sql("pg17", "create table wide as select repeat('x', 200000000) x")
    try:
        error = stack.fail(tmp_path, [PG], memory="64m")
    finally:
        stack.sql("pg17", "drop table wide")
    assert "pg_dump failed: it was killed, for want of memory? See backup_memory" in str(error)
    assert stack.sides() == [] and not list(tmp_path.glob("postgres/*"))
    assert stack.take(tmp_path, [PG], memory="64m")["complete"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cpus": 1000.0}, "backup_cpus is 1000: it must be from 0.01 to"),
        ({"cpus": 0.001}, "backup_cpus is 0.001"),
        ({"memory": "5m"}, "backup_memory is '5m': it must be 64m or more"),
        ({"memory": "lots"}, "backup_memory is 'lots'"),
    ],
)
def test_what_docker_would_refuse_is_refused_before(stack, tmp_path, given, said):
    assert said in str(stack.fail(tmp_path, [PG], **given))
