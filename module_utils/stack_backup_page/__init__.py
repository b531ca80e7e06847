"""What the control node tells of all stacks at once: a table, a page, JSON. Python's standard library only."""

from .report import report

__all__ = ["report"]
