"""Every stack of every environment has a remote, a prefix and keys of its own."""

import configparser
import re
import shutil
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret
from ansible.template import Templar, trust_as_template
from ansible.vars.manager import VariableManager

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = sorted(path.name for path in (ROOT / "inventories").iterdir())
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    """Environment and host → what its variables come to, with the vaults made as their examples say."""
    home = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "inventories", home / "inventories")
    (home / "examples/trading").mkdir(parents=True)
    (home / "password").write_text("example")
    for example in home.rglob("vault.yml.example"):
        vault = shutil.copy(example, example.with_suffix(""))
        subprocess.run([BIN / "ansible-vault", "encrypt", "--vault-id", f"x@{home / 'password'}", vault], check=True)
        assert "$ANSIBLE_VAULT" in Path(vault).read_text()
    return {(name, host): told for name in ENVIRONMENTS for host, told in _resolved(home / "inventories" / name)}


def _resolved(folder):
    loader = DataLoader()
    loader.set_vault_secrets([("x", VaultSecret(b"example"))])
    inventory = InventoryManager(loader=loader, sources=[str(folder)])
    manager = VariableManager(loader=loader, inventory=inventory)
    for host in inventory.get_hosts("stacks"):
        templar = Templar(loader, variables=manager.get_vars(host=host))
        names = ("offsite_remote", "offsite_rclone_config", "offsite_info_bucket", "offsite_info_access_key")
        yield (
            host.name,
            {name: templar.template(trust_as_template(f"{{{{ {name} | default('') }}}}")) for name in names},
        )


def test_the_environments_are_there(stacks):
    assert {name for name, _host in stacks} == {"demo", "staging", "production"} == set(ENVIRONMENTS)


def test_no_stack_has_its_copies_in_or_above_anothers(stacks):
    remotes = [told["offsite_remote"].rstrip("/") for told in stacks.values()]
    assert all(re.fullmatch(r"[a-z0-9]+:/?[^{}]+/[^{}/]+", remote) for remote in remotes), remotes
    for one, other in permutations(remotes, 2):
        assert not f"{one}/".startswith(f"{other}/")


def test_each_stack_names_its_own_remote_and_has_its_own_keys(stacks):
    keys = []
    for (environment, host), told in stacks.items():
        config = configparser.ConfigParser(interpolation=None)
        config.read_string(told["offsite_rclone_config"])
        name, _, path = told["offsite_remote"].partition(":")
        assert config.sections() == [name] and path.endswith(f"/{host}")
        if environment == "demo":
            continue
        assert path.startswith(f"example-backups-{environment}/") and told["offsite_info_bucket"] == path.split("/")[0]
        keys.append(config[name]["access_key_id"])
        assert keys[-1] == f"example-{host}" and told["offsite_info_access_key"] == f"example-{environment}-read-only"
    assert len(keys) == len(set(keys)) > 2


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_the_vaults_example_has_what_the_variables_ask_for(environment):
    folder = ROOT / "inventories" / environment / "group_vars"
    asked = {name for path in folder.rglob("*.yml") for name in re.findall(r"\bvault_\w+", path.read_text())}
    assert asked == set(yaml.safe_load((folder / "all/vault.yml.example").read_text()))


def test_a_playbook_is_limited_to_one_stack_of_an_environment():
    argv = [BIN / "ansible-playbook", "-i", "inventories/production", "playbooks/backup.yml", "--limit", "trading-a"]
    said = subprocess.run([*argv, "--list-hosts"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "trading-a" in said and "trading-b" not in said
