"""The report of all stacks: a table, and where asked for the page and its data as files."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path
from typing import Any, Callable, Optional

from ..stack_backup.errors import BackupError
from .detail import detail
from .fleet import FAILS, Stack, fleet
from .page import page
from .table import lines

__all__ = ["report"]

_FORMAT = 1
# What stack_status tells, without what Ansible puts beside it.
_TOLD = (
    *(
        "at",
        "error",
        "newest",
        "trend",
        "totals",
        "points",
        "days",
        "months",
        "drills",
        "restores",
        "offsite",
        "retention",
    ),
    *("next", "disk"),
)


def report(params: dict[str, Any], check_mode: bool = False, now: Optional[float] = None) -> dict[str, Any]:
    """Make it; the parameters are those of the module status_report.

    Raises BackupError, with the answer as details, when a file can't be written.
    """
    now = time.time() if now is None else now
    stacks = fleet([_sound(item) for item in params["stacks"]])
    files: dict[tuple[str, str], Callable[[], str]] = {}
    if params["page"]:
        files["status_page", params["page"]] = lambda: page(stacks, now, params["title"])
    if params["json_file"]:
        files["status_json", params["json_file"]] = lambda: _data(stacks, now)
    answer = {
        "changed": bool(files),
        "table": "\n".join(lines(stacks)),
        "verdicts": {stack.host: stack.verdict for stack in stacks},
        "failures": {stack.host: _failure(stack) for stack in stacks if stack.verdict in FAILS},
    }
    errors = []
    for (variable, name), text in files.items():
        try:
            _place(Path(name), text, variable, check_mode)
        except BackupError as error:
            errors.append(str(error))
    if errors:
        raise BackupError(" | ".join(errors), **{**answer, "changed": len(errors) < len(files)})
    return answer


def _sound(given: dict[str, Any]) -> dict[str, Any]:
    """What was told of a stack, if it can be shown: a host that tells nonsense must not keep people from seeing the others."""
    try:
        (stack,) = fleet([given])
        stack.cells()
        detail(stack, 0, False)
    except Exception as error:
        odd = f"what its host told can't be shown ({type(error).__name__}: {error}): see what runs as its Python"
        return {**given, "failure": given["failure"] or odd, "findings": [], "told": {}}
    return given


def _failure(stack: Stack) -> str:
    return " | ".join(text for word, text in stack.bad() if word in FAILS)


def _data(stacks: list[Stack], now: float) -> str:
    told = [
        {
            **{name: stack.told[name] for name in _TOLD if name in stack.told},
            "host": stack.host,
            "stack": stack.name,
            "verdict": stack.verdict,
            "failure": stack.failure,
            "findings": stack.findings,
        }
        for stack in stacks
    ]
    return json.dumps({"format": _FORMAT, "at": int(now), "stacks": told}, separators=(",", ":")) + "\n"


def _place(path: Path, text: Callable[[], str], variable: str, check_mode: bool) -> None:
    if not path.is_absolute():
        raise BackupError(f"{variable} is {str(path)!r}: give an absolute path")
    if not check_mode:
        _write(path, text(), variable)


def _write(path: Path, text: str, variable: str) -> None:
    """Replace a file whole; it keeps the mode that it has, and a new one is for its owner alone."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BackupError(
            f"{path} can't be written: {error.strerror}: free its disk, mend its folder's owner or mode, "
            f"or name another file ({variable})"
        ) from None
