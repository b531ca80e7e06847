"""Names and texts in SQL."""

import pytest
from stack_backup.errors import BackupError
from stack_backup.postgres.names import identifier, literal, suffixed, unquoted

SUFFIX = "_restore_20260101-000000"


@pytest.mark.parametrize(
    "name", ["plain", "two words", 'a"b', '"', "it's", "a;b", "line\nbreak", "-dash", "ünï", "a\\b"]
)
def test_a_name_comes_back_from_its_quotes(name):
    assert unquoted(identifier(name)) == name


@pytest.mark.parametrize("text", ["", "Upper", "two words", 'a"b', '"a"b"', '"', "a;drop", "a b", "a.b", "1a", "a\n"])
def test_what_is_no_identifier_is_refused(text):
    with pytest.raises(BackupError, match="no SQL identifier"):
        unquoted(text)


def test_literals():
    assert literal("it's") == "'it''s'"
    assert literal("a\\'b") == "E'a\\\\''b'"
    assert literal("a\nb") == "'a\nb'"


@pytest.mark.parametrize("name", ["shop", "x" * 63, "ü" * 31, "a" + "ü" * 31, "日" * 21])
def test_a_suffix_stays_whole_within_63_bytes(name):
    made = suffixed(name, SUFFIX)
    assert made.endswith(SUFFIX) and len(made.encode()) <= 63
    assert made.startswith(name[:4])


def test_names_that_differ_at_their_end_alone_stay_two():
    assert suffixed("x" * 62 + "1", SUFFIX) != suffixed("x" * 62 + "2", SUFFIX)
