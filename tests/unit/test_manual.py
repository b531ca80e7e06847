"""The script of the manual way back: whatever a manifest says stays what it is, and sh takes it."""

import os
import subprocess
from pathlib import Path

import pytest
from stack_backup import manual
from stack_backup.catalog import Backup
from stack_backup.errors import BackupError

POINT = "20260102-030405"
EVIL = "x'\"$(touch MARK)`touch MARK`\nEND\ntouch MARK\nEND_\n\\! touch MARK"
STUB = """#!/bin/sh
[ "${1:-}" = -c ] && exec /bin/cat
echo "$@" >>"$CALLS"
case "$*" in *PING*) echo PONG ;; *'ps --services'*) printf 'app\\nother\\npostgres\\nredis\\n' ;; *pg_isready*) ;; *) cat >/dev/null ;; esac
"""


def postgres(name="shop", comment=None, sha="a" * 64, **more):
    row = {"datcollate": "C", "datctype": "C", "datistemplate": False, "datconnlimit": -1}
    facts = {"owner": name, "encoding": "UTF8", "tablespace": "pg_default", "acl": None, "settings": [], "catalog": row}
    return {
        "engine": "postgres",
        "server_version": 170006,
        "artifact": {"format": "custom", "size": 1, "sha256": sha},
        "globals": {"sha256": sha},
        "database": {"name": name, "comment": comment, **facts},
        "counts": {"rows": {name: 3}},
        "source": {"service": None, "container": "lone"},
        **more,
    }


def redis(version="8.0.2", **rdb):
    artifact = {"format": "rdb", "size": 1, "sha256": "b" * 64, "rdb": rdb}
    source = {"service": "redis", "container": "x"}
    return {"engine": "redis", "server_version": version, "artifact": artifact, "counts": {"keys": 3}, "source": source}


def script(folder, stores, **manifests):
    backups = {
        name: Backup(
            name, POINT, folder / name / f"{name}-{POINT}{'.rdb' if told['engine'] == 'redis' else '.dump'}", told
        )
        for name, told in manifests.items()
    }
    params = {"stack": "test", "project_dir": str(folder), "stores": stores}
    return "".join(manual.script(params, POINT, backups))


def store(engine, **more):
    return {"name": engine, "engine": engine, "service": engine, **more}


def run(folder, text):
    """Run it with a docker that only says what it was asked."""
    stubs = folder / "bin"
    stubs.mkdir()
    for name in ("docker", "sha256sum", "age"):
        (stubs / name).write_text(STUB)
        (stubs / name).chmod(0o755)
    for name in ("postgres", "redis"):
        (folder / name).mkdir()
        for ending in ("dump", "globals.sql", "rdb"):
            (folder / name / f"{name}-{POINT}.{ending}").write_text("")
    environment = {"PATH": f"{stubs}:{os.environ['PATH']}", "CALLS": str(folder / "calls")}
    done = subprocess.run(["sh", "-c", text], env=environment, cwd=folder, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return (folder / "calls").read_text()


@pytest.mark.parametrize("name", ["shop", EVIL, "a=b", "x\n\nEND"])
def test_names_stay_names(tmp_path, name):
    text = script(tmp_path, [store("postgres", user=name, password_file=name)], postgres=postgres(name, comment=EVIL))
    calls = run(tmp_path, text)
    assert not list(tmp_path.rglob("MARK"))
    assert calls.count("pg_restore --exit-on-error") == 1 and "compose stop app other redis" in calls.replace("\n", " ")


def test_a_file_that_is_none_is_refused(tmp_path):
    for told in (
        postgres(sha=f"{'a' * 64}\nEND\ntouch MARK"),
        postgres(artifact={"format": "directory", "size": 1, "files": {"x\nEND": {"sha256": "a" * 64}}}),
    ):
        with pytest.raises(BackupError, match="is no file of a backup"):
            script(tmp_path, [store("postgres")], postgres=told)


def test_the_programs_are_those_of_the_server_that_saved(tmp_path):
    text = script(
        tmp_path, [store("redis", username="u", port=7000, tls=True, cacert="/c")], redis=redis(**{"valkey-ver": "8"})
    )
    assert "valkey-check-rdb" in text and "valkey-cli --user u -p 7000 --tls --cacert /c PING" in text
    assert "base.rdb" in text
    text = script(tmp_path, [store("redis")], redis=redis("6.2.1"))
    assert "redis-check-rdb" in text and "base.rdb" not in text
    assert "compose stop redis" in run(tmp_path, text)


def test_a_password_of_the_host_is_on_no_command_line(tmp_path):
    (tmp_path / "secret").write_text("s3cret")
    calls = run(
        tmp_path,
        script(
            tmp_path,
            [
                store("postgres", host_password_file=f"{tmp_path}/secret"),
                store("redis", host_password_file=f"{tmp_path}/secret"),
            ],
            postgres=postgres(),
            redis=redis(),
        ),
    )
    assert "s3cret" not in calls and "-e PGPASSWORD" in calls and "-e REDISCLI_AUTH" in calls


def test_a_store_that_the_stack_has_no_more_is_where_its_backup_says(tmp_path):
    text = script(tmp_path, [store("redis")], postgres=postgres())
    assert "docker exec -i lone" in text and "docker compose" not in text and "Stop by hand" in text
    run(tmp_path, text)


def test_what_is_encrypted_is_opened_by_age_alone(tmp_path):
    told = postgres()
    told["artifact"]["encryption"] = {"plain": {"size": 1, "sha256": "c" * 64}}
    path = Path(tmp_path / "postgres" / f"postgres-{POINT}.dump")
    text = script(tmp_path, [store("postgres")], postgres=told)
    assert f'age -d -i "$IDENTITY" {path} | pg pg_restore' in text and f"cat {path}" not in text
    assert subprocess.run(["sh", "-c", text], env={"PATH": os.environ["PATH"]}, capture_output=True).returncode


def test_an_adopted_dump_gets_the_roles_that_it_needs(tmp_path):
    told = {name: value for name, value in postgres().items() if name != "globals"}
    told["adopted"] = {"roles": ["reader", "odd \"owner'"]}
    text = script(tmp_path, [store("postgres")], postgres=told)
    assert 'CREATE ROLE "reader";\nCREATE ROLE "odd ""owner\'";\n' in text and "globals" not in text
    run(tmp_path, text)
