"""What the environment says, read once at the start."""

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

STREAM = "orders"
DEAD_STREAM = "orders:dead"
GROUP = "agents"
STREAM_MAXLEN = 200_000
DEAD_MAXLEN = 10_000
HEALTH_PORT = 8080
APP_UID = 10001


def _number(name: str, default: int) -> int:
    value = int(os.environ.get(name) or default)
    if value < 1:
        raise SystemExit(f"{name} must be 1 or more, not {value}")
    return value


def _secret(name: str) -> str:
    return (Path("/run/secrets") / name).read_text().strip()


def leave_root() -> None:
    """To be called once the secrets, which only root can read, have been read."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(APP_UID)
        os.setuid(APP_UID)


@dataclass(frozen=True, kw_only=True)
class RedisSettings:
    host: str = os.environ.get("REDIS_HOST", "redis")
    port: int = field(default_factory=lambda: _number("REDIS_PORT", 6379))
    password: str = field(default_factory=lambda: _secret("redis_password"), repr=False)


@dataclass(frozen=True, kw_only=True)
class PostgresSettings:
    host: str = os.environ.get("POSTGRES_HOST", "postgres")
    port: int = field(default_factory=lambda: _number("POSTGRES_PORT", 5432))
    database: str = os.environ.get("POSTGRES_DB", "trading")
    user: str = os.environ.get("POSTGRES_USER", "trading")
    password: str = field(default_factory=lambda: _secret("postgres_password"), repr=False)


@dataclass(frozen=True, kw_only=True)
class OrchestratorSettings:
    workers: int = field(default_factory=lambda: _number("WORKERS", 4))
    orders_per_second: int = field(default_factory=lambda: _number("ORDERS_PER_SECOND", 40))
    postgres: PostgresSettings = field(default_factory=PostgresSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    # Every nth order is held back at its first delivery, every nth can't be processed at all.
    hold_every: int = field(default_factory=lambda: _number("HOLD_EVERY", 50))
    poison_every: int = field(default_factory=lambda: _number("POISON_EVERY", 200))
    claim_after_seconds: int = field(default_factory=lambda: _number("CLAIM_AFTER_SECONDS", 5))
    consumer: str = field(default_factory=socket.gethostname)
    redis: RedisSettings = field(default_factory=RedisSettings)
