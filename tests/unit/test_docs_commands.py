"""Every block of README and docs: commands that their own parsers take, variables and paths that there are."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.cli.adhoc import AdHocCLI
from ansible.cli.playbook import PlaybookCLI
from ansible.cli.vault import VaultCLI
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from stack_backup import cli
from stack_backup.modules import MODULES
from stack_backup.monitor.metrics import _HELP
from stack_backup.stores import parse_stores

from scripts import reference

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
WRITTEN = ROOT / "docs" / "reference"  # by scripts/reference.py, of what other tests look at
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
OURS = re.compile(r"\b(?:stack|backup|restore|retention|offsite|schedule|monitor|verify|status)_[a-z_]*[a-z]\b")
JOBS = {"backup", "prune", "offsite", "verify", "check"}
# Programs whose commands nothing here can judge, and why that is well.
NOT_OURS = {"git": "a person's own checkout", ".": "what venv made"}


def specs():
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        for spec in yaml.safe_load(path.read_text())["argument_specs"].values():
            yield from spec["options"]


VARIABLES = set(specs())
METRICS = {f"stack_backup_{name}" for name in _HELP}
MODULE_OPTIONS = {option for module in MODULES.values() for option in module.spec}
NAMES = VARIABLES | METRICS | MODULE_OPTIONS | {path.stem for path in (ROOT / "library").glob("*.py")}
NAMES |= {path.name for path in (ROOT / "module_utils").iterdir()}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def blocks():
    for page in PAGES:
        if WRITTEN not in page.parents:
            for number, (_, kind, text) in enumerate(FENCE.findall(page.read_text()), 1):
                yield pytest.param(kind, text, id=f"{page.relative_to(ROOT)}-{number}")


def commands(text):
    """Each command of a block, as words; several of one line by themselves, without redirections."""
    for line in text.replace("\\\n", " ").splitlines():
        words = []
        for word in [*shlex.split(line, comments=True), ";"]:
            if word in ("&&", ";", "|"):
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def parsed(program, args):
    """Ansible's own reading of a command line."""
    command = program(["ansible", *args])
    command.init_parser()
    return command.parser.parse_args(args)


def hosts(inventory):
    found = InventoryManager(loader=DataLoader(), sources=[str(ROOT / inventory)])
    return [host.name for host in found.get_hosts()]


BLOCKS = list(blocks())
SHELL = ("", "sh", "bash", "console")


class Judge:
    """Whether a command is one; raises what is wrong with it."""

    def __init__(self):
        self.folder = ROOT
        self.playbooks = set()

    def __call__(self, words):
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        program, *args = words
        if program in NOT_OURS:
            return
        getattr(self, program.replace("-", "_"))(args)

    def __getattr__(self, program):
        raise AssertionError(f"no test knows the program {program}: say here how it is judged")

    def cd(self, args):
        (folder,) = args
        self.folder = self.folder / folder
        assert self.folder.is_dir()

    def cp(self, args):
        source, target = args
        assert (self.folder / source).is_file() and not target.startswith("/")

    def pip(self, args):
        command, option, file = args
        assert (command, option) == ("install", "-r") and (ROOT / file).is_file()

    def python(self, args):
        option, module, *_ = args
        assert option == "-m" and (ROOT / f"{module.replace('.', '/')}.py").is_file()

    def make(self, args):
        assert args and all(arg in TARGETS or arg.startswith("BENCH=") for arg in args), args

    def stack_backup(self, args):
        asked = cli._parser().parse_args([arg for arg in args if not arg.startswith(">")])
        assert getattr(asked, "job", "backup") in JOBS

    def ssh_keygen(self, args):
        """Makes a key, signs or verifies: the commands of docs/signing.md, which unit/test_signing.py runs."""
        if "-Y" in args:
            assert args[args.index("-Y") + 1] in ("sign", "verify") and args[args.index("-n") + 1] == "stack-backup"
        else:
            assert args[args.index("-t") + 1] == "ed25519" and args[args.index("-N") + 1] == ""

    def python3(self, args):
        assert args == ["-m", "venv", ".venv"]

    def export(self, args):
        """Which inventory is meant from then on: one that the page shows."""
        (setting,) = args
        name, _, path = setting.partition("=")
        assert name == "ANSIBLE_INVENTORY" and f"# {path}/hosts.yml\n" in (ROOT / "README.md").read_text()

    def find(self, args):
        """Hands files to another command."""
        assert args[-1] == "+"
        self(args[args.index("-exec") + 1 : -1])

    def ansible(self, args):
        asked = parsed(AdHocCLI, args)
        assert asked.args == "stacks" and all((ROOT / path).is_dir() for path in asked.inventory)
        if asked.module_name.endswith(".command") and asked.module_args.startswith("ssh-keygen"):
            self(shlex.split(asked.module_args))

    def ansible_vault(self, args):
        parsed(VaultCLI, args)

    def ansible_playbook(self, args):
        asked = parsed(PlaybookCLI, args)
        for given in asked.extra_vars:
            names = json.loads(given) if given.startswith("{") else [given.split("=", 1)[0]]
            assert set(names) <= VARIABLES, given
        (playbook,) = asked.args
        inventories = asked.inventory or []
        assert (ROOT / playbook).is_file() and all((ROOT / path).is_dir() for path in inventories)
        self.playbooks.add((playbook, *inventories))
        if asked.subset:
            assert inventories and all(host in hosts(inventories[0]) for host in asked.subset.split(","))

    def rclone(self, args):
        """Fetches one recovery point and no other: run, with folders of the test's own in place of the bucket."""
        assert args[:2] == ["--config", "rclone.conf"] and args[2] in ("lsf", "copy")


