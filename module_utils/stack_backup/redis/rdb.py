"""Reads the head of an RDB file: format version and auxiliary fields.

Source: rdb.h and rdbSaveInfoAuxFields() of Redis; the opcodes are part of the format.
"""

from __future__ import annotations

from io import BytesIO
from typing import BinaryIO

from ..errors import BackupError

__all__ = ["read_head"]

_AUX = 0xFA


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


def read_head(head: bytes, name: str) -> dict[str, str]:
    """Of the first bytes of a file: ``version`` of the format and the auxiliary fields (``redis-ver``, ``ctime`` in seconds, …).

    Raises BackupError when the file, which is called ``name``, is no RDB.
    """
    with BytesIO(head) as file:
        magic = file.read(9)
        if magic[:5] != b"REDIS" and magic[:6] != b"VALKEY":
            raise BackupError(f"{name} is no RDB file")
        found = {"version": str(int(magic[6:] if magic.startswith(b"VALKEY") else magic[5:]))}
        try:
            while file.read(1)[0] == _AUX:
                field = _string(file)
                found[field] = _string(file)
        except IndexError:
            raise BackupError(f"{name} ends in its head, or is damaged there") from None
    return found
