"""Reads what somebody else may have written: only files, only as much as fits memory, and never waiting for more."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any, Union

__all__ = ["MOST", "load", "parse", "read"]

# Bytes of a manifest, the largest of the files that are read whole: a dump of 150,000 tables in directory format.
MOST = 32 * 1024 * 1024
_DIGITS = 30  # of a number: sizes in bytes and times have 20 at most


def read(path: Path, most: int = MOST) -> bytes:
    """What a file holds. Raises OSError, also for a pipe or a device; ValueError for more than ``most`` bytes."""
    # A named pipe without a writer would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        told = os.fstat(descriptor)
        if not stat.S_ISREG(told.st_mode):
            raise OSError(errno.EINVAL, "it is no file", str(path))
        parts: list[bytes] = []
        left = most + 1
        while left and (part := os.read(descriptor, min(left, told.st_size + 1))):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(descriptor)
    if not left:
        raise ValueError(f"it has more than {most} bytes")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def load(path: Path, most: int = MOST) -> Any:
    """The JSON in a file. Raises OSError or ValueError."""
    return parse(read(path, most))


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError("a number is too long")
    return int(text)


# Since the security releases of September 2022 int() itself refuses long numbers, for which it takes quadratic time.
_LIMITED = hasattr(sys, "get_int_max_str_digits")
_DECODER = json.JSONDecoder(parse_constant=_constant, parse_int=None if _LIMITED else _integer)


def parse(text: Union[str, bytes]) -> Any:
    """The value of a JSON text in UTF-8. Raises ValueError for all that is none, and for what is nested too deeply."""
    try:
        return _DECODER.decode(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
