"""What a run of a playbook shows: what it does, what failed, once; everything with -v."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_variables import ROOT, play


def test_a_failure_is_told_once_and_what_did_nothing_not_at_all(tmp_path):
    code, said = play(tmp_path, "verify.yml", stack_stores=[])
    assert code == 2 and said.count("The inventory of shop is not whole") == 1, said
    assert "fatal: [shop] stack : Check what the inventory says of the stack: The inventory" in said
    assert "TASK [" not in said and "skipping" not in said and "ok: [" not in said and "PLAY RECAP" in said
    code, said = play(tmp_path, "verify.yml", "-v", stack_stores=[])
    assert code == 2 and "TASK [stack : Check what the inventory says of the stack]" in said, said


def test_who_can_not_be_reached_is_told_with_the_reason(tmp_path):
    code, said = play(tmp_path, "verify.yml")
    assert code == 4 and "fatal: [shop] stack : Look for the folder of the backups: " in said, said
    assert "Connection refused" in said and "unreachable=1" in said


def test_a_module_is_named_when_it_begins_and_a_summary_is_shown_as_it_is(tmp_path):
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    code, said = play(tmp_path, "status.yml", **here, stack_backup_dir=str(tmp_path / "none"))
    assert code == 2 and "monitor : Look at the backups … shop: CRITICAL CRITICAL folder: the backup folder" in said, (
        said
    )
    assert "msg:" not in said and "- '" not in said


def test_a_mistyped_project_folder_is_told_and_not_made(tmp_path):
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    code, said = play(tmp_path, "backup.yml", **here, stack_project_dir=str(tmp_path / "shopp"))
    assert code == 2 and f"the project folder {tmp_path}/shopp is missing on shop" in said, said
    assert not (tmp_path / "shopp").exists()


@pytest.mark.parametrize(
    ("hosts", "why"),
    [("stack: {hosts: {shop: }}", "stacks"), (None, "No inventory was parsed")],
    ids=["no-group-stacks", "no-inventory"],
)
def test_a_run_that_reaches_nobody_is_no_success(tmp_path, hosts, why):
    if hosts:
        (tmp_path / "hosts.yml").write_text(hosts)
    argv = [Path(sys.executable).parent / "ansible-playbook", "-i", tmp_path / "hosts.yml", "playbooks/backup.yml"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode and why in done.stderr, done.stdout + done.stderr
