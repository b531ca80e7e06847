"""The front door: ansible-playbook playbooks/backup.yml."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import yaml
from conftest import PG, PROJECT, REDIS, sh, until

ROOT = Path(__file__).resolve().parents[2]


def play(stack, tmp_path, hosts, *args):
    inventory = {
        "stacks": {
            "hosts": {name: {"stack_backup_dir": str(tmp_path / name), **given} for name, given in hosts.items()},
            "vars": {
                "ansible_connection": "local",
                "ansible_python_interpreter": sys.executable,
                "stack_name": "test",
                "stack_project_dir": str(stack.folder),
                "stack_project_name": PROJECT,
                "stack_stores": [PG, REDIS],
                "backup_report_dir": str(tmp_path / "reports"),
            },
        }
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    argv = ["ansible-playbook", "-i", str(tmp_path / "hosts.yml"), "playbooks/backup.yml", *args]
    env = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    result = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


def test_one_failed_host_fails_the_run_but_not_the_others(stack, tmp_path):
    code, said = play(stack, tmp_path, {"good": {}, "bad": {"stack_stores": [{**PG, "service": "gone"}]}})
    assert code == 2, said
    assert "has no service gone" in said
    assert stack.verify(tmp_path / "good")["complete"]
    report = json.loads(next((tmp_path / "reports").iterdir()).read_text())
    assert report["good"]["complete"] and not report["bad"]["complete"]
    assert sorted(path.name for path in (tmp_path / "good").iterdir()) == [".lock", "postgres", "redis"]


def test_check_mode_says_what_would_be_done(stack, tmp_path):
    (tmp_path / "good").mkdir()
    code, said = play(stack, tmp_path, {"good": {}}, "--check")
    assert code == 0, said
    assert "would do" in said
    assert [path.name for path in (tmp_path / "good").iterdir()] == [".lock"]


def test_a_chosen_store(stack, tmp_path):
    code, said = play(stack, tmp_path, {"good": {}}, "-e", '{"backup_stores": ["redis"]}')
    assert code == 0, said
    assert not (tmp_path / "good" / "postgres").exists()
    assert "redis-" in said
    # How the seconds divide, in lines that Ansible's output did not break.
    lines = [line.strip(" -") for line in said.splitlines()]
    (head,) = (number for number, line in enumerate(lines) if line.startswith("SECONDS"))
    names = ["FIND", "OPEN", "READY", "PIN", "STREAM", "SEAL", "PUBLISH", "TOTAL"]
    assert lines[head].split() == ["SECONDS", "STORE", *names]
    *steps, total = map(float, lines[head + 1].split()[2:])
    assert len(steps) == 7 and 0 < sum(steps) <= total + 0.05
    assert lines[head + 2].startswith("HOST") and "complete" in lines[head + 3]
    assert max(map(len, lines[head : head + 4])) <= 140


def test_a_batch_that_fails_as_a_whole_keeps_no_other_from_its_backup(stack, tmp_path):
    """Ansible itself ends a run with the first batch of which no host is left."""
    hosts = {
        "away": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1},
        "bad": {"stack_stores": [{**PG, "service": "gone"}]},
        "unmounted": {"stack_backup_dir_create": False},
        "empty": {"stack_stores": []},
        "good": {"stack_stores": [REDIS]},
    }
    code, said = play(stack, tmp_path, {name: {**given, "backup_serial": 2} for name, given in hosts.items()})
    assert code == 2, said
    assert stack.verify(tmp_path / "good")["complete"]
    report = json.loads(next((tmp_path / "reports").iterdir()).read_text())
    assert set(report) == set(hosts) and [name for name, told in report.items() if told.get("complete")] == ["good"]
    for words in ("Connection refused", "has no service gone", "unmounted is missing", "is not whole"):
        assert words in json.dumps(report), words
        assert words in said
    rows = (line.strip(" -'").split() for line in said.splitlines())
    states = {row[0]: row[2] for row in rows if len(row) > 2 and row[0] in hosts and row[2] in ("ok", "FAILED")}
    assert states == {**dict.fromkeys(hosts, "FAILED"), "good": "ok"}


def test_a_long_step_says_how_far_it_is_and_ends_as_always(stack, tmp_path):
    """A locked table holds pg_dump up, until a line was due."""
    locked = "begin; lock table orders in access exclusive mode; select pg_sleep(90)"
    program = ["psql", "-U", "owner", "-d", "shop", "-c", locked]
    sh("docker", "exec", "--detach", "-e", "PGPASSWORD=secret", stack.name("pg17"), *program)
    note = tmp_path / "good" / ".progress"

    def let_go():
        until(lambda: note.exists() and "postgres stream" in note.read_text(), 60)
        time.sleep(4)
        stack.sql("pg17", "select pg_terminate_backend(pid) from pg_stat_activity where query like 'begin; lock%'")

    holder = threading.Thread(target=let_go)
    holder.start()
    store = {**PG, "lock_timeout": 80}
    code, said = play(stack, tmp_path, {"good": {"stack_stores": [store, REDIS], "stack_progress_seconds": 1}})
    holder.join()
    assert code == 0, said
    lines = [line for line in said.splitlines() if line.startswith("good: 0:")]
    assert lines and "postgres stream" in lines[-1] and "redis" in lines[-1], said
    assert stack.verify(tmp_path / "good")["complete"] and not (tmp_path / "good" / ".progress").exists()
    code, said = play(
        stack, tmp_path, {"bad": {"stack_stores": [{**PG, "service": "gone"}], "stack_progress_seconds": 0.01}}
    )
    assert code == 2 and "has no service gone" in said and "Traceback" not in said
