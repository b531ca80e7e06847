"""Measures playbooks/backup.yml over many hosts, all by ssh: wall time against forks, and what the control node spends.

``python -m benchmarks.fleet --help``
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any, Optional

from module_utils.stack_backup.artifact import Lock

from .control import Spent, run
from .data import MIB
from .fleet_page import Idle, Measured, page
from .hosts import Fleet
from .report import machine
from .servers import ROOT, sh

_BACKUP = "playbooks/backup.yml"
# As many tasks that reach a host as backup.yml has, and none that does anything there.
_IDLE = """- hosts: stacks
  gather_facts: {facts}
  tasks: [{{ansible.builtin.ping: }}, {{ansible.builtin.ping: }}, {{ansible.builtin.ping: }}]
"""
# The same where the hosts work for a while, and not on this machine's processors: as a fleet of machines looks from here.
_ELSEWHERE = """- hosts: stacks
  gather_facts: false
  tasks: [{ansible.builtin.ping: }, {ansible.builtin.wait_for: {timeout: 2}}, {ansible.builtin.ping: }]
"""
_NAMED = ("-e", "ansible_python_interpreter=/usr/bin/python3")
# What ansible.cfg and the playbooks set, undone one by one; the last is what an inventory can add.
_WAYS: list[tuple[str, dict[str, str], tuple[str, ...]]] = [
    ("as ansible.cfg has it", {}, ()),
    ("a connection for each task", {"ANSIBLE_SSH_ARGS": "-o ControlMaster=no -o ControlPath=none"}, ()),
    ("no pipelining", {"ANSIBLE_PIPELINING": "false"}, ()),
    ("facts gathered", {}, ("facts",)),
    ("with `ansible_python_interpreter`", {}, _NAMED),
]


_FORKS = (5, 10, 20, 50)
# Not 50 at once: one engine on few cores has no time for them, which says nothing of 50 machines.
_RUNS = [(hosts, forks) for hosts in (10, 50, 100) for forks in _FORKS[:3] if forks <= hosts]


def _run(text: str) -> tuple[int, int]:
    hosts, forks = map(int, text.split("x"))
    return hosts, forks


def _options(argv: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument(
        "--runs",
        nargs="+",
        type=_run,
        default=_RUNS,
        metavar="HOSTSxFORKS",
        help="default: 10, 50, 100 hosts, 5 to 20 forks",
    )
    parser.add_argument("--image", default="stack-backup-host:13", help="of the hosts (default stack-backup-host:13)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks-fleet.md", help="the report")
    return parser.parse_args(argv)


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _play(fleet: Fleet, playbook: str, hosts: int, forks: int, *more: str, **env: str) -> Spent:
    limit = f"stacks[0:{hosts - 1}]"
    argv = ["ansible-playbook", "-i", str(fleet.inventory), playbook, "--limit", limit, "--forks", str(forks), *more]
    os.sync()
    return run(argv, fleet.inventory.with_name("log"), {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **env})


def _backup(fleet: Fleet, hosts: int, forks: int) -> Measured:
    """A backup of the first ``hosts``; every one must have a new whole recovery point, whatever the playbook says."""
    names = fleet.names[:hosts]
    before = {name: fleet.whole(name) for name in names}
    spent = _play(fleet, _BACKUP, hosts, forks)
    late = [name for name in names if len(fleet.whole(name) - before[name]) != 1]
    report = fleet.report()
    if spent.code or late:
        raise RuntimeError("no new recovery point: " + "; ".join(f"{name}: {report[name].get('msg')}" for name in late))
    took = median(told["seconds"] for told in report.values())
    _say(
        f"{hosts} hosts, {forks} forks: {spent.seconds:.1f} s, {spent.cpu:.1f} s of processor, {spent.memory / MIB:.0f} MiB"
    )
    return Measured(hosts, forks, spent, took)


def _idle(fleet: Fleet, hosts: int, forks: int) -> list[Idle]:
    """The play that does nothing, in each way."""
    done = []
    for words, env, more in _WAYS:
        playbook = fleet.inventory.with_name("idle.yml")
        playbook.write_text(_IDLE.format(facts=str("facts" in more).lower()))
        spent = _play(fleet, str(playbook), hosts, forks, *(_NAMED if more == _NAMED else ()), **env)
        if spent.code:
            raise RuntimeError(f"{words}: {spent.said[-2000:]}")
        _say(f"idle, {words}: {spent.seconds:.1f} s, {spent.cpu:.1f} s of processor, {spent.memory / MIB:.0f} MiB")
        done.append(Idle(words, hosts, spent))
    return done


def _elsewhere(fleet: Fleet, hosts: int, forks: int) -> Measured:
    """The play whose hosts work elsewhere."""
    playbook = fleet.inventory.with_name("elsewhere.yml")
    playbook.write_text(_ELSEWHERE)
    spent = _play(fleet, str(playbook), hosts, forks)
    if spent.code:
        raise RuntimeError(spent.said[-2000:])
    _say(
        f"elsewhere, {forks} forks: {spent.seconds:.1f} s, {spent.cpu:.1f} s of processor, {spent.memory / MIB:.0f} MiB"
    )
    return Measured(hosts, forks, spent, ceil(hosts / forks) * 2.0)


def _broken(fleet: Fleet) -> tuple[dict[str, str], Spent]:
    """One host in twenty is broken, each in another way; returns what the report says of these, and what it took.

    Raises RuntimeError unless all others have their recovery point, and the run failed and says of whom.
    """
    off = {"name": "redis", "engine": "redis", "container": fleet.container("h001").replace("-host-1", "-off-1")}
    unmounted = {"stack_backup_dir_create": False, "stack_backup_dir": str(fleet.backups("unmounted"))}
    gone = {"stack_stores": [{**off, "container": "gone"}]}
    kinds: list[dict[str, Any]] = [{}, {}, {"stack_stores": [off]}, unmounted, gone]
    broken = dict(zip(fleet.names[::-20], kinds))
    stopped, hung = ([fleet.container(name) for name in list(broken)[one : one + 1]] for one in (0, 1))
    fleet.tell(broken)
    before = {name: fleet.whole(name) for name in fleet.names}
    for container in stopped:
        sh("docker", "stop", "--time", "1", container)
    for container in hung:
        sh("docker", "pause", container)
    try:
        spent = _play(fleet, _BACKUP, len(fleet.names), 20)
    finally:
        for container in hung:
            sh("docker", "unpause", container)
    done = {name for name in fleet.names if len(fleet.whole(name) - before[name]) == 1}
    report = fleet.report()
    told = {name for name, said in report.items() if said.get("complete")}
    wanted = set(fleet.names) - set(broken)
    if not spent.code or done != wanted or told != wanted or set(report) != set(fleet.names):
        raise RuntimeError(f"exit code {spent.code}; done {sorted(done)}, told {sorted(told)}: {spent.said[-3000:]}")
    _say(
        f"{len(broken)} of {len(fleet.names)} hosts broken: {spent.seconds:.1f} s, {spent.cpu:.1f} s of processor, {spent.memory / MIB:.0f} MiB"
    )
    folder = str(fleet.inventory.parent)
    return {name: str(report[name]["msg"]).replace(folder, "…") for name in broken}, spent


def main(argv: Optional[list[str]] = None) -> None:
    """Measure, print the report and write it."""
    options = _options(argv)
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    for folder in (ROOT / ".cache", options.out.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with Lock(ROOT / ".cache"), tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / ".cache") as name:
        scratch = Path(name)
        where = machine(scratch)
        most = max(hosts for hosts, _forks in options.runs)
        _say(f"starting {most} hosts")
        with Fleet(scratch, most, options.image) as fleet:
            _backup(fleet, min(most, 5), 5)  # once, for the page cache
            backups = [_backup(fleet, hosts, forks) for hosts, forks in options.runs]
            elsewhere = [_elsewhere(fleet, most, forks) for forks in _FORKS]
            idle = _idle(fleet, min(most, 20), 20)
            broken, spent = _broken(fleet)  # the last: it leaves hosts behind that are down
    text = page(where, backups, elsewhere, idle, broken, spent)
    print(text)
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
