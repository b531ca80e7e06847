"""Where a module meets the engine: one call, one fail_json."""

from __future__ import annotations

from typing import Any, Callable

from .errors import BackupError

__all__ = ["answer"]


def answer(module: Any, job: Callable[[], dict[str, Any]]) -> None:
    """Run ``job`` and end the module with its result, or with its error and what is known beside it."""
    try:
        result = job()
    except BackupError as error:
        details = {"changed": False, **error.details}
        module.fail_json(msg=str(error), **details)
    else:
        module.exit_json(**result)
