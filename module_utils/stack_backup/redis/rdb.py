"""Reads the head of an RDB file: format version and auxiliary fields.

Source: rdb.h and rdbSaveInfoAuxFields() of Redis; the opcodes are part of the format.
"""

from __future__ import annotations

import re
from io import BytesIO
from typing import BinaryIO, Mapping

from ..errors import BackupError

__all__ = ["number", "read_head"]

_AUX = 0xFA
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_MAGIC = re.compile(rb"(?:REDIS(?=....\Z)|VALKEY(?=...\Z))([0-9]+)")


def _string(file: BinaryIO) -> str:
    first = file.read(1)[0]
    kind, low = first >> 6, first & 0x3F
    if kind == 3:
        if low > 2:
            raise IndexError
        return str(int.from_bytes(file.read(1 << low), "little", signed=True))
    if kind == 0:
        length = low
    elif kind == 1:
        length = (low << 8) | file.read(1)[0]
    else:
        length = int.from_bytes(file.read(4), "big")
    if length > 4096:
        raise IndexError
    return file.read(length).decode("utf-8", "replace")


def number(head: Mapping[str, str], field: str) -> int:
    """A field that is a number, such as ``ctime``; 0 where it is none: nobody vouches for what a file says of itself."""
    told = head.get(field, "")
    return int(told) if _NUMBER.fullmatch(told) else 0


def read_head(head: bytes, name: str) -> dict[str, str]:
    """Of the first bytes of a file: ``version`` of the format and the auxiliary fields (``redis-ver``, ``ctime`` in seconds, …).

    Raises BackupError when the file, which is called ``name``, is no RDB.
    """
    with BytesIO(head) as file:
        magic = file.read(9)
        version = _MAGIC.fullmatch(magic)
        if not version:
            raise BackupError(f"{name} is no RDB file")
        found = {"version": str(int(version[1]))}
        try:
            while file.read(1)[0] == _AUX:
                field = _string(file)
                found[field] = _string(file)
        except IndexError:
            raise BackupError(f"{name} ends in its head, or is damaged there") from None
    return found
