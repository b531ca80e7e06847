"""The parameters of the modules as plain data: one source for Ansible and for the host's own command."""

from __future__ import annotations

from typing import Any

__all__ = ["BACKUP_INFO", "BACKUP_VERIFY", "POSTGRES_DUMP", "RECOVERY_POINT", "REDIS_DUMP", "one_store"]

Spec = dict[str, Any]

_CATALOG: Spec = {"backup_dir": {"type": "str", "required": True}, "stack": {"type": "str"}}
_TIMEOUT: Spec = {"timeout": {"type": "float", "default": 14400.0}}
_JOB: Spec = {
    "stack": {"type": "str", "required": True},
    "backup_dir": {"type": "str", "required": True},
    "project_dir": {"type": "str"},
    "compose_files": {"type": "list", "elements": "str", "default": []},
    "project_name": {"type": "str"},
    "id": {"type": "str"},
    **_TIMEOUT,
}
_STORE: Spec = {
    "name": {"type": "str", "required": True},
    "service": {"type": "str"},
    "container": {"type": "str"},
    "password_file": {"type": "str", "no_log": False},
    "host_password_file": {"type": "str", "no_log": False},
    "port": {"type": "int"},
}
_POSTGRES: Spec = {
    "database": {"type": "str"},
    "user": {"type": "str"},
    "format": {"type": "str", "choices": ["custom", "directory"]},
    "jobs": {"type": "int"},
    "compression": {"type": "str"},
    "via": {"type": "str", "choices": ["auto", "side", "exec"]},
    "row_counts": {"type": "bool"},
}
_REDIS: Spec = {
    "username": {"type": "str"},
    "method": {"type": "str", "choices": ["bgsave", "save"]},
    "tls": {"type": "bool"},
    "cacert": {"type": "str"},
    "cert": {"type": "str"},
    "key": {"type": "str", "no_log": False},
}
_ENGINE: Spec = {"engine": {"type": "str", "required": True, "choices": ["postgres", "redis"]}}

RECOVERY_POINT: Spec = {
    **_JOB,
    "stores": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {**_STORE, **_ENGINE, **_POSTGRES, **_REDIS},
    },
    "only": {"type": "list", "elements": "str", "default": []},
    "quiesce": {"type": "list", "elements": "str", "default": []},
}
POSTGRES_DUMP: Spec = {**_JOB, **_STORE, **_POSTGRES}
REDIS_DUMP: Spec = {**_JOB, **_STORE, **_REDIS}
BACKUP_INFO: Spec = dict(_CATALOG)
BACKUP_VERIFY: Spec = {
    **_CATALOG,
    **_TIMEOUT,
    "point": {"type": "str", "default": "latest"},
    "only": {"type": "list", "elements": "str", "default": []},
}


def one_store(params: dict[str, Any], engine: str) -> dict[str, Any]:
    """The parameters of ``recovery_point`` for a module that takes one store."""
    job = {key: value for key, value in params.items() if key in _JOB}
    store = {key: value for key, value in params.items() if key not in _JOB}
    return {**job, "stores": [{**store, "engine": engine}]}
