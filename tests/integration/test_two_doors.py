"""A playbook's run and the host command's run of one inventory call the same modules with the same parameters."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from conftest import PG, PROJECT, REDIS, ROOT
from stack_backup import config

RENDER = """
- hosts: stacks
  gather_facts: false
  roles: [stack]
  tasks:
    - ansible.builtin.include_role: {name: schedule, tasks_from: variables, public: true}
    - ansible.builtin.copy: {content: "{{ __schedule_config | to_json }}", dest: "{{ rendered }}", mode: "0600"}
"""


def play(tmp_path, playbook, *args):
    """What each of our modules was called with, in order."""
    env = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    env["ANSIBLE_STDOUT_CALLBACK"] = "ansible.posix.json"
    done = subprocess.run(
        ["ansible-playbook", "-i", str(tmp_path / "hosts.yml"), str(playbook), *args],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tasks = [task for one in json.loads(done.stdout)["plays"] for task in one["tasks"]]
    return [
        [result["action"], result["invocation"]["module_args"]]
        for task in tasks
        for result in task["hosts"].values()
        if "." not in result["action"] and "invocation" in result
    ]


@pytest.mark.parametrize("given", [{}, {"timeout": "60", "stores": ["redis"], "folder": ""}])
def test_the_same_calls(stack, tmp_path, given):
    stores = [
        {**PG, "service": None, "container": stack.name("pg17"), "jobs": "2"},
        {**REDIS, "service": None, "container": stack.name("redis8")},
    ]
    folder = given.get("folder", str(stack.folder))
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "stack_name": "test",
        "stack_backup_dir": str(tmp_path / "backups"),
        "stack_project_dir": folder,
        "stack_project_name": PROJECT if folder else "",
        "stack_stores": [PG, REDIS] if folder else stores,
        "stack_smoke_queries": [{"store": "redis", "command": "EXISTS a", "expect": 1}],
        "backup_stores": given.get("stores", []),
        "backup_timeout": given.get("timeout", 120),
        "backup_report_dir": str(tmp_path / "reports"),
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"stacks": {"hosts": {"one": host}}}))
    (tmp_path / "render.yml").write_text(RENDER)
    play(tmp_path, tmp_path / "render.yml", "-e", f"rendered={tmp_path}/test.json")
    rendered = config.read(tmp_path / "test.json")
    # Check mode calls with the same parameters, without the work; a drill has none.
    for job, *mode in (("backup", "--check"),) if given else (("backup",), ("verify",)):
        called = play(tmp_path, f"playbooks/{job}.yml", *mode)
        assert called == [list(call) for call in rendered.job(job)]
