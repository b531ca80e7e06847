"""Lets faults come at the steps of one job, one by one, and judges each."""

from . import plan
from .judge import judge
from .stack import run

__all__ = ["OUTCOMES", "inject"]

OUTCOMES = ("done", "told", "killed", "not met")


def said(outcome):
    """An outcome in a word."""
    if outcome is None:
        return "killed"
    if not outcome["came"]:
        return "not met"
    return "done" if outcome["ok"] else "told"


def prepare(stack, name):
    """The world that the job meets."""
    stack.reset()
    if name == "fetch":
        stack.lose(stack.oldest())


def inject(stack, name, number, seed, tell, only=None):
    """Rows of (job, kind, outcome, step, complaints)."""
    job = plan.jobs(stack)[name]
    prepare(stack, name)
    before = {"states": stack.states(), "databases": stack.databases()}
    traced = run(stack, job)
    assert traced["ok"], traced["error"]
    rows = [(name, "none", "done", "", judge(stack, name, job, traced, before))]
    for fault in plan.faults(traced["steps"], number, seed, engine=bool(stack.engine), only=only):
        prepare(stack, name)
        outcome = run(stack, job, fault)
        stack.recover(fault["kind"])
        complaints = judge(stack, name, job, outcome, before)
        rows.append((name, fault["kind"], said(outcome), fault["step"], complaints))
        tell(rows[-1], len(traced["steps"]))
    return rows