def judge(text):
    """Look at every command of a block; the playbooks that they run, each with its inventories."""
    if text.startswith("# The manual way back"):  # what integration/test_manual_restore.py runs
        assert text in reference.manual_restore()
        return set()
    judge = Judge()
    found = list(commands(text))
    assert found, "a block without a command is a block of text"
    for words in found:
        judge(words)
    return judge.playbooks


@pytest.mark.parametrize(("kind", "text"), BLOCKS)
def test_the_block(kind, text):
    if kind == "yaml":
        variables(yaml.safe_load(text))
    elif kind != "text":
        assert kind in SHELL, f"nobody judges blocks of {kind}"
        judge(text)


def variables(data):
    """Variables that there are, stores that can be read, metrics that are written."""
    for key, value in data.items():
        if OURS.fullmatch(key):
            assert key in VARIABLES, key
        if key == "stack_stores":
            parse_stores(value)
        if key == "expr":
            assert set(OURS.findall(value)) <= METRICS, value
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                variables(item)


def test_the_playbooks_of_the_commands_pass_the_syntax_check():
    playbooks = set().union(*(judge(block.values[1]) for block in BLOCKS if block.values[0] in SHELL))
    assert {playbook for playbook, *_ in playbooks} == {
        f"playbooks/{path.name}" for path in (ROOT / "playbooks").iterdir()
    }
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    for inventories in sorted({tuple(inventories) for _, *inventories in playbooks}):
        argv = [BIN / "ansible-playbook", "--syntax-check", *(arg for path in inventories for arg in ("-i", path))]
        argv += sorted(playbook for playbook, *others in playbooks if tuple(others) == inventories)
        done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_and_paths_in_the_text(page):
    text = FENCE.sub("", page.read_text())
    for code in re.findall(r"`([^`\n]+)`", text):
        for match in OURS.finditer(code):
            stem = match.group()
            if code[match.end() :].startswith(("*", "_*", "…", "_…")):
                assert any(name.startswith(stem) for name in NAMES), code
            elif not re.search(r"[\w/]$", code[: match.start()]):
                assert stem in NAMES, code
        for path in re.findall(r"^(?:playbooks|roles|docs|scripts|inventories|examples|tests|library)/[\w./-]*", code):
            assert (ROOT / path).exists() or "NAME" in code or "<" in code, code
    for link in re.findall(r"\]\(([^)#:]*)(?:#[^)]*)?\)", text):
        assert not link or (page.parent / link).exists(), link


def test_rclone_fetches_the_one_point(tmp_path):
    """The commands of docs/manual-restore.md, run."""
    bucket, here = tmp_path / "bucket", tmp_path / "here"
    for name in (
        "postgres/postgres-20261124-021500.dump/toc.dat",
        "redis/redis-20261124-021500.rdb",
        "redis/redis-20261123-021500.rdb",
    ):
        (bucket / "trading" / name).parent.mkdir(parents=True, exist_ok=True)
        (bucket / "trading" / name).write_text(name)
    (tmp_path / "rclone.conf").write_text(f"[s3]\ntype = alias\nremote = {bucket}\n")
    page = (ROOT / "docs/manual-restore.md").read_text()
    (block,) = [block for _, _, block in FENCE.findall(page) if block.startswith("rclone")]
    found = list(commands(block.replace("example-backups-production/", "").replace("/var/backups/trading", str(here))))
    assert [words[3] for words in found] == ["lsf", "copy"]
    for words in found:
        subprocess.run([BIN / "rclone", *words[1:]], cwd=tmp_path, check=True)
    fetched = sorted(str(path.relative_to(here)) for path in here.rglob("*") if path.is_file())
    assert fetched == ["postgres/postgres-20261124-021500.dump/toc.dat", "redis/redis-20261124-021500.rdb"]
