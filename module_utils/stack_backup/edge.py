"""Where a module meets the engine: one call, one fail_json."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, Callable

from . import progress
from .errors import BackupError

__all__ = ["answer"]


def answer(module: Any, job: Callable[[], dict[str, Any]]) -> None:
    """Run ``job`` and end the module with its result, or with its error and what is known beside it."""
    folder = module.params.get("backup_dir")
    try:
        with progress.Note(Path(folder)) if folder else nullcontext():
            result = job()
    except BackupError as error:
        details = {"changed": False, **error.details}
        module.fail_json(msg=str(error), **details)
    else:
        module.exit_json(**result)
