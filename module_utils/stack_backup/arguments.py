"""The parameters of the modules as plain data: one source for Ansible and for the host's own command."""

from __future__ import annotations

from typing import Any

from .sizes import MIN_SHARE

__all__ = [
    "BACKUP_ADOPT",
    "BACKUP_DRILL",
    "BACKUP_INFO",
    "BACKUP_PRUNE",
    "BACKUP_VERIFY",
    "HOST_COMMAND",
    "OFFSITE_COPY",
    "OFFSITE_FETCH",
    "OFFSITE_INFO",
    "OFFSITE_PRUNE",
    "POSTGRES_DUMP",
    "POSTGRES_RESTORE",
    "RECOVERY_POINT",
    "REDIS_DUMP",
    "REDIS_RESTORE",
    "STACK_CHECK",
    "STACK_RESTORE",
    "STACK_STATUS",
    "STATUS_REPORT",
    "one_store",
]

Spec = dict[str, Any]

_SIGNERS: Spec = {"allowed_signers": {"type": "list", "elements": "str", "default": []}}
_SIGN: Spec = {"sign_key": {"type": "str", "no_log": False}, **_SIGNERS}
_CATALOG: Spec = {"backup_dir": {"type": "str", "required": True}, "stack": {"type": "str"}, **_SIGNERS}
_TIMEOUT: Spec = {"timeout": {"type": "float", "default": 14400.0}}
_IDENTITY: Spec = {"age_identity": {"type": "str", "no_log": True}, "age_identity_file": {"type": "str"}}
_JOB: Spec = {
    "stack": {"type": "str", "required": True},
    "backup_dir": {"type": "str", "required": True},
    "project_dir": {"type": "str"},
    "compose_files": {"type": "list", "elements": "str", "default": []},
    "project_name": {"type": "str"},
    "age_recipients": {"type": "list", "elements": "str", "default": []},
    **_SIGN,
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
_POSTGRES_LOGIN: Spec = {
    "database": {"type": "str"},
    "user": {"type": "str"},
    "via": {"type": "str", "choices": ["auto", "side", "exec"]},
}
_POSTGRES: Spec = {
    **_POSTGRES_LOGIN,
    "format": {"type": "str", "choices": ["custom", "directory"]},
    "jobs": {"type": "int"},
    "compression": {"type": "str"},
    "row_counts": {"type": "bool"},
    "lock_timeout": {"type": "float"},
}
_REDIS_LOGIN: Spec = {
    "username": {"type": "str"},
    "tls": {"type": "bool"},
    "cacert": {"type": "str"},
    "cert": {"type": "str"},
    "key": {"type": "str", "no_log": False},
}
_REDIS: Spec = {**_REDIS_LOGIN, "method": {"type": "str", "choices": ["bgsave", "save", "stream"]}}
_ONE = {**_STORE, **_POSTGRES, **_REDIS}
_ENGINE: Spec = {"engine": {"type": "str", "required": True, "choices": ["postgres", "redis"]}}

_ID: Spec = {"id": {"type": "str"}}
_STORES: Spec = {
    "stores": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {**_STORE, **_ENGINE, **_POSTGRES, **_REDIS},
    },
    "only": {"type": "list", "elements": "str", "default": []},
}
_SMOKE: Spec = {
    "smoke_queries": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "store": {"type": "str", "required": True},
            "sql": {"type": "str"},
            "command": {"type": "str"},
            "expect": {"type": "str"},
        },
        "mutually_exclusive": [("sql", "command")],
        "required_one_of": [("sql", "command")],
    },
}
_POINT: Spec = {"point": {"type": "str", "default": "latest"}}
_RESTORE: Spec = {
    **_POINT,
    "action": {"type": "str", "choices": ["restore", "back", "drop", "expire"], "default": "restore"},
    "confirm": {"type": "str"},
    "source_dir": {"type": "str"},
    "source_stack": {"type": "str"},
    "as_stack": {"type": "str"},
    "dependents": {"type": "list", "elements": "str"},
    "health_checks": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "url": {"type": "str", "required": True},
            "status": {"type": "int", "default": 200},
            "json": {"type": "dict"},
        },
    },
    "health_timeout": {"type": "float", "default": 120.0},
    **_SMOKE,
    "other_clients": {"type": "str", "choices": ["end", "refuse"], "default": "end"},
    "safety_backup": {"type": "bool", "default": True},
    "allow_empty": {"type": "bool", "default": False},
    "keep_previous": {"type": "float", "default": 72.0},
    "window": {"type": "dict"},
    "outside_window": {"type": "bool", "default": False},
    **_IDENTITY,
}
_METHOD: Spec = {
    "restore_method": {"type": "str", "choices": ["side_by_side", "in_place"], "default": "side_by_side"},
    "restore_jobs": {"type": "int", "default": 2},
}

