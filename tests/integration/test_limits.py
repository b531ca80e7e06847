"""What a backup may take of the host."""

import json
import os
from pathlib import Path

import pytest
from conftest import PG, REDIS, sh
from stack_backup.errors import BackupError
from stack_backup.limits import disk_of
from stack_backup.postgres.dump import Source

MEMORY = "128m"
CGROUP = sh("docker", "info", "--format", "{{.CgroupVersion}}").strip()
V1 = pytest.mark.skipif(CGROUP != "1", reason="this kernel limits writes")
V2 = pytest.mark.skipif(CGROUP != "2", reason="this kernel limits no buffered writes")


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
        pytest.param({"io": "10k"}, "backup_io is '10k': it must be 1m", marks=V2),
        pytest.param({"io": "20m"}, "limits no buffered writes: that needs cgroup v2", marks=V1),
    ],
)
def test_what_docker_would_refuse_is_refused_before(stack, tmp_path, given, said):
    assert said in str(stack.fail(tmp_path, [PG], **given))


@V2
def test_a_dump_writes_no_faster_than_it_may(stack, tmp_path):
    stack.sql(
        "pg17",
        "create table noise as select string_agg(md5(i::text || random()), '') x from generate_series(1, 600000) i, generate_series(1, 2) j group by i % 50",
    )
    seconds = {}
    try:
        for io in ("8m", None):
            report = stack.take(tmp_path, [{**PG, "compression": "0"}], io=io)["stores"][0]
            seconds[io] = report["steps"]["stream"] + report["steps"]["seal"]
    finally:
        stack.sql("pg17", "drop table noise")
    assert report["size"] > 32 << 20
    assert seconds["8m"] > 0.7 * report["size"] / (8 << 20) > seconds[None]


def test_the_page_cache_stays_the_databases(stack, tmp_path):
    """``fincore`` tells how much of a file is in memory."""
    report = stack.take(tmp_path, [PG, REDIS])
    cached = [sh("fincore", "--bytes", "--noheadings", "--output", "RES", store["file"]) for store in report["stores"]]
    assert [int(size) for size in cached] == [0, 0]
    file = report["stores"][0]["file"]
    assert int(sh("sh", "-c", f"cat {file} >/dev/null; fincore --bytes --noheadings --output RES {file}")) > 0


def test_the_disk_of_a_folder(tmp_path):
    number = tmp_path.stat().st_dev
    told = sh("lsblk", "--noheadings", "--output", "MAJ:MIN,PKNAME,NAME", "--raw", "--paths").splitlines()
    mine = [line.split(" ") for line in told if line.startswith(f"{os.major(number)}:{os.minor(number)} ")]
    assert disk_of(tmp_path) == (mine[0][1] or mine[0][2])
    with pytest.raises(BackupError, match="backup_io: /proc is on no disk of this host that could be limited"):
        disk_of(Path("/proc"))
