"""A misspelt variable fails on the control node, before a host is asked anything."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "roles" / "stack" / "filter_plugins" / "variables.py"
spec = importlib.util.spec_from_file_location("variables", FILE)
variables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(variables)
PLAYBOOKS = sorted(path.name for path in (ROOT / "playbooks").glob("*.yml"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("backup_quiese", "did you mean backup_quiesce?"),
        ("retention_keep_dayly", "did you mean retention_keep_daily?"),
        ("restor_point", "did you mean restore_point?"),
        ("bakcup_stores", "did you mean backup_stores?"),
        ("restore_quiesce", "did you mean backup_quiesce?"),
        ("offsite_lock", "is no variable of this project"),
        ("stack_colour_of_the_wall", "is no variable of this project"),
    ],
)
def test_what_is_misspelt(name, said):
    (fault,) = variables.unknown_variables([name, "stack_name", "inventory_dir"])
    assert fault.startswith(name) and fault.endswith(said)
    assert variables.unknown_variables([name], [f"{name[:8]}*"]) == [] == variables.unknown_variables([name], [name])


@pytest.mark.parametrize(
    "name",
    ["stack_parameters", "backup_result", "__stack_backup_dir", "store_name", "my_backup_dir", "group_names", "status"],
)
def test_what_is_not(name):
    assert variables.unknown_variables([name]) == []


def play(tmp_path, playbook, *args, **given):
    """Run a playbook for a host that nobody can reach."""
    away = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    away |= {
        "stack_project_dir": "/srv/shop",
        "stack_stores": [{"name": "redis", "engine": "redis", "service": "redis"}],
    }
    away |= {"backup_report_dir": str(tmp_path / "reports"), "offsite_info_bucket": ""}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"stacks": {"hosts": {"shop": {**away, **given}}}}))
    argv = [
        Path(sys.executable).parent / "ansible-playbook",
        "-i",
        tmp_path / "hosts.yml",
        f"playbooks/{playbook}",
        *args,
    ]
    env = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_every_playbook_refuses_it_before_it_asks_the_host(tmp_path, playbook):
    code, said = play(tmp_path, playbook, "-e", "restor_point=latest", backup_quiese=["orchestrator"])
    assert code == 2, said
    assert "backup_quiese is no variable of this project: did you mean backup_quiesce?" in said
    assert "restor_point is no variable of this project: did you mean restore_point?" in said
    assert "unreachable=0" in said and "Connection refused" not in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"stack_stores": [{"name": "p", "engine": "postgres", "service": "p", "databse": "shop"}]},
            "stack_stores[0]: there is no parameter databse: did you mean database?",
        ),
        (
            {"stack_stores": [{"name": "r", "engine": "redis", "service": "r", "database": "x"}]},
            "store r: database is no option of a redis store",
        ),
        (
            {"stack_health_checks": [{"url": "http://x", "jason": {}}]},
            "stack_health_checks[0]: there is no parameter jason: did you mean json?",
        ),
        ({"stack_smoke_queries": [{"store": "redis"}]}, "stack_smoke_queries[0]: give one of sql, command"),
    ],
)
def test_what_is_misspelt_within_a_list(tmp_path, given, said):
    code, told = play(tmp_path, "backup.yml", **given)
    assert code == 2 and said in told and "Connection refused" not in told, told


def test_right_ones_and_those_that_are_meant_reach_the_host(tmp_path):
    allowed = {
        "backup_server": "b",
        "monitor_agent_port": 1,
        "stack_unknown_variables": ["backup_server", "monitor_agent*"],
    }
    code, said = play(tmp_path, "verify.yml", **allowed)
    assert code == 4 and "Connection refused" in said, said
