"""What a manifest must tell before anything uses it: every field is of its kind, and nothing in it is more than a name. Pure."""

from __future__ import annotations

import math
import re
from typing import Any, Callable, Mapping

from . import age
from .errors import BackupError

__all__ = ["check_files", "require_whole"]

_DIGEST = re.compile(r"[0-9a-f]{64}")
# The files of a dump in directory format; Source: pg_backup_directory.c, setFilePath() and its callers.
_INNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]*")  # never an option of docker
_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,9})*")
_IDENTIFIER = r'(?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")+")'
_TABLE = re.compile(rf"{_IDENTIFIER}\.{_IDENTIFIER}")  # as format('%I.%I') writes it
_LARGEST = 1 << 63

Kind = Callable[[Any], bool]


def check_files(manifest: Mapping[str, Any]) -> None:
    """Raise TypeError, KeyError or AttributeError unless its files, its point and its times are of their kinds."""
    artifact, point = manifest["artifact"], manifest["point"]
    sealed = (artifact.get("encryption") or {}).get("program") == age.PROGRAM  # another's is for it to read
    files = [artifact, *([manifest["globals"]] if manifest.get("globals") else [])]
    for item in files:
        plain = [item["encryption"]["plain"]] if sealed else []
        inner = item.get("files", {})
        if not all(map(_is_file, (item, *plain, *inner.values()))) or not all(map(_INNER.fullmatch, inner)):
            raise TypeError("a file is not told of as one")
    if len(files) > 1 and files[1].get("files"):
        raise TypeError("the roles are one file")
    failed = point.get("failed") or {}
    if not (_texts(point["stores"]) and isinstance(failed, dict) and _text(manifest["pin"]["at"])):
        raise TypeError("a field is of the wrong kind")
    if not _seconds(manifest["seconds"]["total"]):
        raise TypeError("its seconds are no number")


def _is_file(told: Mapping[str, Any]) -> bool:
    return _size(told["size"]) and isinstance(told["sha256"], str) and bool(_DIGEST.fullmatch(told["sha256"]))


def require_whole(manifest: Mapping[str, Any], path: object) -> None:
    """Raise BackupError unless the manifest ``path`` has what a check, a drill and a restore read of it."""
    kinds = {**_COMMON, **(_POSTGRES if manifest["engine"] == "postgres" else _REDIS)}
    for name, kind in kinds.items():
        wrong = _wrong(manifest, name, kind)
        if not wrong and not _roles(manifest.get("globals")):
            name, wrong = "globals", "of the wrong kind"
        if wrong:
            raise BackupError(
                f"the manifest of {path} is not what was written: {name} is {wrong}: choose another recovery point"
            )


def _wrong(manifest: Any, name: str, kind: Kind) -> str:
    value = manifest
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return "missing"
        value = value[part]
    return "" if kind(value) else "of the wrong kind"


# --- kinds ------------------------------------------------------------------------------------------------------------


def _text(value: Any) -> bool:
    """Text that a program can be given: neither NUL, at which C ends a text, nor half a character."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


def _size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def _seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _maybe(kind: Kind) -> Kind:
    return lambda value: value is None or kind(value)


def _one_of(*values: str) -> Kind:
    return lambda value: isinstance(value, str) and value in values


def _like(pattern: re.Pattern[str]) -> Kind:
    return lambda value: isinstance(value, str) and bool(pattern.fullmatch(value))


def _named(key: Kind, kind: Kind) -> Kind:
    return lambda value: isinstance(value, dict) and all(map(key, value)) and all(map(kind, value.values()))


def _settings(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, dict)
        and _maybe(_text)(item.get("role"))
        and _texts(item.get("config"))
        and all("=" in line for line in item["config"])
        for item in value
    )


def _row(value: Any) -> bool:
    """A row of pg_database, whose columns are called by the version that was dumped."""
    if not isinstance(value, dict):
        return False
    provider, locale = value.get("datlocprovider", "c"), value.get("datlocale") or value.get("daticulocale")
    return (
        all(map(_text, (value.get("datcollate"), value.get("datctype"))))
        and isinstance(value.get("datistemplate"), bool)
        and _whole(value.get("datconnlimit"))
        and _maybe(_text)(value.get("daticurules"))
        and (provider == "c" or (provider in ("i", "b") and _text(locale)))
    )


def _roles(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and isinstance(value.get("passwords"), bool))


_COMMON: dict[str, Kind] = {
    "source": _mapping,
    "source.image": _like(_IMAGE),
    "source.image_id": _like(_IMAGE),
    "source.container": _text,
    "source.service": _maybe(_text),
    "counts": _mapping,
}
_POSTGRES: dict[str, Kind] = {
    "server_version": _size,
    "artifact.format": _one_of("custom", "directory"),
    "counts.tables": _size,
    "counts.rows": _maybe(_named(_like(_TABLE), _size)),
    "database": _mapping,
    "database.name": _text,
    "database.owner": _text,
    "database.encoding": _text,
    "database.tablespace": _text,
    "database.comment": _maybe(_text),
    "database.acl": _maybe(_texts),
    "database.settings": _settings,
    "database.extensions": _named(_text, _text),
    "database.subscriptions": _texts,
    "database.large_objects": _size,
    "database.size": _size,
    "database.catalog": _row,
}
_REDIS: dict[str, Kind] = {
    "server_version": _like(_VERSION),
    "artifact.rdb": _mapping,
    "counts.keys": _size,
}
