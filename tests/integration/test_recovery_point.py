"""A recovery point of real databases, proven by restoring it with the databases' own programs."""

import json
import time

import pytest
from conftest import PG, PROJECT, REDIS, sh


def manifest(folder, store):
    return json.loads(next((folder / store).glob("*.json")).read_text())


@pytest.mark.parametrize("options", [{}, {"via": "exec"}, {"format": "directory"}], ids=["side", "exec", "directory"])
@pytest.mark.parametrize("service", ["pg15", "pg17", "pg18"])
def test_postgres_comes_back_by_pg_restore(stack, tmp_path, service, options):
    began = stack.sql(service, "select pg_postmaster_start_time()")
    result = stack.take(tmp_path, [{**PG, "service": service, **options}])
    assert result["complete"]
    # What an exec leaves behind falls to Postgres as process 1, which takes its death for a backend's crash.
    assert "terminated by signal" not in sh("docker", "logs", stack.name(service), merge=True)
    assert stack.sql(service, "select pg_postmaster_start_time()") == began
    report = result["stores"][0]
    assert report["via"]["used"] == options.get("via", "side"), report["via"]
    name = stack.name(service)
    sh("docker", "cp", report["file"], f"{name}:/tmp/back")
    sh("docker", "exec", name, "dropdb", "-U", "owner", "--if-exists", "back")
    sh("docker", "exec", name, "createdb", "-U", "owner", "-T", "template0", "back")
    sh("docker", "exec", name, "pg_restore", "--exit-on-error", "-U", "owner", "-d", "back", "/tmp/back")
    question = "select count(*), md5(string_agg(id || note, ',' order by id)) from orders"
    assert stack.sql(service, question, "back") == stack.sql(service, question)
    sh("docker", "exec", name, "dropdb", "-U", "owner", "back")
    sh("docker", "exec", name, "rm", "-r", "/tmp/back")
    told = manifest(tmp_path, "postgres")
    assert told["counts"]["rows"] == {"public.orders": 20000, 'public."odd ""name\'"': 2}
    assert told["database"]["owner"] == "owner"
    assert told["database"]["comment"] == "the shop's"
    assert {"role": None, "config": ["work_mem=7MB"]} in told["database"]["settings"]
    assert "CREATE ROLE owner" in next((tmp_path / "postgres").glob("*.globals.sql")).read_text()
    assert stack.verify(tmp_path)["stores"][0]["ok"]


@pytest.mark.parametrize("method", ["bgsave", "save"])
@pytest.mark.parametrize("service", ["redis7", "redis8", "valkey8"])
def test_redis_comes_back_from_the_file(stack, tmp_path, service, method):
    store = {"name": "redis", "engine": "redis", "service": service, "method": method}
    if service == "redis8":
        store["password_file"] = "/run/pw"
    mark = str(time.time_ns())
    stack.redis(service, "set", "mark", mark)
    report = stack.take(tmp_path, [store])["stores"][0]
    told = manifest(tmp_path, "redis")
    assert told["counts"]["keys"] == 4
    image, server = told["source"]["image"], "valkey" if service == "valkey8" else "redis"
    name = f"{PROJECT}-file-{service}"
    sh("docker", "create", "--name", name, image, f"{server}-server", "--dir", "/data", "--appendonly", "no")
    try:
        sh("docker", "cp", report["file"], f"{name}:/data/dump.rdb")
        sh("docker", "start", name)
        for _ in range(50):
            answer = sh("docker", "exec", name, f"{server}-cli", "get", "mark", check=False).strip()
            if answer == mark:
                break
            time.sleep(0.1)
        assert answer == mark
        assert sh("docker", "exec", name, f"{server}-cli", "xinfo", "groups", "s").split()[1] == "g"
    finally:
        sh("docker", "rm", "-fv", name)
    assert stack.verify(tmp_path)["stores"][0]["checked"]["keys"] == 4


def test_both_stores_share_one_id_and_nearly_one_instant(stack, tmp_path):
    result = stack.take(tmp_path, [PG, REDIS], quiesce=["redis7"])
    assert {store["file"].rsplit("/", 1)[1] for store in result["stores"]} == {
        f"postgres-{result['id']}.dump",
        f"redis-{result['id']}.rdb",
    }
    assert result["pin_distance_ms"] < 1000
    assert result["quiesced"] == [stack.name("redis7")]
    assert "Paused" not in sh("docker", "ps", "--filter", f"name={stack.name('redis7')}", "--format", "{{.Status}}")
    assert manifest(tmp_path, "redis")["pin"]["at"] < manifest(tmp_path, "postgres")["pin"]["at"]
    assert manifest(tmp_path, "redis")["point"]["stores"] == ["postgres", "redis"]


@pytest.mark.parametrize(
    "name",
    ["two words", 'it\'s "quoted"', "$HOME;ls", "-dash", "line\nbreak", "ünïcode", "host=evil dbname=x", "back\\slash"],
)
def test_a_database_may_have_any_name(stack, tmp_path, name):
    quoted = name.replace('"', '""')
    stack.sql("pg17", f'CREATE DATABASE "{quoted}"')
    try:
        stack.take(tmp_path, [{**PG, "database": name}])
        assert manifest(tmp_path, "postgres")["database"]["name"] == name
    finally:
        stack.sql("pg17", f'DROP DATABASE "{quoted}"')


def test_check_mode_writes_nothing(stack, tmp_path):
    result = stack.take(tmp_path, [PG, REDIS], check_mode=True)
    assert result["changed"] and [store["ok"] for store in result["stores"]] == [True, True]
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_only_some_stores(stack, tmp_path):
    assert [store["store"] for store in stack.take(tmp_path, [PG, REDIS], only=["redis"])["stores"]] == ["redis"]
    assert manifest(tmp_path, "redis")["point"]["omitted"] == ["postgres"]
