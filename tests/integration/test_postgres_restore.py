"""A restored database is the one that was saved; every way back leads to the old one. Asserted by the server's own programs."""

import hashlib
import json
import subprocess
import time
from contextlib import contextmanager

import pytest
from conftest import PG, PROJECT, sh
from stack_backup import catalog
from stack_backup.containers import Docker
from stack_backup.errors import BackupError
from stack_backup.postgres import Target, drill
from stack_backup.postgres.names import identifier, literal
from stack_backup.process import Deadline
from stack_backup.stores import parse_stores

ID = "20260102-030405"
ROLES = """
CREATE ROLE "Rich ""Owner""; x" LOGIN PASSWORD 'pw one' CONNECTION LIMIT 7 VALID UNTIL '2040-01-01 00:00:00+00';
COMMENT ON ROLE "Rich ""Owner""; x" IS E'it''s\\n the \\\\ owner';
CREATE ROLE "line\nbreak" NOINHERIT CREATEDB; CREATE ROLE reader LOGIN PASSWORD 'pw two'; CREATE ROLE rich_team;
ALTER ROLE reader SET search_path = "$user", "a b"; ALTER ROLE reader SET app.mode = 'x;y';
GRANT rich_team TO reader WITH ADMIN OPTION; SET ROLE reader; GRANT rich_team TO "line\nbreak"; RESET ROLE;
GRANT pg_read_all_stats TO reader; GRANT SET ON PARAMETER log_statement TO reader;
""".replace("\\nbreak", "\nbreak")
RICH = (
    """
SET ROLE "Rich ""Owner""; x";
CREATE SCHEMA "a b"; CREATE SCHEMA audit;
CREATE TYPE mood AS ENUM ('sad', 'it''s'); CREATE DOMAIN price AS numeric(12, 2) CHECK (VALUE >= 0);
CREATE TABLE people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE "C" NOT NULL, m mood, p price,
 twice numeric GENERATED ALWAYS AS (p * 2) STORED, doc jsonb, raw bytea);
INSERT INTO people (name, m, p, doc, raw) SELECT 'n' || i || E'\\t\\n\\\\N', 'it''s', i, jsonb_build_object('i', i), decode(md5(i::text), 'hex') FROM generate_series(1, 3000) i;
CREATE TABLE "a b"."odd ""table'" (x int UNIQUE, y text DEFAULT 'a;b'); INSERT INTO "a b"."odd ""table'" VALUES (1), (NULL);
CREATE TABLE events (at date NOT NULL, person bigint REFERENCES people, note text) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE events_2 PARTITION OF events DEFAULT;
INSERT INTO events SELECT date '2026-01-01' + i, 1 + i, 'e' || i FROM generate_series(0, 400) i;
CREATE INDEX ON events (note) WHERE note <> ''; CREATE UNLOGGED TABLE fast AS SELECT 1 AS x;
CREATE SEQUENCE "a b".seq INCREMENT 7 MINVALUE -5 CYCLE; SELECT nextval('"a b".seq'), nextval('"a b".seq');
CREATE VIEW v WITH (security_barrier) AS SELECT name FROM people WHERE id < 10;
CREATE MATERIALIZED VIEW mv AS SELECT m, count(*) FROM people GROUP BY m; CREATE MATERIALIZED VIEW empty_mv AS SELECT 1 AS x WITH NO DATA;
CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RAISE EXCEPTION 'a trigger ran'; END $f$;
CREATE TRIGGER t BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION audit.note();
ALTER TABLE people ENABLE ROW LEVEL SECURITY; ALTER TABLE people FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON people TO reader USING (name = current_user); ALTER TABLE people CLUSTER ON people_pkey;
CREATE RULE r AS ON DELETE TO "a b"."odd ""table'" DO INSTEAD NOTHING; CREATE STATISTICS s ON name, m FROM people;
GRANT SELECT (name), UPDATE (name) ON people TO reader WITH GRANT OPTION; GRANT USAGE ON SCHEMA "a b" TO "line\nbreak";
ALTER DEFAULT PRIVILEGES IN SCHEMA audit GRANT SELECT ON TABLES TO reader; ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
COMMENT ON TABLE people IS E'it''s \\\\ people'; ALTER TABLE people ALTER name SET STATISTICS 500;
RESET ROLE;
CREATE EXTENSION hstore SCHEMA audit; CREATE EXTENSION pg_trgm; CREATE EXTENSION pgcrypto; CREATE INDEX ON people USING gin (name gin_trgm_ops);
SELECT lo_from_bytea(4242, 'large'), lo_from_bytea(4243, decode(repeat('ff', 5000), 'hex'));
GRANT SELECT ON LARGE OBJECT 4242 TO reader; ALTER LARGE OBJECT 4243 OWNER TO reader; COMMENT ON LARGE OBJECT 4242 IS 'lo';
CREATE PUBLICATION pub FOR TABLE people WHERE (id > 5) WITH (publish = 'insert'); CREATE PUBLICATION everything FOR ALL TABLES;
CREATE SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 port=1 dbname=none' PUBLICATION p WITH (connect = false, slot_name = 'the slot');
ALTER SUBSCRIPTION sub SET (slot_name = 'the_slot'); ALTER SUBSCRIPTION sub ENABLE;
CREATE FUNCTION audit.watch() RETURNS event_trigger LANGUAGE plpgsql AS $f$ BEGIN IF current_database() LIKE '%_restore_%' THEN RAISE EXCEPTION 'watched'; END IF; END $f$;
CREATE EVENT TRIGGER watch ON ddl_command_start EXECUTE FUNCTION audit.watch();
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'x');
""".replace("\\nbreak", "\nbreak")
    .replace("CREATE SERVER", "CREATE EXTENSION postgres_fdw; CREATE SERVER")
    .replace("'the slot'", "'the_slot'")
)
AROUND = """
ALTER DATABASE {0} SET search_path = "$user", "a b", public; ALTER DATABASE {0} SET app.mode = 'a, b''c'; ALTER DATABASE {0} SET work_mem = '7MB';
ALTER DATABASE {0} SET "TimeZone" = 'Europe/Berlin'; ALTER DATABASE {0} SET session_preload_libraries = 'auto_explain', 'pg_prewarm'; ALTER DATABASE {0} SET DateStyle = 'ISO', 'DMY';
ALTER ROLE "Rich ""Owner""; x" IN DATABASE {0} SET search_path = 'x y', z; ALTER ROLE reader IN DATABASE {0} SET app.mode = '';
COMMENT ON DATABASE {0} IS E'it''s "the\\n" \\\\ rich one'; ALTER DATABASE {0} CONNECTION LIMIT 42;
REVOKE ALL ON DATABASE {0} FROM PUBLIC; GRANT CONNECT ON DATABASE {0} TO reader WITH GRANT OPTION;
SET ROLE reader; GRANT CONNECT ON DATABASE {0} TO "line\nbreak"; RESET ROLE;
""".replace("\\nbreak", "\nbreak")
LOGIN_TRIGGER = """CREATE FUNCTION audit.door() RETURNS event_trigger LANGUAGE plpgsql AS $f$ BEGIN
 IF current_database() LIKE '%_restore_%' THEN RAISE EXCEPTION 'nobody gets in'; END IF; END $f$;
CREATE EVENT TRIGGER door ON login EXECUTE FUNCTION audit.door(); ALTER EVENT TRIGGER door ENABLE ALWAYS;"""
ROLE_NAMES = ['Rich "Owner"; x', "line\nbreak", "reader", "rich_team"]


