"""Which container a store is, and what state and password it is found with."""

import json
import os
import re
import signal
import threading

import pytest
from conftest import LONE, PG, PROJECT, REDIS, Stack, answers, sh, until
from test_faults import files, finish, while_locked

OTHER = f"{PROJECT}-other"
COMPOSE = f"""
name: {OTHER}
services:
  redis7: {{image: "redis:7.0"}}
  loop: {{image: "redis:7.0", restart: always, entrypoint: ["sh", "-c", "exit 1"]}}
"""
LONE_PG = {"name": "postgres", "engine": "postgres", "container": LONE}
REDIS7 = {"name": "redis", "engine": "redis", "service": "redis7"}


def manifest(folder, store):
    return json.loads(next((folder / store).glob("*.json")).read_text())


@pytest.fixture(scope="module")
def other(stack, tmp_path_factory):
    """Another project of this machine, with a service of the same name."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "compose.yml").write_text(COMPOSE)
    compose = ["docker", "compose", "--project-directory", str(folder)]
    sh(*compose, "up", "--detach")
    try:
        assert until(lambda: "PONG" in sh("docker", "exec", f"{OTHER}-redis7-1", "redis-cli", "ping", check=False))
        sh("docker", "exec", f"{OTHER}-redis7-1", "redis-cli", "mset", *(f"k{i // 2}" for i in range(14)))
        yield Stack(folder)
    finally:
        sh(*compose, "down", "--volumes", "--timeout", "1")


def test_two_projects_have_a_service_of_one_name(stack, other, tmp_path):
    # The name is the one that compose.yml gives, unless stack_project_name says another.
    for name in "abc":
        (tmp_path / name).mkdir()
    stack.take(tmp_path / "a", [REDIS7])
    other.take(tmp_path / "b", [REDIS7], project_name=None)
    other.take(tmp_path / "c", [REDIS7], project_name=PROJECT)
    found = [manifest(tmp_path / name, "redis")["source"]["container"] for name in "abc"]
    assert found == [stack.name("redis7"), f"{OTHER}-redis7-1", stack.name("redis7")]
    assert manifest(tmp_path / "b", "redis")["counts"]["keys"] == 7


def test_a_service_that_crashes_and_restarts(other, tmp_path):
    assert until(lambda: other.state(f"{OTHER}-loop-1") == "restarting")
    # The pauses between its starts grow: from here on it is hardly ever seen running.
    assert until(lambda: int(sh("docker", "inspect", "--format", "{{.RestartCount}}", f"{OTHER}-loop-1")) >= 5)
    assert until(lambda: other.state(f"{OTHER}-loop-1") == "restarting")
    error = other.fail(tmp_path, [{**REDIS7, "service": "loop"}], project_name=None)
    assert f"service loop is restarting, not running: see why: docker logs {OTHER}-loop-1" in str(error)
    assert files(tmp_path) == []


@pytest.mark.parametrize("store", [REDIS, PG], ids=["redis", "postgres"])
def test_a_service_that_is_paused(stack, tmp_path, store):
    name = stack.name(store["service"])
    sh("docker", "pause", name)
    try:
        assert f"is paused, not running: docker unpause {name}" in str(stack.fail(tmp_path, [store], timeout=20))
    finally:
        sh("docker", "unpause", name)
    assert files(tmp_path) == []


@pytest.mark.parametrize("via", ["side", "exec"])
def test_a_server_that_is_paused_in_the_middle_ends_with_the_time_limit(stack, lone, tmp_path, via):
    lock, thread = while_locked(stack, lambda: sh("docker", "pause", lone), lone)
    try:
        error = stack.fail(tmp_path, [{**LONE_PG, "via": via, "row_counts": False}], project_dir=None, timeout=8)
    finally:
        thread.join()
        sh("docker", "unpause", lone)
        finish(lock, thread)
    assert f"container {lone} is paused meanwhile: docker unpause {lone}" in str(error)
    assert "time limit" in str(error) or "did not end within" in str(error)
    assert files(tmp_path) == []


def test_containers_by_name_and_two_databases_of_one_server(stack, lone, tmp_path):
    stack.psql(lone, "CREATE DATABASE second")
    stack.psql(lone, "CREATE TABLE only_here AS SELECT generate_series(1, 5)", "second")
    stores = [{**LONE_PG, "name": "first"}, {**LONE_PG, "name": "second", "database": "second"}]
    stores.append({"name": "redis", "engine": "redis", "container": stack.name("redis7")})
    result = stack.take(tmp_path, stores, project_dir=None, project_name=None)
    assert [store["store"] for store in result["stores"]] == ["first", "second", "redis"]
    assert [store["via"]["used"] for store in result["stores"][:2]] == ["side", "side"]
    assert manifest(tmp_path, "first")["counts"]["rows"]["public.orders"] == 20000
    assert manifest(tmp_path, "second")["counts"]["rows"] == {"public.only_here": 5}
    assert manifest(tmp_path, "second")["source"]["service"] is None
    dump = next((tmp_path / "second").glob("*.dump"))
    sh("docker", "cp", str(dump), f"{lone}:/tmp/second")
    assert "COPY public.only_here" in sh("docker", "exec", lone, "pg_restore", "--file=-", "/tmp/second")
    stack.psql(lone, "DROP DATABASE second")


@pytest.mark.parametrize("via", ["auto", "side", "exec"])
def test_a_wrong_password_for_postgres(stack, lone, tmp_path, via):
    (tmp_path / "pw").write_text("wrong\n")
    store = {**LONE_PG, "via": via, "host_password_file": str(tmp_path / "pw")}
    (tmp_path / "b").mkdir()
    error = str(stack.fail(tmp_path / "b", [store], project_dir=None))
    assert 'password authentication failed for user "owner"' in error
    assert "set the store's password_file" in error
    assert "wrong" not in error
    assert files(tmp_path / "b") == []
    (tmp_path / "pw").write_text("secret\n")
    assert stack.take(tmp_path / "b", [store], project_dir=None)["stores"][0]["via"]["used"] in (via, "side")


def kill_for_good(container):
    sh("docker", "kill", container)


def die(container):
    """The server dies by itself: its restart policy brings it back at once."""
    os.kill(int(sh("docker", "inspect", "--format", "{{.State.Pid}}", container)), signal.SIGKILL)


@pytest.mark.parametrize("via", ["side", "exec"])
@pytest.mark.parametrize(
    ("end", "told"),
    [(kill_for_good, "is exited meanwhile: docker start"), (die, "was restarted meanwhile|is restarting meanwhile")],
    ids=["killed", "died"],
)
def test_postgres_killed_in_the_middle(stack, lone, tmp_path, end, told, via):
    store = {**LONE_PG, "via": via, "row_counts": False}
    lock, thread = while_locked(stack, lambda: end(lone), lone)
    try:
        error = stack.fail(tmp_path, [store], project_dir=None)
        assert re.search(f"store postgres: pg_dump failed: .*{told}", str(error)), str(error)
        assert files(tmp_path) == []
    finally:
        finish(lock, thread)
        sh("docker", "start", lone)
        assert until(lambda: answers(lone))
    assert stack.take(tmp_path, [store], project_dir=None)["complete"]


def test_redis_killed_in_the_middle(stack, other, tmp_path):
    name = f"{OTHER}-redis7-1"
    sh("docker", "exec", name, "redis-cli", "config", "set", "rdb-key-save-delay", "3000000")
    saving = "rdb_bgsave_in_progress:1"

    def kill():
        if until(lambda: saving in sh("docker", "exec", name, "redis-cli", "info", "persistence")):
            sh("docker", "kill", name)

    thread = threading.Thread(target=kill)
    thread.start()
    error = other.fail(tmp_path, [REDIS7], project_name=None)
    thread.join()
    assert f"container {name} is exited meanwhile: docker start {name}" in str(error)
    assert files(tmp_path) == []
    sh("docker", "start", name)
    assert until(lambda: "PONG" in sh("docker", "exec", name, "redis-cli", "ping", check=False))
    assert other.take(tmp_path, [REDIS7], project_name=None)["complete"]
