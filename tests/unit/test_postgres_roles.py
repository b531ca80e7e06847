"""Which statements of a globals file are run."""

import pytest
from stack_backup.errors import BackupError
from stack_backup.postgres.names import identifier
from stack_backup.postgres.roles import missing

DUMP = r"""--
-- PostgreSQL database cluster dump
--
\restrict hXk2

SET default_transaction_read_only = off;
SET standard_conforming_strings = on;

/* a comment /* in a comment; */ CREATE ROLE no; */
CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:salt$a;b''c\:d' VALID UNTIL '2030-01-01 00:00:00+00';
COMMENT ON ROLE app IS E'it''s \\ the app''s; role';
CREATE ROLE owner;
ALTER ROLE owner WITH SUPERUSER;
ALTER ROLE app SET search_path TO 'a', '$user';
ALTER ROLE ALL SET work_mem TO '1MB';
ALTER ROLE app IN DATABASE shop SET work_mem TO '2MB';
GRANT pg_read_all_data TO app WITH INHERIT TRUE GRANTED BY owner;
GRANT owner TO other GRANTED BY owner;
GRANT SET ON PARAMETER work_mem TO app;
CREATE TABLESPACE app OWNER owner LOCATION '/x';
GRANT ALL ON TABLESPACE app TO app;
DROP ROLE app;
\unrestrict hXk2
"""


def sqls(names_and_statements):
    return [statement.sql for statement in names_and_statements[1]]


def test_only_what_makes_a_missing_role():
    names, statements = missing(DUMP, {"owner", "other", "pg_read_all_data"})
    assert names == ["app"]
    assert [statement.sql.split(" ")[0:3] for statement in statements] == [
        ["CREATE", "ROLE", "app"],
        ["ALTER", "ROLE", "app"],
        ["COMMENT", "ON", "ROLE"],
        ["ALTER", "ROLE", "app"],
        ["GRANT", "pg_read_all_data", "TO"],
        ["GRANT", "SET", "ON"],
    ]
    assert "'SCRAM-SHA-256$4096:salt$a;b''c\\:d'" in statements[1].sql
    assert statements[4].instead == "GRANT pg_read_all_data TO app WITH INHERIT TRUE"


def test_nothing_where_all_are_there():
    assert missing(DUMP, {"owner", "app"}) == ([], [])


@pytest.mark.parametrize(
    "name", ["two words", 'a"b', "it's", "a;b", "line\n\\! id\nbreak", "-- x", "/*", "$$", "ALL", "ünï"]
)
def test_odd_names(name):
    quoted = identifier(name)
    found = missing(f"CREATE ROLE {quoted};\nALTER ROLE {quoted} WITH LOGIN;\nCREATE ROLE x;", {"x"})
    assert found[0] == [name]
    assert sqls(found) == [f"CREATE ROLE {quoted}", f"ALTER ROLE {quoted} WITH LOGIN"]


def test_a_membership_is_of_both_its_roles():
    text = "CREATE ROLE team;\nGRANT team TO old;\nGRANT other TO old;"
    assert sqls(missing(text, {"old", "other"})) == ["CREATE ROLE team", "GRANT team TO old"]


@pytest.mark.parametrize(
    "text",
    [
        "CREATE ROLE a; \\! touch /tmp/x\n",
        "CREATE ROLE a\n\\restrict x\n;",
        "\\connect x\n",
        "CREATE ROLE :name;",
        "CREATE ROLE a; ALTER ROLE a PASSWORD 'x",
        'CREATE ROLE "a;',
        "CREATE ROLE a",
        "/* CREATE ROLE a;",
        'CREATE ROLE U&"a";',
        "SET standard_conforming_strings = off; CREATE ROLE a; ALTER ROLE a PASSWORD 'x\\';",
    ],
)
def test_what_pg_dumpall_does_not_write_is_refused_without_being_quoted(text):
    with pytest.raises(BackupError, match="can't be read at line [0-9]+") as caught:
        missing(text, set())
    assert "PASSWORD" not in str(caught.value)


def test_dollar_quotes_and_escapes_hide_what_is_in_them():
    text = (
        "COMMENT ON ROLE a IS $x$ ; $$ CREATE ROLE b; $x$; CREATE ROLE a; COMMENT ON ROLE a IS E'\\'; CREATE ROLE c; ';"
    )
    names, statements = missing(text, set())
    assert names == ["a"] and len(statements) == 3
