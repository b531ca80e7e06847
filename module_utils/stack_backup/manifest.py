"""What a manifest must tell before anything uses it: every field is of its kind, and nothing in it is more than a name. Pure."""

from __future__ import annotations

import re
from typing import Any, Mapping, Optional

from . import age
from .errors import BackupError
from .kinds import Kind, like, mapping, maybe, named, one_of, seconds, size, text, texts, whole

__all__ = ["check_files", "drill_of", "require_whole"]

_DIGEST = re.compile(r"[0-9a-f]{64}")
# The files of a dump in directory format; Source: pg_backup_directory.c, setFilePath() and its callers.
_INNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]*")  # never an option of docker
_VERSION = re.compile(r"[0-9]{1,4}(\.[A-Za-z0-9.+-]*)?")
_IDENTIFIER = r'(?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")+")'
_TABLE = re.compile(rf"{_IDENTIFIER}\.{_IDENTIFIER}")  # as format('%I.%I') writes it


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
    if not (texts(point["stores"]) and isinstance(failed, dict) and text(manifest["pin"]["at"])):
        raise TypeError("a field is of the wrong kind")
    total = manifest["seconds"]["total"]
    if isinstance(total, bool) or not seconds(abs(total)):  # less than none where the clock was set back meanwhile
        raise TypeError("its seconds are no number")


def _is_file(told: Mapping[str, Any]) -> bool:
    return size(told["size"]) and isinstance(told["sha256"], str) and bool(_DIGEST.fullmatch(told["sha256"]))


def drill_of(result: Any) -> Optional[dict[str, Any]]:
    """What a drill wrote down, for whoever reads it; None when it does not say how the drill went."""
    if not isinstance(result, dict) or not isinstance(result.get("ok"), bool):
        return None
    kinds: dict[str, tuple[Kind, Any]] = {"error": (text, ""), "at": (text, ""), "seconds": (seconds, 0.0)}
    told = {name: result.get(name) for name in kinds}
    return {**result, **{name: told[name] if kind(told[name]) else other for name, (kind, other) in kinds.items()}}


def require_whole(manifest: Mapping[str, Any], path: object) -> None:
    """Raise BackupError unless the manifest ``path`` has what a check, a drill and a restore read of it."""
    kinds = {**_COMMON, **(_POSTGRES if manifest["engine"] == "postgres" else _REDIS)}
    for name, kind in kinds.items():
        wrong = _wrong(manifest, name, kind)
        if not wrong and not _roles(manifest.get("globals")):
            name, wrong = "globals", "of the wrong kind"
        if not wrong and not _adopted(manifest.get("adopted")):
            name, wrong = "adopted", "of the wrong kind"
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


def _settings(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, dict)
        and maybe(text)(item.get("role"))
        and texts(item.get("config"))
        and all("=" in line for line in item["config"])
        for item in value
    )


def _row(value: Any) -> bool:
    """A row of pg_database, whose columns are called by the version that was dumped."""
    if not isinstance(value, dict):
        return False
    provider, locale = value.get("datlocprovider", "c"), value.get("datlocale") or value.get("daticulocale")
    return (
        all(map(text, (value.get("datcollate"), value.get("datctype"))))
        and isinstance(value.get("datistemplate"), bool)
        and whole(value.get("datconnlimit"))
        and maybe(text)(value.get("daticurules"))
        and (provider == "c" or (provider in ("i", "b") and text(locale)))
    )


def _roles(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and isinstance(value.get("passwords"), bool))


def _adopted(value: Any) -> bool:
    """What is told of a dump that another program made."""
    return value is None or (isinstance(value, dict) and text(value.get("source")) and texts(value.get("roles")))


_COMMON: dict[str, Kind] = {
    "source": mapping,
    "source.image": like(_IMAGE),
    "source.image_id": like(_IMAGE),
    "source.container": text,
    "source.service": maybe(text),
    "counts": mapping,
}
_POSTGRES: dict[str, Kind] = {
    "server_version": size,
    "artifact.format": one_of("custom", "directory"),
    "counts.tables": size,
    "counts.rows": maybe(named(like(_TABLE), size)),
    "database": mapping,
    "database.name": text,
    "database.owner": text,
    "database.encoding": text,
    "database.tablespace": text,
    "database.comment": maybe(text),
    "database.acl": maybe(texts),
    "database.settings": _settings,
    "database.extensions": named(text, text),
    "database.subscriptions": texts,
    "database.large_objects": size,
    "database.size": size,
    "database.catalog": _row,
}
_REDIS: dict[str, Kind] = {
    "server_version": like(_VERSION),
    "artifact.rdb": mapping,
    "counts.keys": size,
}
