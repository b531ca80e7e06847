"""Names and text in SQL: the one place that quotes them. Pure."""

from __future__ import annotations

import hashlib
import re

from ..errors import ANOTHER, BackupError

__all__ = ["identifier", "literal", "suffixed", "unquoted"]

_LONGEST = 63  # bytes: NAMEDATALEN - 1
_IDENTIFIER = re.compile(r'[a-z_][a-z0-9_]*|"(?:[^"]|"")+"')


def identifier(name: str) -> str:
    """A name as SQL writes it. Neither the server nor psql reads anything in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL writes it, whatever ``standard_conforming_strings`` says."""
    quoted = "'" + text.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in quoted else quoted


def unquoted(text: str) -> str:
    """The name that one identifier stands for, as quote_ident() and regrole write it."""
    if not _IDENTIFIER.fullmatch(text):
        raise BackupError(
            f"{text!r} in the manifest is no SQL identifier: the manifest is not what was written: {ANOTHER}"
        )
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


def suffixed(name: str, suffix: str) -> str:
    """``name`` + ``suffix`` in at most 63 bytes; what is cut off lives on in a digest, so that two names stay two."""
    if len((name + suffix).encode()) <= _LONGEST:
        return name + suffix
    suffix = f"_{hashlib.sha256(name.encode()).hexdigest()[:6]}{suffix}"
    return name.encode()[: _LONGEST - len(suffix.encode())].decode(errors="ignore") + suffix
