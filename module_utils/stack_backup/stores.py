"""What a store is: one database of the stack, checked before anything uses it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from .errors import BackupError

__all__ = ["ID_PATTERN", "NAME_PATTERN", "Store", "host_secret", "parse_stores", "select_stores"]

ID_PATTERN = re.compile(r"[0-9]{8}-[0-9]{6}")
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class Store:
    """One database. Fields that an engine does not know are refused by ``parse_stores``."""

    name: str
    engine: str
    service: Optional[str] = None
    container: Optional[str] = None
    # Both engines
    username: Optional[str] = None
    password_file: Optional[str] = None  # inside the container
    host_password_file: Optional[str] = None  # on the host
    port: Optional[int] = None
    # Postgres
    database: Optional[str] = None
    user: Optional[str] = None
    format: str = "custom"
    jobs: int = 2
    compression: Optional[str] = None
    via: str = "auto"
    row_counts: bool = True
    lock_timeout: float = 10.0  # seconds
    # Redis
    method: str = "bgsave"
    tls: bool = False
    cacert: Optional[str] = None
    cert: Optional[str] = None
    key: Optional[str] = None

    @property
    def where(self) -> str:
        """The container in a person's words."""
        return f"container {self.container}" if self.container else f"service {self.service}"


_POSTGRES = {"database", "user", "format", "jobs", "compression", "via", "row_counts", "lock_timeout"}
_REDIS = {"method", "tls", "cacert", "cert", "key", "username"}
_CHOICES = {
    "engine": ("postgres", "redis"),
    "format": ("custom", "directory"),
    "via": ("auto", "side", "exec"),
    "method": ("bgsave", "save", "stream"),
}


def _parse(given: Mapping[str, Any]) -> Store:
    data = {key: value for key, value in given.items() if value is not None}
    name = data.get("name")
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise BackupError(
            f"store name {name!r} is not usable as a folder's name: letters, digits, '_', '-' and '.', beginning with a letter or digit"
        )
    known = {field.name for field in fields(Store)}
    engine = data.get("engine")
    foreign = sorted((set(data) - known) | (set(data) & (_REDIS if engine == "postgres" else _POSTGRES)))
    if engine in _CHOICES["engine"] and foreign:
        raise BackupError(f"store {name}: {', '.join(foreign)} is no option of a {engine} store")
    if not data.get("service") and not data.get("container"):
        raise BackupError(f"store {name}: name its Compose service (service:) or its container (container:)")
    if data.get("service") and data.get("container"):
        raise BackupError(f"store {name}: give service: or container:, not both")
    store = Store(**data)
    for option, choices in _CHOICES.items():
        if getattr(store, option) not in choices:
            raise BackupError(
                f"store {name}: {option} is {getattr(store, option)!r}, must be one of {', '.join(choices)}"
            )
    if store.password_file and store.host_password_file:
        raise BackupError(f"store {name}: give password_file or host_password_file, not both")
    if store.host_password_file and not Path(store.host_password_file).is_absolute():
        raise BackupError(f"store {name}: host_password_file must be an absolute path")
    if store.jobs < 1:
        raise BackupError(f"store {name}: jobs must be 1 or more")
    if store.lock_timeout <= 0:
        raise BackupError(f"store {name}: lock_timeout must be more than 0 seconds")
    return store


def parse_stores(given: Sequence[Mapping[str, Any]]) -> list[Store]:
    """The stores of a stack. Raises BackupError that names the store and the option."""
    stores = [_parse(item) for item in given]
    if not stores:
        raise BackupError("no stores are given: list them in stack_stores")
    names = [store.name for store in stores]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise BackupError(f"two stores share the name {double[0]}: a store's name is its folder, give each its own")
    return stores


def select_stores(stores: Sequence[Store], only: Sequence[str]) -> list[Store]:
    """The stores named in ``only``, all when it is empty."""
    names = [store.name for store in stores]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise BackupError(f"no store is named {unknown[0]!r}: this stack has {', '.join(names)}")
    return [store for store in stores if not only or store.name in only]


def host_secret(store: Store) -> str:
    """The password that a file on the host holds; empty when the store names none."""
    if not store.host_password_file:
        return ""
    try:
        return Path(store.host_password_file).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise BackupError(
            f"store {store.name}: host_password_file {store.host_password_file}: {error.strerror}: mend its path or mode"
        ) from None
