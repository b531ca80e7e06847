"""Which faults come at which steps of which jobs."""

import random

__all__ = ["faults", "jobs"]

_PROCESS = ("SIGKILL", "SIGTERM")
_FILE = (*_PROCESS, "EIO", "ENOSPC", "power")
_START = (*_PROCESS, "EAGAIN", "disk full", "power", "clock+90000", "clock-90000")
_STARTED = (
    *(*_PROCESS, "client", "side", "clock+90000", "disk full", "power"),
    *("postgres crashes", "redis crashes", "postgres stalls", "redis stalls"),
)
_DAEMON = ("dockerd restarts", "dockerd crashes")
_NETWORK = ("network lost", "network silent")


def jobs(stack):
    """Name → function of the engine and its parameters."""
    keep = {f"keep_{period}": 0 for period in ("daily", "weekly", "monthly")}
    return {
        "backup": ("point.take", stack.params("RECOVERY_POINT", quiesce=["app"])),
        "prune": ("prune.prune", stack.params("BACKUP_PRUNE", **keep, keep_last=1)),
        "offsite": ("offsite.copy.copy", stack.offsite()),
        "fetch": ("offsite.fetch.fetch", stack.offsite("OFFSITE_FETCH", point=stack.oldest())),
        "drill": ("drill.drill", stack.params("BACKUP_DRILL")),
        "restore": ("restore.restore", stack.params("STACK_RESTORE", confirm="shop")),
    }


def _kinds(step, engine, order):
    """Of every other program that runs, first what only it can meet: there are far more steps than such."""
    call, program = step.split(" ")[1:3]
    if call != "started":
        return order.sample(*((_START, len(_START)) if call == "start" else (_FILE, len(_FILE))))
    own = {"rclone": _NETWORK, "docker": _DAEMON if engine else ()}.get(program, ())
    first = order.sample(own, len(own))
    others = order.sample(_STARTED, len(_STARTED))
    return first + others if order.random() < 0.5 else others + first


def faults(steps, number, seed, *, engine=False, only=None):
    """So many pairs of a step and a kind: every step once, as far as they go, and then more of them.

    ``engine``: the Docker engine is the harness' own, and may be hurt. ``only``: of the kinds whose names begin so.
    """
    order = random.Random(seed)  # noqa: S311 - for the same choice each time
    pairs = []
    for step in steps:
        kinds = _kinds(step, engine, order)
        pairs += [(turn, order.random(), step, kind) for turn, kind in enumerate(kinds)]
    chosen = [{"step": step, "kind": kind} for _turn, _order, step, kind in sorted(pairs)]
    return [fault for fault in chosen if fault["kind"].startswith(only or "")][:number]
