"""What a person wants to read of a run: what it does now, what changed, what failed and why, once, and the summaries as they are."""

from __future__ import annotations

from typing import Any

from ansible import constants as C  # noqa: N812
from ansible.plugins.callback.default import CallbackModule as Default

DOCUMENTATION = """
name: stack_backup
type: stdout
short_description: The short output of stack-backup's playbooks
description:
  - Tells when one of the project's own modules begins, what changed, and what failed, in one message each; summaries are shown
    as they were written. Tasks that changed nothing, or were skipped, are only counted.
  - With C(-v), and for a failure that has no clear message of its own, everything as Ansible's default output.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

# A failure with one of these is no message for a person: Ansible shows it whole.
_RAW = ("module_stdout", "module_stderr", "stderr", "stdout")


class CallbackModule(Default):  # type: ignore[misc]
    """Ansible's default output, with less."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "stack_backup"

    @property
    def _whole(self) -> bool:
        return bool(self._display.verbosity)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A module of our own may take long: say that it begins."""
        if self._whole:
            super().v2_playbook_on_task_start(task, is_conditional)
            return
        self._last_task_name = task.get_name().strip()
        if "." not in task.action:
            self._display.display(f"{task.get_name()} …", color=C.COLOR_VERBOSE)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """As any other task."""
        if self._whole:
            super().v2_playbook_on_handler_task_start(task)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Of no interest."""
        if self._whole:
            super().v2_playbook_on_include(included_file)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Of no interest."""
        if self._whole:
            super().v2_runner_on_skipped(result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        """Of no interest."""
        if self._whole:
            super().v2_runner_item_on_skipped(result)

    def v2_runner_on_ok(self, result: Any) -> None:
        """A summary as it is; else what changed, where no summary tells it."""
        told = result.task.action not in C._ACTION_DEBUG or "msg" in result.result
        if self._whole or not (told or result.task.loop):
            super().v2_runner_on_ok(result)
        elif not result.task.loop:
            self._handle_warnings_and_exception(result)
            self._ok(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """As ``v2_runner_on_ok``."""
        if self._whole:
            super().v2_runner_item_on_ok(result)
            return
        self._ok(result, f" ({self._get_item_label(result.result)})")

    def _ok(self, result: Any, item: str = "") -> None:
        if result.task.action in C._ACTION_DEBUG:
            text = result.result.get("msg", [])
            for line in text if isinstance(text, list) else [text]:
                self._display.display(str(line))
        elif result.result.get("changed") and "." in result.task.action:
            self._display.display(
                f"changed: [{self.host_label(result)}] {result.task.get_name()}{item}", color=C.COLOR_CHANGED
            )

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """The message, once."""
        if self._whole or not self._fail(result, ignore_errors):
            super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """As ``v2_runner_on_failed``."""
        if self._whole or not self._fail(result, False):
            super().v2_runner_item_on_failed(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """As ``v2_runner_on_failed``."""
        if self._whole or not self._fail(result, result.task.ignore_unreachable):
            super().v2_runner_on_unreachable(result)

    def _fail(self, result: Any, ignored: bool) -> bool:
        """Show the message of a failure; whether it has one."""
        told = result.result
        if result.task.loop and "results" in told:  # its items were told of
            return True
        if not isinstance(told.get("msg"), str) or any(told.get(name) for name in _RAW):
            return False
        text = f"fatal: [{self.host_label(result)}] {result.task.get_name()}: {told['msg']}"
        self._display.display(text, color=C.COLOR_ERROR, stderr=self.get_option("display_failed_stderr"))
        if ignored:
            self._display.display("...ignoring", color=C.COLOR_SKIP)
        return True