def dump(stack, service, database, what):
    text = sh(
        "docker",
        "exec",
        stack.name(service),
        "pg_dump",
        "-U",
        "owner",
        what,
        "--create",
        "-d",
        f"dbname={conn(database)}",
    )
    lines = [line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]
    # Settings of roles come in the order in which they lie on disk.
    settings = sorted(line for line in lines if line.startswith("ALTER ROLE ") and " IN DATABASE " in line)
    return settings + [line for line in lines if line not in settings]


def conn(name):
    return "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"


def around(stack, service, database):
    """pg_database's row and the settings: all but what is a number of the server's own."""
    row = "to_jsonb(d) - '{oid,datdba,datfrozenxid,datminmxid}'::text[]"
    return json.loads(
        stack.sql(
            service,
            f"""SELECT jsonb_build_object('row', {row}, 'owner', pg_get_userbyid(datdba), 'comment', shobj_description(d.oid, 'pg_database'),
            'settings', (SELECT jsonb_agg(jsonb_build_array(setrole::regrole, setconfig) ORDER BY setrole::regrole::text) FROM pg_db_role_setting WHERE setdatabase = d.oid))
            FROM pg_database d WHERE datname = {literal(database)}""",
            "postgres",
        )
    )


def roles(stack, service):
    names = ", ".join(map(literal, ROLE_NAMES))
    return json.loads(
        stack.sql(
            service,
            f"""SELECT jsonb_build_object('roles', (SELECT jsonb_agg(to_jsonb(a) - 'oid' || jsonb_build_object('comment', shobj_description(a.oid, 'pg_authid')) ORDER BY rolname)
              FROM pg_authid a WHERE rolname IN ({names})),
             'members', (SELECT jsonb_agg(to_jsonb(m) - '{{oid,roleid,member,grantor}}'::text[] || jsonb_build_array(roleid::regrole, member::regrole, grantor::regrole) ORDER BY roleid::regrole::text, member::regrole::text)
              FROM pg_auth_members m WHERE member::regrole::text IN (SELECT quote_ident(r) FROM unnest(ARRAY[{names}]) r)),
             'settings', (SELECT jsonb_agg(setconfig) FROM pg_db_role_setting WHERE setdatabase = 0 AND setrole = 'reader'::regrole),
             'parameters', (SELECT jsonb_agg(paracl::text) FROM pg_parameter_acl))""",
            "postgres",
        )
    )


