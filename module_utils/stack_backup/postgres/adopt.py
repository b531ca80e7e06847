"""Learns of an archive that nobody wrote a manifest for what a manifest holds: restores it into a throw-away server, and asks."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..containers import Docker
from ..errors import BackupError
from ..stores import Store
from .check import offline
from .connection import Connection
from .dump import COUNTS, TABLES
from .names import identifier
from .properties import PROPERTIES
from .scratch import scratch

__all__ = ["learn"]

# What pg_restore --list tells first: pg_backup_archiver.c, PrintTOCSummary().
_HEADER = re.compile(r"^;\s+(?:(Archive) created at (.*)|([A-Za-z ]+): (.*))$", re.MULTILINE)
_MISSING = re.compile(r'role "(.*)" does not exist')
_ATTEMPTS = 20
_TIMES = 4  # as large as a compressed dump is a database, at least


def learn(docker: Docker, image: str, store: str, path: Path, backup_dir: Path, *, memory: str) -> dict[str, Any]:
    """What the manifest tells of an archive, in pg_dump's custom or directory format; ``pinned``: seconds since 1970.

    It is read to its end and restored as a whole, without network. Raises BackupError where that fails.
    """
    header = _header(docker, image, store, path, backup_dir)
    told = offline(docker, image, backup_dir, store, path, ["pg_restore", "--file=/dev/null"])
    if told.code:
        raise BackupError(f"pg_restore can't read it to its end, it was cut off or damaged: {told.reason()}")
    name = header["dbname"]
    size = _TIMES * sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))
    with scratch(docker, image, store, path.parent, backup_dir, database=name, size=size, memory=memory) as connection:
        roles = _restore(connection, name, connection.mounted(path) or "")
        with connection.session(name) as psql:
            database = json.loads(psql.ask(PROPERTIES)[0])
            tables = int(psql.ask(f"SELECT count(*) {TABLES};")[0])
            rows = dict(json.loads(line) for line in psql.ask(COUNTS, at_most=None))
    return {
        "server_version": _version(header["Dumped from database version"]),
        "artifact": {"format": header["Format"].lower(), "compression": header.get("Compression")},
        "database": database,
        "counts": {"tables": tables, "rows": rows},
        "pinned": _seconds(header["Archive"]),
        "roles": roles,
    }


def _header(docker: Docker, image: str, store: str, path: Path, backup_dir: Path) -> dict[str, str]:
    listed = offline(docker, image, backup_dir, store, path, ["pg_restore", "--list"])
    if listed.code:
        raise BackupError(f"pg_restore can't read it: {listed.reason()}")
    found = {match[1] or match[3].strip(): match[2] or match[4] for match in _HEADER.finditer(listed.out)}
    needed = ("Archive", "dbname", "Format", "Dumped from database version")
    lacking = [name for name in needed if name not in found]
    if lacking:
        raise BackupError(f"pg_restore --list does not tell its {', '.join(lacking)}: it is too old for this image")
    if found["Format"] not in ("CUSTOM", "DIRECTORY"):
        raise BackupError(
            f"it is an archive of format {found['Format']}: only custom and directory (pg_dump -Fc, -Fd) are taken"
        )
    return found


def _version(text: str) -> int:
    """server_version_num of a version as a person reads it."""
    parts = [int(part) for part in re.findall(r"\d+", text.split("(")[0])]
    if parts[0] >= 10:
        return parts[0] * 10000 + sum(parts[1:2])
    return sum(part * factor for part, factor in zip(parts, (10000, 100, 1)))


def _seconds(text: str) -> float:
    """When pg_dump began to write, by the clock of its container, which is UTC where nobody set another zone."""
    try:
        return datetime.strptime(text[:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        raise BackupError(f"pg_restore --list tells no time that can be read: {text}") from None


def _restore(connection: Connection, name: str, archive: str) -> list[str]:
    """Restore it as pg_dump found it, its owners made as they are missed; returns their names."""
    program = ["pg_restore", "--no-password", "--create", "--no-tablespaces", "--enable-row-security"]
    program.append(f"--dbname={connection.conninfo(connection.home, 'synchronous_commit=off', *connection.silent)}")
    roles: list[str] = []
    for _ in range(_ATTEMPTS):
        _drop(connection, name)
        result = connection.run([*program, "--schema-only", archive])
        missing = sorted(set(_MISSING.findall(result.err)) - set(roles))
        if not missing:
            break
        with connection.session(connection.home) as psql:
            for role in missing:
                psql.ask(f"CREATE ROLE {identifier(role)};")
        roles += missing
    _drop(connection, name)
    result = connection.run([*program, "--exit-on-error", f"--jobs={Store.jobs}", archive])
    if result.code:
        errors = [line for line in result.err.splitlines() if " error: " in line]
        raise BackupError(f"it does not restore: {(errors or [result.reason()])[0]}")
    return sorted(roles)


def _drop(connection: Connection, name: str) -> None:
    with connection.session(connection.home) as psql:
        psql.ask(f"DROP DATABASE IF EXISTS {identifier(name)};", at_most=None)
