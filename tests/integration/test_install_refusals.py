"""What playbooks/install.yml refuses, before it changes anything on a host."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from conftest import ROOT

STORES = [{"name": "redis", "engine": "redis", "container": "none"}]
REMOTE = {"offsite_remote": "s3:bucket/x", "offsite_rclone_config": "[s3]\ntype = s3\n"}
HOSTS = {
    "time": ({"schedule_jobs": {"backup": "M 25 * * *"}}, "the time of backup is no cron time: 25 is no hour (0-23)"),
    "job": ({"schedule_jobs": {"backpu": "M 2 * * *"}}, "schedule_jobs names backpu: there are backup"),
    "name": ({"stack_name": "my shop"}, "stack_name is my shop, and becomes the name of files"),
    "twin-a": ({"stack_name": "twin", "ansible_host": "one"}, "twin-a and twin-b are one machine and both name"),
    "twin-b": ({"stack_name": "twin", "ansible_host": "one"}, "twin-b and twin-a are one machine and both name"),
    "user": ({"schedule_user": "nobody-here"}, "schedule_user is nobody-here: make this user on the host"),
    "remote": (
        {**REMOTE, "offsite_rclone_config": "[s4]"},
        "names, as s3:bucket/trading with a section [s3] there (s3 is none",
    ),
    "folder": ({"offsite_remote": "/mnt/nas"}, "or with offsite_runner: host also a folder of the host"),
    "keep": (
        {**REMOTE, "offsite_keep_dayly": 7},
        "offsite_keep_dayly is no variable of this project: did you mean offsite_keep_daily?",
    ),
    "key": (
        {"backup_sign_key": "/nowhere/key"},
        "backup_sign_key is /nowhere/key: give the private key that signs the backups on key, a file of root's",
    ),
    "signers": (
        {"backup_allowed_signers": ["ssh-ed25519 AAAA"]},
        "backup_sign_key is not set, and backup_allowed_signers is",
    ),
    "rclone": (
        {**REMOTE, "offsite_runner": "host"},
        "rclone does not run on rclone: install it (apt-get install rclone)",
    ),
}


def test_refusals(tmp_path):
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "stack_stores": STORES,
        "stack_backup_dir": str(tmp_path / "backups"),
    }
    hosts = {name: given for name, (given, _said) in HOSTS.items()}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"stacks": {"hosts": hosts, "vars": common}}))
    # A host has no rclone, though this one may have it.
    path = os.pathsep.join(item for item in os.environ["PATH"].split(os.pathsep) if not Path(item, "rclone").exists())
    env = {
        **os.environ,
        "PATH": path,
        "ANSIBLE_HOME": str(tmp_path / "ansible"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    }
    # In check mode, as it must not do it here should it fail to refuse.
    done = subprocess.run(
        [shutil.which("ansible-playbook"), "-i", str(tmp_path / "hosts.yml"), "playbooks/install.yml", "--check"],
        cwd=ROOT,
        env={**env, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    failed = {
        name: " ".join(one["msg"] for one in result.get("results", [result]) if one.get("failed"))
        for play in yaml.safe_load(done.stdout)["plays"]
        for task in play["tasks"]
        for name, result in task["hosts"].items()
        if result.get("failed")
    }
    for name, (_given, said) in HOSTS.items():
        assert said in failed[name]
