"""The record of a job's last run, beside the others of its stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

from .config import Config

__all__ = ["last", "record_path"]


def record_path(config: Config, job: str) -> Path:
    """Where it is."""
    return config.state_dir / f"last-{job}.json"


def last(config: Config, job: str) -> Optional[dict[str, Any]]:
    """What it says; None when there is none that reads."""
    try:
        record = json.loads(record_path(config, job).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "started_at" in record else None
