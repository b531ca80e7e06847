"""Which statements of a globals file make the roles that a server lacks. Pure.

The file is never fed to psql, which would obey the meta-commands in it (CVE-2025-8714): it is cut into
tokens, and only statements of a few known forms come out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Collection, Iterator, Optional

from ..errors import BackupError
from .names import literal

__all__ = ["Statement", "missing"]

# PostgreSQL manual, 4.1 "Lexical Structure"; of the symbols only those that such statements need: psql would
# replace an unquoted `:name`, and obey an unquoted backslash.
_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*)
 |(?P<meta>^\\(?:un)?restrict[^\n]*)
 |(?P<comment>/\*)
 |(?P<escape>[eE]'(?:[^'\\]|\\.|'')*')
 |(?P<string>'(?:[^']|'')*'|\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$)
 |(?P<quoted>"(?:[^"]|"")+")
 |(?P<word>[^\W\d][\w$]*)
 |(?P<other>[0-9]+|[=,.()+-])
 |(?P<end>;)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class _Token:
    kind: str
    value: str  # a word in lower case, a quoted name without its quotes, anything else as it stands
    start: int
    end: int


@dataclass(frozen=True)
class Statement:
    """One statement, and the roles of which at least one must be missing for it to be run.

    ``instead`` is the statement without its GRANTED BY, which a server refuses when that role is not its own
    first superuser and has no ADMIN OPTION.
    """

    sql: str
    roles: tuple[str, ...]
    instead: Optional[str] = None

    def text(self) -> str:
        """What to send to the server."""
        if self.instead is None:
            return f"{self.sql};"
        body = (
            f"BEGIN EXECUTE {literal(self.sql)}; "
            f"EXCEPTION WHEN insufficient_privilege OR undefined_object OR invalid_grant_operation "
            f"THEN EXECUTE {literal(self.instead)}; END"
        )
        return f"DO {literal(body)};"


def _past_comment(text: str, at: int) -> int:
    """Where a block comment that begins at ``at`` ends; they nest."""
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    raise _unreadable(text, at)


def _unreadable(text: str, at: int) -> BackupError:
    # Not the text itself: it may be a password's hash.
    line = text.count("\n", 0, at) + 1
    return BackupError(
        f"the globals file can't be read at line {line}, where it holds what pg_dumpall does not write: "
        "create the missing roles by hand, then restore again"
    )


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    empty = True  # nothing of a statement was read yet
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or (match["meta"] and not empty):
            raise _unreadable(text, at)
        kind, end = match.lastgroup or "", match.end()
        if kind == "comment":
            end = _past_comment(text, at)
        elif kind not in ("space", "meta"):
            value = match.group()
            if kind == "word":
                value = value.lower()
            elif kind == "quoted":
                value = value[1:-1].replace('""', '"')
            yield _Token("string" if kind == "escape" else kind, value, at, end)
            empty = kind == "end"
        at = end
    if not empty:
        raise _unreadable(text, len(text))


def _statements(text: str) -> Iterator[list[_Token]]:
    statement: list[_Token] = []
    for token in _tokens(text):
        if token.kind != "end":
            statement.append(token)
        elif statement:
            yield statement
            statement = []


def _words(tokens: list[_Token]) -> list[str]:
    """Unquoted words in lower case; names and everything else as ''."""
    return [token.value if token.kind == "word" else "" for token in tokens]


def _name(tokens: list[_Token], index: int) -> Optional[str]:
    if index < len(tokens) and tokens[index].kind in ("word", "quoted"):
        return tokens[index].value
    return None


def _read(text: str, tokens: list[_Token]) -> Optional[Statement]:
    """The statement, when it is of a form that makes a role what it was."""
    words = _words(tokens)
    sql, instead = text[tokens[0].start : tokens[-1].end], None
    roles: list[Optional[str]]
    if words[:2] in (["create", "role"], ["alter", "role"]) and words[2:3] != ["all"] and words[3:4] != ["in"]:
        roles = [_name(tokens, 2)]
    elif words[:3] == ["comment", "on", "role"]:
        roles = [_name(tokens, 3)]
    elif words[:1] == ["grant"] and words[2:3] == ["to"]:
        roles = [_name(tokens, 1), _name(tokens, 3)]
        # From the end: roles may be called anything.
        if len(tokens) > 6 and words[-3:-1] == ["granted", "by"]:
            instead = text[tokens[0].start : tokens[-4].end]
    elif words[:1] == ["grant"] and "parameter" in words and words[-2:-1] == ["to"]:
        roles = [_name(tokens, len(tokens) - 1)]
    else:
        return None
    named = tuple(role for role in roles if role)
    return Statement(sql, named, instead) if len(named) == len(roles) else None


def missing(text: str, existing: Collection[str]) -> tuple[list[str], list[Statement]]:
    """The roles that ``existing`` lacks, and the statements of the globals file that make them.

    A membership is of both its roles: where one is missing, the server can't have it yet.
    Raises BackupError where the file is not what pg_dumpall writes.
    """
    found: list[Statement] = []
    names: list[str] = []
    backslashes = False
    for tokens in _statements(text):
        words = _words(tokens)
        if words[:2] == ["set", "standard_conforming_strings"] and tokens[-1].value in ("off", "'off'"):
            backslashes = True
        if backslashes and any(token.kind == "string" and _escapes(token) for token in tokens):
            raise _unreadable(text, tokens[0].start)
        statement = _read(text, tokens)
        if statement:
            found.append(statement)
            if words[:2] == ["create", "role"] and statement.roles[0] not in existing:
                names.append(statement.roles[0])
    return names, [statement for statement in found if set(statement.roles) & set(names)]


def _escapes(token: _Token) -> bool:
    """Whether a plain string holds a backslash, which means two things by standard_conforming_strings."""
    return token.value.startswith("'") and "\\" in token.value
