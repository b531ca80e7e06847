"""The host's own command: the engine's files as they are, and nothing else."""

import filecmp
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stack_backup import __version__
from stack_backup.errors import BackupError
from stack_backup.install import install

ENGINE = Path(__file__).resolve().parents[2] / "module_utils" / "stack_backup"


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
