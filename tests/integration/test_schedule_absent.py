"""schedule_state=absent while a job runs: it waits, or says so; and what the job writes last goes too."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT, until
from stack_backup.artifact import Lock
from stack_backup.install import install

PLAY = """
- hosts: stacks
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: schedule, tasks_from: absent}
"""


class Host:
    """A host under a folder, with what the role schedule makes of a stack, and another stack beside it."""

    def __init__(self, root):
        self.root, self.backups = root, root / "backups"
        self.mine = [root / name for name in ("cron", "etc/one.json", "rotation", "log/one.log", "var/one")]
        self.cron, self.state = self.mine[0], self.mine[-1]
        for folder in (
            self.backups,
            self.state,
            root / "etc",
            root / "log",
            root / "var" / "other",
            root / "log" / "other",
        ):
            folder.mkdir(parents=True)
        for file in self.mine[:-1]:
            file.write_text("")
        self.program = install({"path": f"{root}/opt", "link": f"{root}/link", "state": "present"})["program"]
        prune = {"stack": "one", "backup_dir": str(self.backups), "keep_daily": 1}
        for stack in ("one", "other"):
            config = {"format": 1, "stack": stack, "prune": [["backup_prune", {**prune, "stack": stack}]]}
            (root / "etc" / f"{stack}.json").write_text(json.dumps(config))
        self.env = {"PATH": os.environ["PATH"], "STACK_BACKUP_ETC": f"{root}/etc", "STACK_BACKUP_VAR": f"{root}/var"}
        self.variables = {
            "stack_name": "one",
            "schedule_state": "absent",
            "monitor_secrets_dir": f"{root}/etc/secrets",
            "__schedule_engine": f"{root}/opt",
            "__schedule_etc": f"{root}/etc",
            "__schedule_state_dir": f"{root}/var/one",
            "__schedule_log": f"{root}/log/one.log",
            "__schedule_cron": f"{root}/cron",
            "__schedule_rotation": f"{root}/rotation",
        }
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        (root / "hosts.yml").write_text(yaml.safe_dump({"stacks": {"hosts": {"one": local}}}))
        (root / "remove.yml").write_text(PLAY)

    def start(self):
        argv = [self.program, "run", "prune", "--stack", "one", "--log", f"{self.root}/log/one.log"]
        job = subprocess.Popen(argv, env=self.env, stdout=subprocess.PIPE, text=True)
        assert until(lambda: (self.state / "last-prune.json").exists())
        return job

    def remove(self, **more):
        env = {**os.environ, "ANSIBLE_HOME": f"{self.root}/ansible", "ANSIBLE_CONFIG": f"{ROOT}/ansible.cfg"}
        variables = json.dumps({**self.variables, **more})
        argv = ["ansible-playbook", "-i", f"{self.root}/hosts.yml", f"{self.root}/remove.yml", "-e", variables]
        return subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def left(self):
        return [path.name for path in self.mine if path.exists()]


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_it_waits_for_the_job(host):
    with Lock(host.backups):
        job = host.start()  # and waits for the lock
        removal = host.remove()
        assert until(lambda: not host.cron.exists(), 60)
        assert until(
            lambda: "flock" in subprocess.run(["ps", "-A", "-o", "args"], capture_output=True, text=True).stdout
        )
        assert removal.poll() is None and host.left() == ["one.json", "rotation", "one.log", "one"]
    assert job.wait(60) == 1  # it had nothing to prune
    said = removal.communicate(timeout=120)[0]
    assert removal.returncode == 0, said
    assert host.left() == []
    assert (host.root / "etc" / "other.json").exists() and (host.root / "opt").exists()


def test_it_does_not_wait_for_ever(host):
    with Lock(host.backups):
        job = host.start()
        removal = host.remove(__schedule_patience=1)
        said = " ".join(removal.communicate(timeout=120)[0].split())
        assert removal.returncode == 2 and "a job of stack one is still running on one" in said
        assert host.left() == ["one.json", "rotation", "one.log", "one"]
    job.wait(60)
    removal = host.remove()
    said = removal.communicate(timeout=120)[0]
    assert removal.returncode == 0 and host.left() == [], said
