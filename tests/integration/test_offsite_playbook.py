"""The front doors of offsite copies: playbooks/offsite.yml, by a container's rclone and by the host's own, and
playbooks/restore.yml from there."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, ROOT
from endpoints import RCLONE, s3
from stack_backup import arguments, catalog
from stack_backup.offsite import copy

from tests.world import HOUR, World, point_id


class Host:
    """A host with two recovery points."""

    def __init__(self, folder, remote, name, **given):
        self.name, self.folder, self.remote = name, folder, remote
        self.etc = folder / "etc" / "offsite"
        self.world = World(folder)
        self.world.backups.chmod(0o700)
        self.points = [point_id(self.world.now - hours * HOUR) for hours in (30, 3)]
        for hours in (30, 3):
            self.world.point(self.world.now - hours * HOUR)
        self.given = {
            "stack_backup_dir": str(self.world.backups),
            "offsite_config_dir": str(self.etc),
            "offsite_remote": remote.path(name),
            **given,
        }

    def there(self):
        """sha256 of every artifact at the remote, by what lies there."""
        folder = self.remote.folder / self.name
        files = [path for path in folder.glob("*/*") if path.suffix != ".json"]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def here(self):
        """The same, by the manifests here."""
        manifests = [json.loads(path.read_text())["artifact"] for path in self.world.backups.glob("[!.]*/*.json")]
        return {item["name"]: item["sha256"] for item in manifests}

    def modes(self):
        return {path.name: oct(path.stat().st_mode & 0o777) for path in [self.etc, *self.etc.rglob("*")]}


def play(folder, remote, hosts, *args, playbook="offsite", fails=False):
    """What each task said, by host and name; ``hosts``: their variables by name; ``fails``: the play must."""
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "stack_name": "shop",
        "stack_stores": [{"name": "redis", "engine": "redis", "container": "none"}],
        "offsite_rclone_config": remote.config,
    }
    (folder / "hosts.yml").write_text(yaml.safe_dump({"stacks": {"hosts": hosts, "vars": common}}))
    env = {**os.environ, "ANSIBLE_HOME": str(folder / "home"), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    env.update(ANSIBLE_STDOUT_CALLBACK="ansible.posix.json", PATH=f"{Path(RCLONE).parent}:{os.environ['PATH']}")
    argv = ["ansible-playbook", "-i", str(folder / "hosts.yml"), f"playbooks/{playbook}.yml", *args]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    tasks = [task for one in json.loads(done.stdout)["plays"] for task in one["tasks"]]
    said = {name: {} for name in hosts}
    for task in tasks:
        for name, result in task["hosts"].items():
            said[name][task["task"]["name"]] = result
    return said


def changed(said):
    return {name: [task for task, result in tasks.items() if result.get("changed")] for name, tasks in said.items()}


@pytest.fixture
def remote(tmp_path):
    with s3(tmp_path / "remote") as remote:
        yield remote


FOLDER, CONF = "offsite : Make the folder of the configuration", "offsite : Write the configuration"
COMPOSE, COPY = "offsite : Write the Compose project that hands it to rclone", "offsite : Copy the recovery points"
PRUNE = "offsite : Remove from the remote what it shall not keep"


@pytest.mark.timeout(900)
def test_every_way(tmp_path, remote):
    boxed = Host(tmp_path / "boxed", remote, "boxed")
    plain = Host(tmp_path / "plain", remote, "plain", offsite_runner="host", offsite_keep_last=1)
    none = Host(tmp_path / "none", remote, "none", offsite_remote="")

    assert changed(play(tmp_path, remote, {"boxed": boxed.given}, "--check")) == {"boxed": [FOLDER, CONF, COMPOSE]}
    assert not boxed.etc.exists()

    first = play(tmp_path, remote, {"boxed": boxed.given, "plain": plain.given, "none": none.given})
    assert changed(first) == {"boxed": [FOLDER, CONF, COMPOSE, COPY], "plain": [FOLDER, CONF, COPY, PRUNE], "none": []}
    assert "none: no offsite_remote is set" in first["none"]["offsite : Tell of a stack without offsite copies"]["msg"]
    assert boxed.there() == boxed.here() and len(boxed.here()) == 4
    newest = {name for name in plain.here() if plain.points[1] in name}
    assert plain.there().keys() == newest and plain.there().items() <= plain.here().items()
    modes = {"offsite": "0o711", "shop": "0o700", "rclone.conf": "0o600"}
    assert boxed.modes() == {**modes, "compose.yml": "0o600"} and plain.modes() == modes
    both = {"boxed": boxed.given, "plain": plain.given}
    again = play(tmp_path, remote, both)
    assert changed(again) == {"boxed": [], "plain": []}
    shown = again["plain"]["offsite : Show what is there"]["msg"]
    assert shown[0] == f"plain: 0 recovery points copied to {remote.path('plain')}, 1 are there"
    assert shown[1].startswith(f"keep     {plain.points[1]} ")

    # Its files follow the inventory: keys, what runs rclone, and no remote any more.
    boxed.given.update(offsite_rclone_config=f"# rotated\n{remote.config}", offsite_runner="host")
    plain.given.update(offsite_remote="")
    assert changed(play(tmp_path, remote, both)) == {
        "boxed": [CONF, "offsite : Remove the Compose project of a host that runs rclone itself"],
        "plain": [
            "offsite : Remove the stack's configuration",
            "offsite : Remove the folder of all with the last one",
        ],
    }
    assert boxed.modes() == modes and not plain.etc.exists()
    assert (boxed.etc / "shop" / "rclone.conf").read_text().startswith("# rotated\n[s3]\n")


class Lost:
    """A host that lost its backups, and a store of it that has changed since; a point is at the remote."""

    def __init__(self, stack, folder, remote, monkeypatch):
        self.folder, self.remote, self.backups, self.etc = (
            folder,
            remote,
            folder / "backups",
            folder / "etc" / "offsite",
        )
        self.backups.mkdir(mode=0o700)
        store = {"name": "redis", "engine": "redis", "service": "redis7"}
        self.point = stack.take(self.backups, [store])["id"]
        params = {name: option.get("default") for name, option in arguments.OFFSITE_COPY.items()}
        params.update(stack="test", backup_dir=str(self.backups), remote=remote.path("r"), runner="host")
        (folder / "rclone.conf").write_text(remote.config)
        monkeypatch.setenv("PATH", str(Path(RCLONE).parent), prepend=os.pathsep)
        assert copy.copy({**params, "config_dir": str(folder)})["there"] == [self.point]
        shutil.rmtree(self.backups)
        self.backups.mkdir(mode=0o700)
        stack.redis("redis7", "set", "a", "9")
        self.host = {"stack_name": "test", "stack_backup_dir": str(self.backups), "stack_stores": [store]}
        self.host.update(stack_project_dir=str(stack.folder), stack_project_name=PROJECT, stack_dependents=[])
        self.host.update(offsite_config_dir=str(self.etc), offsite_remote=remote.path("r"), restore_from="offsite")

    def restore(self, *args, fails=False):
        """What each task said, or what the play did that fails."""
        return play(self.folder, self.remote, {"one": self.host}, *args, playbook="restore", fails=fails)["one"]


@pytest.fixture
def lost(stack, tmp_path, remote, monkeypatch):
    return Lost(stack, tmp_path, remote, monkeypatch)


@pytest.mark.timeout(900)
def test_restore_from_there(stack, lost, remote):
    point, backups, etc, restore = lost.point, lost.backups, lost.etc, lost.restore

    def plan():
        said = restore("--check")
        return said["restore : Show what was fetched"]["msg"], said.get("restore : Show the plan", {"msg": []})["msg"]

    fetch, planned = plan()
    assert fetch == [
        f"one: the configuration for {remote.path('r')} would be written first; what is there is known after that"
    ]
    assert planned == [] and not etc.exists() and not (backups / "redis").exists()

    said = restore("-e", "restore_confirm=test")
    assert said["restore : Show what was fetched"]["msg"][0].endswith(f"{remote.path('r')}: fetched into {backups}")
    assert stack.redis("redis7", "get", "a") == "1"
    assert catalog.read(backups, "test").complete(point)

    fetch, planned = plan()
    assert fetch == [f"one: recovery point {point} of stack test at {remote.path('r')}: all of it is in {backups}"]
    assert planned[0] == f"one: restore recovery point {point}, side by side"
    shutil.rmtree(backups / "redis")
    fetch, planned = plan()
    assert f"would be fetched into {backups}" in fetch[0] and planned == []
    assert stack.redis("redis7", "get", "a") == "1"


@pytest.mark.timeout(900)
def test_staging_from_the_prefix_of_production(stack, lost, remote):
    """By their remote, and only when it is said that this is meant; nothing of theirs changes."""
    before = sorted(path.name for path in (remote.folder / "r").rglob("*"))
    lost.host.update(stack_name="staging", offsite_remote=remote.path("s"), restore_offsite_remote=remote.path("r"))

    def refusal(*args):
        said = lost.restore("-e", "restore_confirm=staging", *args, fails=True)
        return next(result["msg"] for result in said.values() if result.get("failed"))

    assert "points are of stack test, this is stack staging" in refusal()
    assert "restore_as_stack=staging" in refusal("-e", "restore_as_stack=test")
    assert stack.redis("redis7", "get", "a") == "9" and not (lost.backups / ".from").exists()

    shown = lost.restore("-e", "restore_as_stack=staging", "--check")["restore : Show what was fetched"]["msg"][0]
    assert f"recovery point {lost.point} of stack test" in shown and stack.redis("redis7", "get", "a") == "9"
    said = lost.restore("-e", "restore_as_stack=staging", "-e", "restore_confirm=staging")
    fetched = said["restore : Show what was fetched"]["msg"][0]
    assert f"recovery point {lost.point} of stack test" in fetched and f"{lost.backups / '.from' / 'test'}" in fetched
    assert stack.redis("redis7", "get", "a") == "1"
    own = catalog.read(lost.backups, "staging")
    assert own.problems == [] and [own.safety(point) for point in own.points] == [True]
    assert sorted(path.name for path in (remote.folder / "r").rglob("*")) == before
    assert not (remote.folder / "s").exists()