def names(stack, service):
    return sorted(
        json.loads(stack.sql(service, "SELECT jsonb_agg(datname) FROM pg_database WHERE NOT datistemplate", "postgres"))
    )


def allowed(stack, service, database):
    return (
        stack.sql(service, f"SELECT datallowconn FROM pg_database WHERE datname = {literal(database)}", "postgres")
        == "t"
    )


def rows(stack, service, database, table="t"):
    return stack.sql(service, f"SELECT string_agg(x::text, ',' ORDER BY x) FROM {table}", database)


@contextmanager
def opened(stack, folder, store, jobs=2, seconds=120):
    """A Target, as the orchestrator makes one."""
    docker = Docker(Deadline(seconds))
    parsed = parse_stores([store])[0]
    name = parsed.container or stack.name(parsed.service)
    target = Target(docker, parsed, docker.inspect([name])[0], folder, folder=folder / parsed.name, jobs=jobs)
    try:
        target.open()
        yield target
    finally:
        target.close()


def taken(stack, folder, store, **options):
    point = stack.take(folder, [store], **options)["id"]
    return catalog.read(folder, "test").points[point][store["name"]]


def restore(target, backup, method="side_by_side"):
    state = target.plan(backup, ID, method)["state"]
    target.prepare(backup, state)
    target.switch(state)
    target.check(backup, state)
    return state


def drop(stack, service, *databases):
    silent = "event_triggers=off" if service != "pg15" else "session_replication_role=replica"
    for name in databases:
        quoted, entry = identifier(name), f"dbname={conn(name)} options='-c {silent}'"
        mine = f"subdbid = (SELECT oid FROM pg_database WHERE datname = {literal(name)})"
        if stack.sql(service, f"SELECT 1 FROM pg_subscription WHERE {mine}", "postgres"):
            stack.sql(
                service,
                f"ALTER DATABASE {quoted} ALLOW_CONNECTIONS true; ALTER DATABASE {quoted} RESET ALL",
                "postgres",
            )
            stack.sql(
                service,
                "ALTER SUBSCRIPTION sub DISABLE; ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub",
                entry,
            )
        stack.sql(service, f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)", "postgres")


@pytest.fixture(params=["pg15", "pg18"])
def service(request):
    return request.param


@pytest.fixture
def small(stack, service):
    """A database of one table: 1,2 is saved, the live one goes on to 3."""
    stack.sql(service, "CREATE DATABASE small", "postgres")
    stack.sql(service, "CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2); SELECT lo_from_bytea(0, 'x')", "small")
    before = names(stack, service)
    yield {**PG, "service": service, "database": "small"}
    drop(stack, service, *[name for name in names(stack, service) if name.startswith("small") or name not in before])


@pytest.fixture
def rich(stack, service):
    stack.sql(service, ROLES, "postgres")
    locale = "LOCALE_PROVIDER icu ICU_LOCALE 'de-AT'" + (" ICU_RULES '&V << w'" if service != "pg15" else "")
    stack.sql(
        service,
        f"""CREATE DATABASE rich OWNER "Rich ""Owner""; x" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'de_DE.utf8' {locale}""",
        "postgres",
    )
    stack.sql(service, RICH + (LOGIN_TRIGGER if service != "pg15" else ""), "rich")
    stack.sql(service, AROUND.format("rich"), "postgres")
    yield {**PG, "service": service, "database": "rich"}
    drop(stack, service, *[name for name in names(stack, service) if name.startswith("rich")])
    stack.sql(
        service, "REVOKE SET ON PARAMETER log_statement FROM reader; REVOKE rich_team FROM reader CASCADE", "postgres"
    )
    for name in ROLE_NAMES:
        stack.sql(service, f"DROP ROLE IF EXISTS {identifier(name)}", "postgres")


