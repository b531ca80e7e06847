"""Runs a long module as any other, and tells now and then how far it is. The other names of this file are its other modules.

The module runs on its host as it would without this: all that is added is a look, by a second command over the same
connection, at the line that the module keeps in its backup folder. What fails about that is of no concern to the job.
"""

from __future__ import annotations

import copy
import shlex
import threading
from typing import Any, Optional

from ansible.plugins.action.normal import ActionModule as Normal
from ansible.utils.display import Display

__all__ = ["ActionModule"]

_SECONDS = 15.0
_AT_MOST = 60.0  # a long job of many hosts is told of once a minute


class ActionModule(Normal):  # type: ignore[misc]
    """Ansible's own, and a watcher beside it."""

    def run(self, tmp: Any = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        """Run the module; its result is handed on as it is."""
        ended = threading.Event()
        seconds = self._seconds(task_vars or {})
        watcher = threading.Thread(target=self._watch, args=(ended, seconds, task_vars or {}), daemon=True)
        if seconds > 0:
            watcher.start()
        try:
            result: dict[str, Any] = super().run(tmp, task_vars)
            return result
        finally:
            ended.set()
            if seconds > 0:
                watcher.join(2)

    def _seconds(self, variables: dict[str, Any]) -> float:
        given = self._templar.template(variables.get("stack_progress_seconds", _SECONDS))
        try:
            return float(given)
        except (TypeError, ValueError):
            return _SECONDS

    def _watch(self, ended: threading.Event, seconds: float, variables: dict[str, Any]) -> None:
        look = copy.copy(self)
        look._connection = copy.copy(self._connection)  # its state is one command's
        if look._connection.become:
            look._connection.set_become_plugin(copy.copy(look._connection.become))
        command = f"cat {shlex.quote(str(self._task.args.get('backup_dir')))}/.progress 2>/dev/null"
        while not ended.wait(seconds):
            try:
                told = look._low_level_execute_command(command)["stdout"].strip()
            except Exception:  # noqa: BLE001 - whatever it is, the job goes on
                return
            if told and not ended.is_set():
                # Beside the result, which may be meant for a program.
                Display().display(f"{variables.get('inventory_hostname')}: {told.splitlines()[-1]}", stderr=True)
            seconds = min(2 * seconds, max(seconds, _AT_MOST))
