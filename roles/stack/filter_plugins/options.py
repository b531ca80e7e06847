"""What is wrong within the lists of the inventory, by the rules of the modules that will be given them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable

sys.path.append(str(Path(__file__).resolve().parents[3] / "module_utils"))

from stack_backup.arguments import STACK_RESTORE  # type: ignore[import-not-found]  # noqa: E402
from stack_backup.errors import BackupError  # type: ignore[import-not-found]  # noqa: E402
from stack_backup.stores import parse_stores  # type: ignore[import-not-found]  # noqa: E402
from stack_backup.validate import complete  # type: ignore[import-not-found]  # noqa: E402

_OPTIONS = ("stores", "health_checks", "smoke_queries")


def stack_fault(variables: dict[str, Any]) -> str:
    """What the module would refuse of ``stack_stores``, ``stack_health_checks`` and ``stack_smoke_queries``; else empty."""
    try:
        for name in _OPTIONS:
            given = {f"stack_{name}": variables[name]}
            done = complete({f"stack_{name}": STACK_RESTORE[name]}, given, "the inventory")
            if name == "stores":
                parse_stores(done["stack_stores"])
    except BackupError as error:
        return str(error)
    return ""


class FilterModule:
    """The filters, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """By name."""
        return {"stack_fault": stack_fault}