@pytest.mark.parametrize("service", ["pg15", "pg17", "pg18"])
@pytest.mark.parametrize("options", [{}, {"format": "directory"}, {"via": "exec"}], ids=["custom", "directory", "exec"])
def test_what_comes_back_is_what_was_saved(stack, tmp_path, service, rich, options):
    store = {**rich, **options}
    backup = taken(stack, tmp_path, store)
    schema, data = dump(stack, service, "rich", "--schema-only"), dump(stack, service, "rich", "--data-only")
    properties, who = around(stack, service, "rich"), roles(stack, service)
    assert any('odd ""table\'' in line for line in schema) and any(
        line.startswith("n3000\\t") or "n3000\\t" in line for line in data
    )
    # A disaster: the database and its roles are gone.
    drop(stack, service, "rich")
    stack.sql(
        service, "REVOKE SET ON PARAMETER log_statement FROM reader; REVOKE rich_team FROM reader CASCADE", "postgres"
    )
    for name in ROLE_NAMES:
        stack.sql(service, f"DROP ROLE {identifier(name)}", "postgres")
    with opened(stack, tmp_path, store) as target:
        plan = target.plan(backup, ID, "side_by_side")
        assert not plan["replaces"] and any(
            "subscriptions come back disabled (sub)" in text for text in plan["warnings"]
        )
        report = target.prepare(backup, plan["state"])
        assert sorted(report["roles"]) == sorted(ROLE_NAMES)
        assert (
            target.query("SELECT count(*) FROM people; SHOW search_path", plan["state"], live=False)
            == '3000\n"$user", "a b", public'
        )
        target.switch(plan["state"])
        target.check(backup, plan["state"])
    assert around(stack, service, "rich") == properties
    assert roles(stack, service) == who
    assert dump(stack, service, "rich", "--schema-only") == schema
    assert dump(stack, service, "rich", "--data-only") == data
    assert stack.sql(service, "SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'events'", "rich") == "t"
    assert stack.sql(service, "SELECT bool_or(subenabled) FROM pg_subscription", "rich") == "f"


ODD = ['it\'s "quoted" two', "-dash$HOME;ls", "line\nbreak\\slash", "host=evil dbname=x", "x" * 63, "日" * 21]


@pytest.mark.parametrize("name", [*ODD, "postgres"])
def test_a_database_may_have_any_name(stack, tmp_path, name):
    store = {**PG, "database": name}
    before = names(stack, "pg17")
    if name != "postgres":
        stack.sql("pg17", f"CREATE DATABASE {identifier(name)}", "template1")
    entry = f"dbname={conn(name)}"
    try:
        stack.sql("pg17", "CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2)", entry)
        backup = taken(stack, tmp_path, store)
        stack.sql("pg17", "INSERT INTO t VALUES (3)", entry)
        with opened(stack, tmp_path, store) as target:
            state = restore(target, backup)
            assert rows(stack, "pg17", entry) == "1,2"
            assert (
                stack.sql("pg17", f"SELECT datallowconn FROM pg_database WHERE datname = {literal(state['previous'])}")
                == "f"
            )
            target.back(state)
            assert rows(stack, "pg17", entry) == "1,2,3"
        assert len(names_of(stack)) == len(before) + (name != "postgres")
    finally:
        if name == "postgres":
            stack.sql("pg17", "DROP TABLE t", entry)
        else:
            for left in set(names_of(stack)) - set(before):
                stack.sql("pg17", f"DROP DATABASE {identifier(left)} WITH (FORCE)", "template1")


def names_of(stack):
    return json.loads(
        stack.sql("pg17", "SELECT jsonb_agg(datname) FROM pg_database WHERE NOT datistemplate", "template1")
    )


