"""What each Ansible module calls: the host's own command calls the same functions with the same parameters."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Callable

from . import arguments

__all__ = ["MODULES", "Module"]


@dataclass(frozen=True)
class Module:
    """A module's argument spec and its engine function; ``engine`` for modules that take one store.

    ``home``: the Python module and the function, imported when it is called: a job loads what it needs, and no more.
    """

    spec: dict[str, Any]
    home: str
    engine: str = ""
    check_mode: bool = False  # whether the function takes Ansible's check mode

    @property
    def function(self) -> Callable[..., dict[str, Any]]:
        """The engine function."""
        place, _, name = self.home.rpartition(".")
        function: Callable[..., dict[str, Any]] = getattr(import_module(f".{place}", __package__), name)
        return function

    def positional(self, params: dict[str, Any], check_mode: bool = False) -> tuple[Any, ...]:
        """What the function is called with."""
        given = arguments.one_store(params, self.engine) if self.engine else params
        return (given, check_mode) if self.check_mode else (given,)

    def run(self, params: dict[str, Any]) -> dict[str, Any]:
        """Do it; ``params`` are complete. Raises BackupError."""
        return self.function(*self.positional(params))


MODULES = {
    "recovery_point": Module(arguments.RECOVERY_POINT, "point.take", check_mode=True),
    "postgres_dump": Module(arguments.POSTGRES_DUMP, "point.take", "postgres", check_mode=True),
    "redis_dump": Module(arguments.REDIS_DUMP, "point.take", "redis", check_mode=True),
    "stack_restore": Module(arguments.STACK_RESTORE, "restore.restore", check_mode=True),
    "postgres_restore": Module(arguments.POSTGRES_RESTORE, "restore.restore", "postgres", check_mode=True),
    "redis_restore": Module(arguments.REDIS_RESTORE, "restore.restore", "redis", check_mode=True),
    "backup_info": Module(arguments.BACKUP_INFO, "catalog.info"),
    "backup_verify": Module(arguments.BACKUP_VERIFY, "verify.verify"),
    "backup_adopt": Module(arguments.BACKUP_ADOPT, "adopt.adopt", check_mode=True),
    "backup_drill": Module(arguments.BACKUP_DRILL, "drill.drill"),
    "backup_prune": Module(arguments.BACKUP_PRUNE, "prune.prune", check_mode=True),
    "offsite_copy": Module(arguments.OFFSITE_COPY, "offsite.copy.copy", check_mode=True),
    "offsite_fetch": Module(arguments.OFFSITE_FETCH, "offsite.fetch.fetch", check_mode=True),
    "offsite_prune": Module(arguments.OFFSITE_PRUNE, "offsite.prune.prune", check_mode=True),
    "stack_check": Module(arguments.STACK_CHECK, "monitor.check", check_mode=True),
    "stack_status": Module(arguments.STACK_STATUS, "status.look"),
}
