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


def jobs(stack):
    """Name → function of the engine and its parameters."""
    keep = {f"keep_{period}": 0 for period in ("daily", "weekly", "monthly")}
    return {
        "backup": ("point.take", stack.params("RECOVERY_POINT", quiesce=["app"])),
        "prune": ("prune.prune", stack.params("BACKUP_PRUNE", **keep, keep_last=1)),
        "offsite": ("offsite.copy.copy", stack.offsite()),
        "drill": ("drill.drill", stack.params("BACKUP_DRILL")),
        "restore": ("restore.restore", stack.params("STACK_RESTORE", confirm="shop")),
    }


def _kinds(step):
    call = step.split(" ")[1]
    return {"start": _START, "started": _STARTED}.get(call, _FILE)


def faults(steps, number, seed):
    """So many pairs of a step and a kind: every step once, as far as they go, and then more of them."""
    order = random.Random(seed)  # noqa: S311 - for the same choice each time
    pairs = []
    for step in steps:
        kinds = list(_kinds(step))
        order.shuffle(kinds)
        pairs += [(turn, order.random(), step, kind) for turn, kind in enumerate(kinds)]
    return [{"step": step, "kind": kind} for _turn, _order, step, kind in sorted(pairs)[:number]]