@pytest.mark.parametrize(
    ("service", "properties"),
    [
        ("pg15", "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"),
        ("pg15", "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"),
        ("pg17", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LC_COLLATE 'C' LC_CTYPE 'de_DE.utf8'"),
        ("pg17", "LC_COLLATE 'de_DE.utf8' LC_CTYPE 'en_US.utf8' IS_TEMPLATE true"),
    ],
)
def test_encodings_and_locales(stack, tmp_path, service, properties):
    stack.sql(service, f"CREATE DATABASE loc TEMPLATE template0 {properties}", "postgres")
    store, state = {**PG, "service": service, "database": "loc"}, None
    try:
        stack.sql(service, "SET client_encoding = 'UTF8'; CREATE TABLE t (x text); INSERT INTO t VALUES ('ä')", "loc")
        backup, was = taken(stack, tmp_path, store), around(stack, service, "loc")
        with opened(stack, tmp_path, store) as target:
            state = restore(target, backup)
            assert around(stack, service, "loc") == was
            assert stack.sql(service, "SET client_encoding = 'UTF8'; SELECT x FROM t", "loc") == "ä"
            target.drop(state)
            assert state["previous"] not in names(stack, service)
    finally:
        stack.sql(service, "ALTER DATABASE loc IS_TEMPLATE false", "postgres")
        drop(stack, service, "loc", *([state["side"], state["previous"]] if state else []))


class Busy:
    """Clients of a database: one that sits in it, and one that comes again and again."""

    def __init__(self, stack, service, database):
        psql = [
            "docker",
            "exec",
            "-e",
            "PGAPPNAME=busy 'app'",
            "-i",
            stack.name(service),
            "psql",
            "-XAtq",
            "-U",
            "owner",
            "-d",
            database,
        ]
        self.sits = subprocess.Popen(
            [*psql, "-c", "SELECT pg_sleep(60)"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        loop = f"end=$(($(date +%s) + 20)); while [ $(date +%s) -lt $end ] && [ ! -e /tmp/enough ]; do psql -XAtq -U owner -d {database} -c 'INSERT INTO t VALUES (9)' 2>/dev/null; done"
        self.comes = subprocess.Popen(
            ["docker", "exec", stack.name(service), "sh", "-c", loop],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(100):
            if (
                stack.sql(
                    service,
                    f"SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND datname = {literal(database)}",
                    "postgres",
                )
                == "1"
            ):
                break
            time.sleep(0.1)

    def end(self, stack, service):
        stack.sql(
            service,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND pid <> pg_backend_pid()",
            "postgres",
        )
        sh("docker", "exec", stack.name(service), "touch", "/tmp/enough")
        for program in (self.sits, self.comes):
            program.communicate()
        sh("docker", "exec", stack.name(service), "rm", "/tmp/enough")


def test_a_switch_under_busy_clients(stack, tmp_path, service, small):
    backup = taken(stack, tmp_path, small)
    busy = Busy(stack, service, "small")
    try:
        with opened(stack, tmp_path, small) as target:
            plan = target.plan(backup, ID, "side_by_side")
            state = plan["state"]
            target.prepare(backup, state)
            wanted = "app 'busy ''app''' as owner from a local socket"
            assert wanted in plan["sessions"] and wanted in target.clients()
            report = target.switch(state)
            target.check(backup, state)
        assert wanted in report["ended"]
        assert report["seconds"] < 5
        assert busy.sits.wait(5) != 0
        assert stack.sql(service, "SELECT count(*) FROM t WHERE x < 9", "small") == "2"
        assert not allowed(stack, service, state["previous"]) and allowed(stack, service, "small")
    finally:
        busy.end(stack, service)


def test_back_from_every_point(stack, tmp_path, service, small):
    backup = taken(stack, tmp_path, small)
    stack.sql(service, "INSERT INTO t VALUES (3)", "small")
    before, was = names(stack, service), around(stack, service, "small")

    def is_old(state):
        assert names(stack, service) == before
        assert rows(stack, service, "small") == "1,2,3"
        assert around(stack, service, "small") == was
        assert state["live"] == "small"

    def anew(state):
        """Back in a new process, from the journal alone; and once more."""
        for _ in range(2):
            with opened(stack, tmp_path, small) as target:
                target.back(json.loads(json.dumps(state)))
            is_old(state)

    with opened(stack, tmp_path, small) as target:
        state = target.plan(backup, ID, "side_by_side")["state"]
    anew(state)  # nothing was done
    stack.sql(service, f"CREATE DATABASE {identifier(state['side'])} CONNECTION LIMIT 0", "postgres")
    anew(state)  # died in prepare
    with opened(stack, tmp_path, small) as target:
        target.prepare(backup, {**state})
    anew(state)  # died before prepare was journaled
    with opened(stack, tmp_path, small) as target:
        target.prepare(backup, state)
    stack.sql(
        service,
        f"ALTER DATABASE small ALLOW_CONNECTIONS false; ALTER DATABASE {identifier(state['side'])} ALLOW_CONNECTIONS false",
        "postgres",
    )
    anew(state)  # died in switch
    with opened(stack, tmp_path, small) as target:
        restore(target, backup)
    assert rows(stack, service, "small") == "1,2"
    stack.sql(service, "INSERT INTO t VALUES (4)", "small")
    anew(state)  # died after switch
    with opened(stack, tmp_path, small) as target:
        restore(target, backup)
        assert len(target.keep(state)) == 1
        sh("docker", "rm", "-fv", *stack.sides())  # the way in is lost
        target.back(state)
        assert target.keep(state) == []
        is_old(state)


def test_drop_removes_what_is_kept_and_then_there_is_no_way_back(stack, tmp_path, service, small):
    backup = taken(stack, tmp_path, small)
    with opened(stack, tmp_path, small) as target:
        state = restore(target, backup)
        before = set(names(stack, service))
        target.drop(state)
        target.drop(state)
        assert before - set(names(stack, service)) == {state["previous"]}
        with pytest.raises(BackupError, match="is not kept any more"):
            target.back(state)
        stack.sql(service, f"CREATE DATABASE {identifier(state['previous'])}", "postgres")
        stack.sql(service, "ALTER DATABASE small RENAME TO smaller", "postgres")
        with pytest.raises(BackupError, match="there is no database 'small'"):
            target.drop(state)
        assert state["previous"] in names(stack, service)


def test_what_was_missing_goes_again_and_what_others_made_stays(stack, tmp_path, service, small):
    backup = taken(stack, tmp_path, small)
    drop(stack, service, "small")
    with opened(stack, tmp_path, small) as target:
        state = restore(target, backup)
        assert rows(stack, service, "small") == "1,2"
        target.back(state)
        assert "small" not in names(stack, service)
        state = target.plan(backup, ID, "side_by_side")["state"]
        stack.sql(service, "CREATE DATABASE small", "postgres")
        target.back(state)
        assert "small" in names(stack, service)


def test_in_place(stack, tmp_path, service, small):
    backup = taken(stack, tmp_path, small)
    stack.sql(service, "INSERT INTO t VALUES (3)", "small")
    before = names(stack, service)
    with opened(stack, tmp_path, small) as target:
        state = target.plan(backup, ID, "in_place")["state"]
        target.back(state)
        assert rows(stack, service, "small") == "1,2,3"
        target.prepare(backup, state)
        assert "small" not in names(stack, service)
        target.back(state)
        assert names(stack, service) == [name for name in before if name != "small"]
        stack.sql(service, "CREATE DATABASE small", "postgres")
        state = restore(target, backup, "in_place")
        assert rows(stack, service, "small") == "1,2" and names(stack, service) == before
        target.back(state)  # the new one is all there is
        assert rows(stack, service, "small") == "1,2" and allowed(stack, service, "small")


def test_subscriptions_rest_while_kept_and_go_with_what_is_dropped(stack, tmp_path, service, rich):
    backup = taken(stack, tmp_path, rich)
    enabled = "SELECT string_agg(datname || subenabled, ',' ORDER BY datname) FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname LIKE 'rich%'"
    assert stack.sql(service, enabled, "postgres") == "richtrue"
    with opened(stack, tmp_path, rich) as target:
        state = restore(target, backup)
        assert stack.sql(service, enabled, "postgres") == f"richfalse,{state['previous']}false"
        target.back(state)
        assert stack.sql(service, enabled, "postgres") == "richtrue"
        state = restore(target, backup)
        kept = identifier(state["previous"])
        stack.sql(service, f"ALTER DATABASE {kept} SET session_preload_libraries = 'no-such'", "postgres")
        target.drop(state)
        assert stack.sql(service, enabled, "postgres") == "richfalse"
        assert state["previous"] not in names(stack, service)


def test_roles_that_are_there_stay_as_they_are(stack, tmp_path, service, rich):
    backup = taken(stack, tmp_path, rich)
    stack.sql(
        service,
        "ALTER ROLE reader PASSWORD 'another' CREATEDB; ALTER ROLE reader RESET ALL; REVOKE pg_read_all_stats FROM reader",
        "postgres",
    )
    was = roles(stack, service)
    with opened(stack, tmp_path, rich) as target:
        state = target.plan(backup, ID, "side_by_side")["state"]
        assert target.prepare(backup, state)["roles"] == []
        assert roles(stack, service) == was
        target.back(state)


def test_a_damaged_fill_leaves_the_live_database_alone(stack, tmp_path, service, small):
    backup = taken(stack, tmp_path, small)
    stack.sql(service, "INSERT INTO t VALUES (3)", "small")
    before = names(stack, service)
    whole = backup.artifact.read_bytes()
    lies = json.loads(json.dumps(backup.manifest))
    lies["counts"]["rows"]["public.t"] = 5
    with opened(stack, tmp_path, small) as target:
        for content, manifest, message in (
            (whole[: len(whole) * 2 // 3], backup.manifest, "pg_restore failed: pg_restore: error: "),
            (whole, lies, "table public.t has 2 rows, was saved with 5"),
            (whole, {**backup.manifest, "database": {**backup.manifest["database"], "encoding": "KLINGON"}}, "KLINGON"),
        ):
            backup.artifact.write_bytes(content)
            bad = catalog.Backup(backup.store, backup.point, backup.artifact, manifest)
            state = target.plan(backup, ID, "side_by_side")["state"]
            with pytest.raises(BackupError, match=message):
                target.prepare(bad, state)
            assert rows(stack, service, "small") == "1,2,3"
            target.back(state)
            assert names(stack, service) == before


@contextmanager
def server(stack, tmp_path, image, *options, settings=()):
    """A server of its own, with a database `small`."""
    name = f"{PROJECT}-{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:6]}"
    sh(
        "docker",
        "run",
        "-d",
        "--name",
        name,
        "-e",
        "POSTGRES_PASSWORD=secret",
        "-e",
        "POSTGRES_USER=owner",
        "-e",
        "POSTGRES_DB=small",
        *options,
        image,
        *(arg for item in settings for arg in ("-c", item)),
    )
    try:
        for _ in range(150):
            if (
                subprocess.run(
                    [
                        "docker",
                        "exec",
                        name,
                        "psql",
                        "-h",
                        "127.0.0.1",
                        "-U",
                        "owner",
                        "-d",
                        "small",
                        "-c",
                        "CREATE TABLE t AS SELECT 1 AS x",
                    ],
                    capture_output=True,
                    check=False,
                ).returncode
                == 0
            ):
                break
            time.sleep(0.2)
        yield name
    finally:
        sh("docker", "rm", "-fv", name)


def inside(name, sql, database="small"):
    return sh(
        "docker", "exec", "-i", name, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "owner", "-d", database, stdin=sql
    ).strip()


def refused(stack, folder, store, backup, message, method="side_by_side"):
    with opened(stack, folder, store) as target, pytest.raises(BackupError, match=message) as caught:
        target.plan(backup, ID, method)
    return str(caught.value)


def test_what_can_not_work_is_refused_in_the_plan(stack, tmp_path, service, small):
    backup = taken(stack, tmp_path, small)
    before = (names(stack, service), around(stack, service, "small"))

    def changed(**database):
        made = json.loads(json.dumps(backup.manifest))
        made["database"].update(database)
        return catalog.Backup(backup.store, backup.point, backup.artifact, made)

    refused(
        stack,
        tmp_path,
        small,
        changed(extensions={"plpgsql": "1.0", "timescaledb": "2"}),
        "no extension timescaledb.*use an image that has it",
    )
    refused(stack, tmp_path, small, changed(tablespaces=["fast disk"]), "no tablespace fast disk.*CREATE TABLESPACE")
    refused(stack, tmp_path, small, changed(size=10**15), "bytes free, a restore needs [0-9]+: free some")
    newer = catalog.Backup(backup.store, backup.point, backup.artifact, {**backup.manifest, "server_version": 990001})
    refused(
        stack,
        tmp_path,
        small,
        newer,
        f"backup is of Postgres 99, this server is {service[2:]}: restore it into Postgres 99 or later",
    )
    stack.sql(service, "CREATE ROLE weak LOGIN PASSWORD 'x'; CREATE ROLE maker LOGIN CREATEDB PASSWORD 'x'", "postgres")
    try:
        refused(stack, tmp_path, {**small, "user": "weak"}, backup, "role weak may not create databases")
        refused(stack, tmp_path, {**small, "user": "maker"}, backup, "role maker does not own database 'small'")
    finally:
        stack.sql(service, "DROP ROLE weak, maker", "postgres")
    with opened(stack, tmp_path, small) as target:
        state = target.plan(backup, ID, "side_by_side")["state"]
        stack.sql(service, f"CREATE DATABASE {identifier(state['previous'])}", "postgres")
        with pytest.raises(BackupError, match="there is a database 'small_before_.* already"):
            target.plan(backup, ID, "side_by_side")
    drop(stack, service, state["previous"])
    assert (names(stack, service), around(stack, service, "small")) == before


def test_an_older_server_refuses_a_newer_dump(stack, tmp_path):
    backup = taken(stack, tmp_path, PG)
    refused(stack, tmp_path, {**PG, "service": "pg15"}, backup, "is of Postgres 17, this server is 15")


def test_prepared_transactions_slots_and_replicas(stack, tmp_path):
    with server(stack, tmp_path, "postgres:17", settings=("max_prepared_transactions=2", "wal_level=logical")) as name:
        store = {"name": "postgres", "engine": "postgres", "container": name}
        backup = taken(stack, tmp_path, store)
        inside(name, "BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'half ''done';")
        refused(
            stack,
            tmp_path,
            store,
            backup,
            "prepared transactions and can't be renamed while it has: \"half 'done\": COMMIT PREPARED",
        )
        inside(name, "COMMIT PREPARED 'half ''done'; SELECT pg_create_logical_replication_slot('cdc', 'pgoutput');")
        with opened(stack, tmp_path, store) as target:
            plan = target.plan(backup, ID, "side_by_side")
            assert any("slots cdc stay with the old database" in text for text in plan["warnings"])
            target.prepare(backup, plan["state"])
            target.switch(plan["state"])
            assert inside(name, "SELECT database FROM pg_replication_slots") == plan["state"]["previous"]
            target.drop(plan["state"])
            assert inside(name, "SELECT count(*) FROM pg_replication_slots") == "0"
        sh("docker", "exec", name, "sh", "-c", 'touch "$PGDATA/standby.signal"')
        sh("docker", "restart", "-t", "5", name)
        with (
            pytest.raises(BackupError, match="this server is a replica of another: restore into that one"),
            opened(stack, tmp_path, store),
        ):
            pass


def test_a_disk_that_is_too_small_names_in_place_where_that_fits(stack, tmp_path):
    with server(
        stack,
        tmp_path,
        "postgres:17",
        "--tmpfs",
        "/var/lib/postgresql/data:size=340m,uid=999,gid=999,mode=700",
        settings=("max_wal_size=32MB", "min_wal_size=32MB", "wal_segment_size=16MB")[:2],
    ) as name:
        store = {"name": "postgres", "engine": "postgres", "container": name}
        inside(name, "CREATE UNLOGGED TABLE big AS SELECT repeat(md5(i::text), 30) FROM generate_series(1, 110000) i")
        backup = taken(stack, tmp_path, store)
        assert "restore_method: in_place" in refused(stack, tmp_path, store, backup, "bytes free, a restore needs")
        with opened(stack, tmp_path, store) as target:
            plan = target.plan(backup, ID, "in_place")
            assert plan["needs"] < plan["free"]
            target.prepare(backup, plan["state"])
            target.switch(plan["state"])
            target.check(backup, plan["state"])
        assert inside(name, "SELECT count(*) FROM big") == "110000"


class Looking(list):
    """Smoke queries that look at the drill's server when they are asked."""

    def __iter__(self):
        self.look()
        return super().__iter__()


@pytest.mark.parametrize("fails", [False, True])
def test_a_drill_leaves_nothing(stack, tmp_path, service, rich, fails):
    backup = taken(stack, tmp_path, rich)
    seen = []

    def look():
        for side in stack.sides():
            told = json.loads(sh("docker", "inspect", side))[0]
            seen.append(
                (
                    told["HostConfig"]["NetworkMode"],
                    told["HostConfig"]["Memory"],
                    [mount["Name"] for mount in told["Mounts"] if mount["Type"] == "volume"],
                )
            )

    queries = Looking(
        [
            {"store": "postgres", "sql": "SELECT count(*) FROM people", "expect": 7 if fails else "3000"},
            {
                "store": "postgres",
                "sql": "SELECT rolpassword LIKE 'SCRAM%' FROM pg_authid WHERE rolname = 'reader'",
                "expect": "t",
            },
            {"store": "redis", "command": "dbsize", "expect": "0"},
        ]
    )
    queries.look = look
    docker = Docker(Deadline(120))
    run = lambda: drill(docker, f"postgres:{service[2:]}", backup, tmp_path, memory="512m", queries=queries)  # noqa: E731
    if fails:
        with pytest.raises(BackupError, match="'SELECT count.*' answered '3000', expected '7'"):
            run()
    else:
        report = run()
        assert [item["answer"] for item in report["smoke"]] == ["3000", "t"]
        assert report["counts"]["tables"] == backup.manifest["counts"]["tables"]
        assert report["seconds"]["total"] > report["seconds"]["start"] > 0
    ((network, memory, volumes),) = seen
    assert (network, memory, len(volumes)) == ("none", 512 * 1024 * 1024, 1)
    assert stack.sides() == []
    assert subprocess.run(["docker", "volume", "inspect", volumes[0]], capture_output=True, check=False).returncode != 0


def test_a_drill_that_can_not_begin_is_told(stack, tmp_path, monkeypatch):
    backup = taken(stack, tmp_path, PG)
    docker = Docker(Deadline(120))
    with pytest.raises(BackupError, match="is of Postgres 17, this server is 15"):
        drill(docker, "postgres:15", backup, tmp_path, memory="512m", queries=[])
    with pytest.raises(BackupError, match="has no entrypoint"):
        drill(docker, "python:3.13-slim", backup, tmp_path, memory="512m", queries=[])
    monkeypatch.setattr("stack_backup.postgres.scratch._SETTINGS", ("nonsense=1",))
    with pytest.raises(BackupError, match="the drill's server did not start: .*nonsense"):
        drill(docker, "postgres:17", backup, tmp_path, memory="512m", queries=[])
