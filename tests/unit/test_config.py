"""A host's configuration: which one is meant, and what is refused."""

import json

import pytest
from stack_backup import cli, config
from stack_backup.errors import BackupError

DRILL = ["backup_drill", {"stack": "shop", "backup_dir": "/b"}]


@pytest.fixture
def etc(tmp_path, monkeypatch):
    monkeypatch.setenv("STACK_BACKUP_ETC", str(tmp_path / "etc"))
    monkeypatch.setenv("STACK_BACKUP_VAR", str(tmp_path / "var"))
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc"


def write(etc, name="shop", **given):
    (etc / f"{name}.json").write_text(json.dumps({"format": 1, "stack": name, "verify": [DRILL], **given}))


def refused(stack=None):
    with pytest.raises(BackupError) as caught:
        config.find(stack)
    return str(caught.value)


def test_the_only_stack_needs_no_name(etc, tmp_path):
    write(etc)
    found = config.find(None)
    assert (found.stack, str(found.backup_dir), found.state_dir) == ("shop", "/b", tmp_path / "var" / "shop")
    assert found.job("verify")[0][1]["memory"] == "1g"


def test_which_stack(etc):
    assert "no stack is set up on this host" in refused()
    write(etc)
    write(etc, "other", verify=[["backup_drill", {"backup_dir": "/o"}]])
    assert refused().endswith("name one: --stack other|shop")
    assert config.find("other").stack == "other"
    assert "gone.json is missing: run playbooks/install.yml" in refused("gone")
    assert "is no name of a stack" in refused("../shop")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"format": 2}, "is of format 2, this version reads 1: run playbooks/install.yml again"),
        ({"stack": "other"}, "is of stack other, but has jobs of shop"),
        ({"stack": "other", "verify": [["backup_drill", {"backup_dir": "/b"}]]}, "a file is named like its stack"),
        ({"verify": [["backup_dril", {}]]}, "this version has no module backup_dril"),
        ({"verify": [["backup_drill", {"backup_dir": "/b", "memroy": "1g"}]]}, "there is no parameter memroy"),
        ({"verify": []}, "verify is not a list of modules"),
        ({"verify": ["backup_drill"]}, "is not a module and its parameters"),
        ({"info": [["backup_info", {"backup_dir": "/c"}]]}, "has /b and /c as the backup folder of stack shop"),
    ],
)
def test_what_is_refused(etc, capsys, given, said):
    write(etc, **given)
    assert said in refused("shop")
    assert cli.main(["run", "verify", "--stack", "shop"]) == 2
    assert said in capsys.readouterr().err
    assert cli.main(["check", "--stack", "shop"]) == 3


def test_a_file_that_does_not_read(etc):
    (etc / "shop.json").write_text("{")
    assert "is no JSON" in refused("shop")
    (etc / "shop.json").write_text("[]")
    assert "is of format None" in refused("shop")


def test_a_job_that_there_is_not(etc, capsys):
    write(etc)
    assert cli.main(["run", "backpu"]) == 2
    assert "stack shop has no job backpu: it has verify" in capsys.readouterr().err