# An address with a token is a secret.
_URL: Spec = {"url": {"type": "str", "no_log": True}, "url_file": {"type": "str", "no_log": False}}
_ONE_URL: Spec = {"mutually_exclusive": [("url", "url_file")], "required_one_of": [("url", "url_file")]}

_OFFSITE: Spec = {
    "stack": {"type": "str", "required": True},
    "backup_dir": {"type": "str", "required": True},
    "remote": {"type": "str", "required": True},
    "runner": {"type": "str", "choices": ["container", "host"], "default": "container"},
    "config_dir": {"type": "str", "required": True},
    "bwlimit": {"type": "str"},
    "transfers": {"type": "int", "default": 4},
    "retries": {"type": "int", "default": 3},
    **_SIGNERS,
    **_TIMEOUT,
}

_LIMITS: Spec = {"cpus": {"type": "float"}, "memory": {"type": "str"}, "io": {"type": "str"}}
RECOVERY_POINT: Spec = {
    **_JOB,
    **_LIMITS,
    **_ID,
    **_STORES,
    "quiesce": {"type": "list", "elements": "str", "default": []},
    "slots_dir": {"type": "str"},
    "slots": {"type": "int", "default": 1},
}
POSTGRES_DUMP: Spec = {**_JOB, **_LIMITS, **_ID, **_STORE, **_POSTGRES}
REDIS_DUMP: Spec = {**_JOB, **_LIMITS, **_ID, **_STORE, **_REDIS}
BACKUP_INFO: Spec = dict(_CATALOG)
BACKUP_VERIFY: Spec = {
    **_CATALOG,
    **_TIMEOUT,
    **_POINT,
    **_IDENTITY,
    "only": {"type": "list", "elements": "str", "default": []},
}
_MEMORY: Spec = {"memory": {"type": "str", "default": "1g"}}
BACKUP_DRILL: Spec = {**BACKUP_VERIFY, **_SMOKE, **_MEMORY}
BACKUP_ADOPT: Spec = {
    **_JOB,
    **_STORES,
    "paths": {"type": "list", "elements": "str", "required": True},
    "pair_minutes": {"type": "float", "default": 10.0},
    "move": {"type": "bool", "default": False},
    **_MEMORY,
}
_PRUNE: Spec = {
    "backup_dir": {"type": "str", "required": True},
    "stack": {"type": "str", "required": True},
    **{f"keep_{period}": {"type": "int", "default": 0} for period in ("last", "hourly")},
    "keep_daily": {"type": "int", "default": 7},
    "keep_weekly": {"type": "int", "default": 4},
    "keep_monthly": {"type": "int", "default": 3},
    "keep_yearly": {"type": "int", "default": 0},
    "keep_within": {"type": "str"},
    "timezone": {"type": "str", "default": "UTC"},
    "keep_incomplete": {"type": "str", "default": "7d"},
    "keep_safety": {"type": "str", "default": "7d"},
    "max_age_hours": {"type": "float", "default": 26.0},
    "min_share": {"type": "float", "default": MIN_SHARE},
    "force": {"type": "bool", "default": False},
}
BACKUP_PRUNE: Spec = {**_PRUNE, **_SIGN}
STACK_CHECK: Spec = {
    "stack": {"type": "str", "required": True},
    "backup_dir": {"type": "str", "required": True},
    **_SIGNERS,
    "state_dir": {"type": "str"},
    "schedule_file": {"type": "str"},
    "jobs": {"type": "dict", "default": {"backup": 26, "prune": 26, "verify": 192}},
    "max_age_hours": {"type": "float", "default": 26.0},
    "max_drill_days": {"type": "float", "default": 8.0},
    "min_size_share": {"type": "float", "default": MIN_SHARE},
    "min_free_share": {"type": "float", "default": 0.1},
    "forecast_days": {"type": "float", "default": 7.0},
    "digest_bytes": {"type": "int", "default": 2147483648},
    "offsite_remote": {"type": "str"},
    "offsite_max_age_hours": {"type": "float", "default": 26.0},
    "metrics_file": {"type": "str"},
    "email": {
        "type": "dict",
        "options": {
            "to": {"type": "list", "elements": "str", "required": True},
            "from": {"type": "str"},
            "host": {"type": "str"},
            "port": {"type": "int"},
            "security": {"type": "str", "choices": ["none", "starttls", "tls"], "default": "starttls"},
            "user": {"type": "str"},
            "password_file": {"type": "str", "no_log": False},
            "sendmail": {"type": "bool", "default": False},
        },
    },
    "webhooks": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {**_URL, "format": {"type": "str", "choices": ["json", "slack"], "default": "json"}},
        **_ONE_URL,
    },
    "pings": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {**_URL, "job": {"type": "str", "required": True}},
        **_ONE_URL,
    },
}
STACK_STATUS: Spec = {
    **BACKUP_PRUNE,
    "state_dir": {"type": "str"},
    "schedule_file": {"type": "str"},
    "offsite_remote": {"type": "str"},
    "points": {"type": "int", "default": 60},
    "preview_days": {"type": "int", "default": 30},
}
STATUS_REPORT: Spec = {
    "stacks": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "host": {"type": "str", "required": True},
            "stack": {"type": "str"},
            "reachable": {"type": "bool", "default": True},
            "failure": {"type": "str", "default": ""},
            "findings": {"type": "list", "elements": "dict", "default": []},
            "told": {"type": "dict", "default": {}},
        },
    },
    "page": {"type": "str"},
    "json_file": {"type": "str"},
    "title": {"type": "str", "default": "Backups"},
}
OFFSITE_COPY: Spec = {
    **_OFFSITE,
    "check_points": {"type": "int", "default": 1},
    "download_bytes": {"type": "int", "default": 1073741824},
}
OFFSITE_FETCH: Spec = {
    **_OFFSITE,
    **_POINT,
    "only": {"type": "list", "elements": "str", "default": []},
    "as_stack": {"type": "str"},
}
OFFSITE_PRUNE: Spec = {
    **_OFFSITE,
    **_PRUNE,
    **{f"keep_{period}": {"type": "int", "default": 0} for period in ("daily", "weekly", "monthly")},
}
OFFSITE_INFO: Spec = {
    "stack": {"type": "str", "required": True},
    "bucket": {"type": "str", "required": True},
    "prefix": {"type": "str", "default": ""},
    "endpoint_url": {"type": "str"},
    "region": {"type": "str"},
    "access_key": {"type": "str", "no_log": False},
    "secret_key": {"type": "str", "no_log": True},
    "profile": {"type": "str"},
    "ca_bundle": {"type": "str"},
    "download": {"type": "str", "choices": ["none", "newest", "all"], "default": "none"},
    **_SIGNERS,
    "max_age_hours": {"type": "float", "default": 26.0},
    **_TIMEOUT,
}
HOST_COMMAND: Spec = {
    "path": {"type": "str", "default": "/opt/stack-backup"},
    "link": {"type": "str", "default": "/usr/local/bin/stack-backup"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
STACK_RESTORE: Spec = {**_JOB, **_STORES, **_RESTORE, **_METHOD}
POSTGRES_RESTORE: Spec = {**_JOB, **_STORE, **_POSTGRES_LOGIN, **_RESTORE, **_METHOD}
REDIS_RESTORE: Spec = {**_JOB, **_STORE, **_REDIS_LOGIN, **_RESTORE}


def one_store(params: dict[str, Any], engine: str) -> dict[str, Any]:
    """The parameters of the module for all stores, from those of a module that takes one."""
    given = {key: value for key, value in params.items() if key in _ONE}
    rest = {key: value for key, value in params.items() if key not in _ONE}
    return {**rest, "stores": [{**given, "engine": engine}]}
