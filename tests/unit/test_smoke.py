"""Smoke queries: whose they are, and what passes."""

import pytest
from stack_backup.errors import BackupError
from stack_backup.smoke import smoke

QUERIES = [
    {"store": "db", "sql": "select 1", "expect": 1},
    {"store": "cache", "command": "dbsize", "expect": "5"},
    {"store": "db", "sql": "select 2"},
]


def test_a_store_is_asked_its_own_queries():
    asked = smoke("db", QUERIES, lambda query: query[-1] + "\n")
    assert asked == [{"query": "select 1", "answer": "1"}, {"query": "select 2", "answer": "2"}]


def test_another_answer_is_told_with_what_was_expected():
    with pytest.raises(BackupError, match="store cache: the smoke query 'dbsize' answered '0', expected '5'"):
        smoke("cache", QUERIES, lambda _query: "0")


def test_an_empty_query_is_refused():
    with pytest.raises(BackupError, match="is empty"):
        smoke("db", [{"store": "db", "expect": "t"}], str)
