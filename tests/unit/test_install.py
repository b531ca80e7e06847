"""The host's own command: the engine's files as they are, and nothing else."""

import filecmp
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stack_backup import __version__
from stack_backup.errors import BackupError
from stack_backup.install import install

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "module_utils" / "stack_backup"


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.py"))


@pytest.fixture
def params(tmp_path):
    return {"path": str(tmp_path / "opt"), "link": str(tmp_path / "bin" / "stack-backup"), "state": "present"}


def test_installs_all_files_once(params, tmp_path):
    assert install(params, True)["changed"] and not (tmp_path / "opt").exists()
    assert install(params)["changed"]
    assert files(tmp_path / "opt" / "stack_backup") == files(ENGINE)
    assert filecmp.cmpfiles(ENGINE, tmp_path / "opt" / "stack_backup", files(ENGINE), shallow=False)[1:] == ([], [])
    said = subprocess.run([params["link"], "--version"], capture_output=True, text=True, check=True, cwd="/").stdout
    assert said == f"stack-backup {__version__}\n"
    assert not install(params)["changed"]


def test_ansible_sends_all_files(params, tmp_path):
    """It sends what the module imports: what is imported only when a job runs must be among it."""
    given = " ".join(f"{name}={value}" for name, value in params.items())
    argv = ["ansible", "localhost", "-i", "localhost,", "-c", "local", "-m", "host_command", "-a", given]
    environment = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "home"), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    environment["ANSIBLE_PYTHON_INTERPRETER"] = sys.executable
    subprocess.run(argv, env=environment, check=True, capture_output=True, cwd=ROOT)
    assert files(tmp_path / "opt" / "stack_backup") == files(ENGINE)


def test_an_answer_imports_what_it_needs_and_no_more(tmp_path):
    """``list`` and ``status`` start in the time that Python takes: none of what makes backups comes along."""
    argv = [sys.executable, "-c", "import sys; from stack_backup import cli; print(*sys.modules)"]
    environment = {**os.environ, "PYTHONPATH": str(ENGINE.parent)}
    loaded = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment).stdout.split()
    ours = {name.removeprefix("stack_backup.") for name in loaded if name.startswith("stack_backup.")}
    assert not ours & {
        "containers",
        "manual",
        "point",
        "restore",
        "postgres",
        "redis",
        "monitor",
        "runner",
        "offsite.rclone",
    }
    assert not set(loaded) & {"ssl", "smtplib", "logging", "statistics", "concurrent.futures"}


def test_the_stacks_of_a_host_install_and_remove_it_at_one_time(params, tmp_path):
    for state in ("present", "absent"):
        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(install, [{**params, "state": state}] * 4))
        assert sorted(result["changed"] for result in done) == [False, False, False, True]
    assert not (tmp_path / "opt").exists()


def test_replaces_what_is_different_and_removes_what_is_gone(params, tmp_path):
    install(params)
    (tmp_path / "opt" / "stack_backup" / "cli.py").write_text("broken")
    (tmp_path / "opt" / "stack_backup" / "old.py").write_text("")
    assert install(params, True)["changed"]
    assert install(params)["changed"]
    assert files(tmp_path / "opt" / "stack_backup") == files(ENGINE)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_removes_it(params, tmp_path):
    install(params)
    params["state"] = "absent"
    assert install(params, True)["changed"] and (tmp_path / "opt").exists()
    assert install(params)["changed"]
    assert [*tmp_path.iterdir(), *(tmp_path / "bin").iterdir()] == [tmp_path / "bin"]
    assert not install(params)["changed"]


def test_touches_no_command_of_another(params, tmp_path):
    link = Path(params["link"])
    link.parent.mkdir()
    link.write_text("mine")
    for state in ("present", "absent"):
        with pytest.raises(BackupError, match="is there and is not ours"):
            install({**params, "state": state})
    assert link.read_text() == "mine" and not (tmp_path / "opt").exists()
