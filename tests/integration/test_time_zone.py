"""A host whose time zone changes: its cron goes by the new one after playbooks/install.yml, and is left alone after that."""

import json
import os
import subprocess

import pytest
import yaml
from conftest import PROJECT, ROOT, sh

NAME = f"{PROJECT}-zone-host"
CRON = {"ansible.builtin.include_role": {"name": "schedule", "tasks_from": "cron"}}


@pytest.fixture
def host():
    sh("docker", "rm", "-fv", NAME)
    sh("docker", "run", "--detach", "--name", NAME, "stack-backup-host:13")
    yield lambda script: sh("docker", "exec", NAME, "sh", "-ec", script).strip()
    sh("docker", "rm", "-fv", NAME)


def test_cron_goes_by_the_new_zone(host, tmp_path):
    host("service cron start")
    steps = [
        {"name": "as it is", **CRON},
        {"ansible.builtin.raw": "ln -sf /usr/share/zoneinfo/Asia/Tokyo /etc/localtime; cat /run/crond.pid"},
        {"name": "by the new zone", **CRON},
        {"ansible.builtin.raw": "cat /run/crond.pid"},
        {"name": "again", **CRON},
    ]
    plays = [{"hosts": "stacks", "gather_facts": False, "tasks": [step]} for step in steps]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(plays))
    variables = {"ansible_connection": "community.docker.docker", "ansible_host": NAME}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"stacks": {"hosts": {"one": variables}}}))
    env = {**os.environ, "ANSIBLE_HOME": f"{tmp_path}/ansible", "ANSIBLE_CONFIG": f"{ROOT}/ansible.cfg"}
    argv = ["ansible-playbook", "-i", f"{tmp_path}/hosts.yml", f"{tmp_path}/play.yml"]
    env["ANSIBLE_STDOUT_CALLBACK"] = "ansible.posix.json"
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [[task["hosts"]["one"] for task in play["tasks"]] for play in json.loads(done.stdout)["plays"]]
    before, after = (told[index][0]["stdout"].strip() for index in (1, 3))
    assert [any(result.get("changed") for result in told[index]) for index in (0, 2, 4)] == [False, True, False]
    assert before != after == host("cat /run/crond.pid")
    assert host(f"cat /proc/{after}/comm") == "cron"
