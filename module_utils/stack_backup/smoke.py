"""Smoke queries: what a person asks of restored data to believe it."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

from .errors import BackupError, Unsound

__all__ = ["smoke"]


def smoke(store: str, queries: Sequence[Mapping[str, Any]], ask: Callable[[str], str]) -> list[dict[str, str]]:
    """Ask the queries of one store; ``{query, answer}`` of each.

    A query is ``{store, sql or command, expect}``; without ``expect`` any answer will do that is no error.
    Raises BackupError that names the query, its answer and what was expected.
    """
    told = []
    for item in queries:
        if item["store"] != store:
            continue
        query = str(item.get("sql") or item.get("command") or "")
        if not query:
            raise BackupError(f"a smoke query of store {store} is empty: give it sql: or command:")
        answer = ask(query).strip()
        expected = item.get("expect")
        if expected is not None and answer != str(expected).strip():
            raise Unsound(
                f"store {store}: the smoke query {query!r} answered {answer!r}, expected {str(expected).strip()!r}: "
                "if the query is right, this data is not: take another recovery point; else mend stack_smoke_queries"
            )
        told.append({"query": query, "answer": answer})
    return told
