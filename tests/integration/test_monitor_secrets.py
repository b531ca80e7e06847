"""The files of passwords and addresses that alerts need: written once, removed when nothing names them."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

GIVEN = {
    "monitor_alert_email": {"to": ["a@b"], "host": "mail", "user": "ops"},
    "monitor_alert_email_password": "pw",
    "monitor_alert_webhooks": [{"url": "https://one/"}, {"url_file": "/own"}, {"url": "https://three/"}],
    "monitor_alert_pings": {"backup": "https://ping/b", "prune": "https://ping/p"},
}
ALL = {"smtp-password": "pw", "webhook-1": "https://one/", "webhook-3": "https://three/"}
ALL.update({"ping-backup": "https://ping/b", "ping-prune": "https://ping/p"})


FEWER = {
    "monitor_alert_webhooks": GIVEN["monitor_alert_webhooks"][:2],
    "monitor_alert_pings": {"prune": "https://new/p"},
}
LEFT = {"smtp-password": "pw", "webhook-1": "https://one/", "ping-prune": "https://new/p"}
ABSENT = {"monitor_secrets_state": "absent"}


def apply(tmp_path, folder, steps):
    """Run the role's tasks once for each step, a stack and its variables.

    Returns for each how many tasks changed something, and the files below ``folder``: mode, and content.
    """
    look = f"cd {folder} && find . -mindepth 1 -printf '%P %m ' \\( -type f -exec cat {{}} \\; -o -printf '\\n' \\)"
    plays = [
        {
            "hosts": stack,
            "gather_facts": False,
            "vars": {**GIVEN, **given},
            "tasks": [
                {"ansible.builtin.include_role": {"name": "monitor", "tasks_from": "secrets"}},
                {"ansible.builtin.shell": look, "changed_when": False, "failed_when": False, "name": "look"},
            ],
        }
        for stack, given in steps
    ]
    common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    common["monitor_secrets_dir"] = str(folder)
    hosts = {name: {"stack_name": name} for name in ("shop", "other")}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"stacks": {"hosts": hosts, "vars": common}}))
    (tmp_path / "play.yml").write_text(yaml.safe_dump(plays))
    env = {**os.environ, "ANSIBLE_HOME": f"{tmp_path}/ansible", "ANSIBLE_CONFIG": f"{ROOT}/ansible.cfg"}
    env["ANSIBLE_STDOUT_CALLBACK"] = "ansible.posix.json"
    argv = ["ansible-playbook", "-i", f"{tmp_path}/hosts.yml", f"{tmp_path}/play.yml"]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for play in json.loads(done.stdout)["plays"]:
        results = [result for task in play["tasks"] for result in task["hosts"].values()]
        lines = [line.split(" ") for line in results[-1]["stdout"].splitlines()]
        yield sum(result["changed"] for result in results), {path: (mode, text) for path, mode, text in lines}


def files(stack, contents):
    """What a stack has below the folder."""
    return {stack: ("700", ""), **{f"{stack}/{name}": ("600", text) for name, text in contents.items()}}


@pytest.mark.skipif(os.getuid() != 0, reason="the folders are root's")
def test_what_is_written_and_removed(tmp_path):
    both = {**files("shop", LEFT), **files("other", ALL)}
    expected = [
        ("shop", {}, True, files("shop", ALL)),
        ("shop", {}, False, files("shop", ALL)),
        ("shop", FEWER, True, files("shop", LEFT)),
        ("other", {}, True, both),
        ("shop", ABSENT, True, files("other", ALL)),
        ("other", ABSENT, True, {}),
        ("other", ABSENT, False, {}),
    ]
    folder = tmp_path / "etc" / "secrets"
    told = apply(tmp_path, folder, [(stack, given) for stack, given, _changed, _left in expected])
    for (changed, left), (stack, given, changes, expect) in zip(told, expected):
        assert (bool(changed), left) == (changes, expect), (stack, given)
    assert not folder.exists()
