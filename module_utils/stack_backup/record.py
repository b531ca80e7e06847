"""The record of a job's last run, beside the others of its stack."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from . import content
from .config import Config
from .kinds import Kind, mapping, maybe, seconds, size, text, texts

__all__ = ["is_record", "last", "record_path"]

_KINDS: dict[str, Kind] = {"pid": size, "error": text, "seconds": seconds, "log": texts, "result": mapping}


def record_path(config: Config, job: str) -> Path:
    """Where it is."""
    return config.state_dir / f"last-{job}.json"


def last(config: Config, job: str) -> Optional[dict[str, Any]]:
    """What it says; None when there is none that reads."""
    try:
        record = content.load(record_path(config, job))
    except (OSError, ValueError):
        return None
    return record if is_record(record) else None


def is_record(record: Any) -> bool:
    """Whether it is what a job writes down."""
    return (
        mapping(record)
        and isinstance(record.get("ok"), bool)
        and maybe(_is_time)(record.get("ended_at"))
        and _is_time(record.get("started_at"))
        and all(maybe(kind)(record.get(name)) for name, kind in _KINDS.items())
    )


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value.replace("Z", "+00:00")).tzinfo is not None
    except ValueError:
        return False
