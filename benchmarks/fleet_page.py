"""Writes what was measured of a fleet."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Sequence

from .control import Spent
from .data import MIB
from .report import table

__all__ = ["Idle", "Measured", "page"]


@dataclass(frozen=True)
class Measured:
    """One run of a playbook, and the seconds that the table shows beside its own."""

    hosts: int
    forks: int
    spent: Spent
    beside: float


@dataclass(frozen=True)
class Idle:
    """One run of a play that does nothing."""

    words: str
    hosts: int
    spent: Spent


def _runs(runs: Sequence[Measured], beside: str) -> str:
    head = ["hosts", "forks", "seconds", "seconds / host", beside, "control: CPU s / host", "control: MiB"]
    rows = [
        [
            str(run.hosts),
            str(run.forks),
            f"{run.spent.seconds:.0f}",
            f"{run.spent.seconds / run.hosts:.2f}",
            f"{run.beside:.1f}",
            f"{run.spent.cpu / run.hosts:.2f}",
            f"{run.spent.memory / MIB:.0f}",
        ]
        for run in runs
    ]
    return table(head, rows)


def _idles(idle: Sequence[Idle]) -> str:
    first = idle[0].spent
    rows = [
        [
            one.words,
            f"{one.spent.seconds:.1f}",
            f"{one.spent.seconds / first.seconds:.2f}",
            f"{one.spent.cpu / one.hosts:.2f}",
            f"{one.spent.memory / MIB:.0f}",
        ]
        for one in idle
    ]
    return table(["way", "seconds", "÷ first", "control: CPU s / host", "control: MiB"], rows)


def page(
    where: str,
    backups: Sequence[Measured],
    elsewhere: Sequence[Measured],
    idle: Sequence[Idle],
    broken: dict[str, str],
    spent: Spent,
) -> str:
    """The whole report."""
    hosts = max(run.hosts for run in backups)
    causes = table(["host", "what the report says"], [[name, " ".join(said.split())] for name, said in broken.items()])
    return f"""# A fleet, measured

Container hosts, every one reached by ssh, with control node, hosts and the one Postgres and Redis that their stacks share
(a database of 1 MiB each) on the same machine: {where}.
Again: `make bench-fleet`, or `python -m benchmarks.fleet --help`. What follows from it: [fleet.md](fleet.md).

## `playbooks/backup.yml`

{_runs(backups, "a point takes")}

One run each, new connections. After each run every host had one new recovery point, complete, with the digests of its
manifests. *a point takes*: the hosts' own seconds for theirs, median; they share {os.cpu_count()} cores with each other and with Ansible,
so more forks make each of them slower. *control*: all processes of ansible-playbook, with ssh and its masters; memory that they share
is counted once.

## Hosts that work elsewhere

A play with as many tasks that reach the host, of which one waits there for two seconds and costs this machine nothing: as
many machines look from the control node. *ideal*: the seconds of those waits alone, forks at a time.

{_runs(elsewhere, "ideal")}

## Ansible alone

Three tasks that reach the host, as many as backup.yml has, and do nothing there: {idle[0].hosts} hosts, 20 forks.

{_idles(idle)}

## One host in twenty broken

{len(broken)} of {hosts} hosts, 20 forks: {spent.seconds:.0f} s, exit code {spent.code}. All others have a new whole recovery point on disk, and the
report says so of exactly these. Of the broken ones it says:

{causes}
"""
