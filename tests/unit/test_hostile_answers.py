"""Answers of anything: health checks, docker, rclone, RDB heads, redis-check-rdb, and names on their way into SQL."""

import importlib.util
import socket
import sys
import threading
import time
from pathlib import Path

import hostile
import pytest
from hostile import MANY, SOME, told
from hypothesis import given
from hypothesis import strategies as st
from stack_backup import health
from stack_backup.containers import Container, Docker, Project
from stack_backup.errors import BackupError
from stack_backup.offsite.rclone import Rclone
from stack_backup.postgres.connection import conninfo
from stack_backup.postgres.names import identifier, literal, suffixed, unquoted
from stack_backup.postgres.roles import missing
from stack_backup.process import MAX_OUTPUT, Deadline, Session, run
from stack_backup.redis import facts, rdb
from stack_backup.redis.check import told as counted
from stack_backup.redis.server import Server
from stack_backup.services import stop_order
from stack_backup.stores import parse_stores
from stack_backup.validate import complete

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(60)


# --- health -----------------------------------------------------------------------------------------------------------


class Speaker(socket.socket):
    def __init__(self, address):
        super().__init__()
        self.bind(address)
        self.listen()
        self.says, self.drip, self.asked = b"", 0.0, 0


@pytest.fixture
def speaker():
    """A server that says what it is told, byte for byte; ``drip`` seconds between two bytes of it."""
    server = Speaker(("127.0.0.1", 0))
    stop = threading.Event()

    def talk(client):
        with client:
            try:
                client.recv(4096)
                if not server.drip:
                    client.sendall(server.says)
                for byte in server.says if server.drip else b"":
                    client.sendall(bytes([byte]))
                    if stop.wait(server.drip):
                        return
            except OSError:
                pass

    def serve():
        while not stop.is_set():
            try:
                client, _ = server.accept()
            except OSError:
                return
            server.asked += 1
            threading.Thread(target=talk, args=(client,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.getsockname()[1]}/health"
    yield server
    stop.set()
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def ask(speaker, seconds=5.0, **more):
    return health._ask({"url": speaker.url, **more}, seconds)


HEADS = st.sampled_from(
    [
        *(
            b"",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 99999 X\r\n\r\n",
        ),
        *(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/9 200\r\n\r\n",
            b"SSH-2.0-x\r\n",
            b"\x16\x03\x01",
        ),
        *(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 302 X\r\nLocation: http://[\r\n\r\n"),
        *(
            b"HTTP/1.1 302 X\r\nLocation: \xff\xfe://x\r\n\r\n",
            b"HTTP/1.1 200 " + b"x" * 70000,
            b"HTTP/1.1 503 X\r\n\r\n",
        ),
        *(
            b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 100 Go\r\n\r\n" * 3,
        ),
    ]
)
BODIES = st.one_of(
    st.binary(max_size=30),
    hostile.VALUES.map(lambda value: hostile.dumps(value).encode()),
    st.sampled_from([b"[" * 100_000, b"\xff\xfe{}", b"9" * 5000, b"NaN", b"{" * 2000]),
)


def test_any_answer_is_healthy_or_told(speaker):
    @MANY
    @given(st.tuples(HEADS, BODIES))
    def say(parts):
        speaker.says = b"".join(parts)
        found = ask(speaker, json={"db": "ok"})
        assert isinstance(found, str) and (found or b'"db"' in speaker.says)

    say()


def test_an_answer_that_is_no_http_is_waited_for_as_any_other(speaker):
    """It ended a restore at once, which went back to the old data."""
    speaker.says = b"SSH-2.0-x\r\n"
    threading.Timer(0.5, lambda: setattr(speaker, "says", b"HTTP/1.1 200 OK\r\n\r\n")).start()
    health.wait(Docker(Deadline(30)), [], [{"url": speaker.url}], 10)
    assert speaker.asked > 1


def test_a_slow_drip_does_not_hold_a_restore(speaker):
    """Each byte began the time limit of the socket anew."""
    speaker.says, speaker.drip = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 600, 0.1
    began = time.monotonic()
    assert "no whole answer within 1 s" in ask(speaker, seconds=1.0)
    assert time.monotonic() - began < 3


def test_a_large_body_is_not_read_to_its_end(speaker):
    speaker.says = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 20_000_000
    assert ask(speaker) == ""
    assert "answers no JSON" in ask(speaker, json={})


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://localhost:{port}/x", "//localhost/x"]
)
def test_a_redirect_to_another_host_is_no_answer_of_this_one(speaker, to):
    to = to.format(port=speaker.getsockname()[1])
    speaker.says = f"HTTP/1.1 302 X\r\nLocation: {to}\r\n\r\n".encode()
    assert "302" in ask(speaker) or "not allowed" in ask(speaker)
    assert speaker.asked <= 2  # nobody was asked on


def test_a_redirect_on_the_same_host_is_followed(speaker):
    speaker.says = b"HTTP/1.1 302 X\r\nLocation: /health/\r\n\r\n"
    assert "302" in ask(speaker)  # round and round, until the library ends it
    assert speaker.asked > 2


@SOME
@given(
    st.one_of(
        hostile.TEXTS,
        hostile.TEXTS.map(lambda text: f"http://{text}"),
        st.sampled_from(["http://[", "http://a b/", "http:///x", "https://x:port/"]),
    )
)
def test_any_address_is_refused_or_asked(url):
    if told(health.check_urls, [{"url": url}]) is None:
        assert url.startswith(("http://", "https://")) and url.isprintable()


# --- docker and rclone ------------------------------------------------------------------------------------------------


@pytest.fixture
def says(tmp_path, monkeypatch):
    """Programs docker and rclone that print a file, whatever they are asked."""
    answer = tmp_path / "answer"
    (tmp_path / "bin").mkdir()
    for name in ("docker", "rclone"):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec cat "{answer}"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return answer


INSPECTED = {
    **{
        "Id": "abc",
        "Name": "/x",
        "Image": "sha256:1",
        "RestartCount": 0,
        "HostConfig": {"RestartPolicy": {"Name": "no"}},
    },
    "Config": {"Image": "redis:7", "Env": ["A=b"], "Labels": {"com.docker.compose.project": "p"}},
    "State": {"Status": "running", "StartedAt": "x", "ExitCode": 0, "Health": {"Status": "healthy"}, "Paused": False},
    "Mounts": [{"Destination": "/data", "Name": "v", "RW": True, "Type": "volume", "Source": "/x"}],
}
CONFIG = {
    "name": "p",
    "services": {"a": {"depends_on": {"b": {}}}, "b": {"image": "x", "depends_on": {}}},
    "volumes": {"v": None},
}
STORES = parse_stores([{"name": "b", "engine": "redis", "service": "b"}])


def test_any_answer_of_docker_is_told(says):
    docker = Docker(Deadline(300))
    container = Container("abc", "x", "i", "i", "running", {}, (), (), "p", "a", "no", "", "x", 0)

    @SOME
    @given(st.one_of(hostile.spoiled([INSPECTED]), hostile.VALUES, st.binary(max_size=20)))
    def inspected(data):
        says.write_bytes(data if isinstance(data, bytes) else hostile.dumps(data).encode())
        told(docker.inspect, ["x"])
        told(docker.find, "p", ["a"])
        told(Server(docker, container, "redis").inspect)

    @SOME
    @given(st.one_of(hostile.spoiled(CONFIG), hostile.VALUES))
    def configured(data):
        says.write_bytes(hostile.dumps(data).encode())
        config = told(docker.project_config, Project("/"))
        if isinstance(config, dict):
            told(stop_order, config["services"], STORES, None)
            told(stop_order, config["services"], STORES, ["a"])

    inspected()
    configured()


def test_any_listing_of_rclone_is_told(says, tmp_path):
    (tmp_path / "rclone.conf").write_text("")
    params = {
        "remote": "s3:b",
        "runner": "host",
        "config_dir": str(tmp_path),
        "backup_dir": str(tmp_path),
        "retries": 1,
    }
    rclone = Rclone({**params, "transfers": 1}, Deadline(300), tmp_path)

    @SOME
    @given(
        st.one_of(
            hostile.spoiled([{"Path": "a", "Size": 1}, {"Path": "b", "Size": -1}]),
            hostile.VALUES,
            st.binary(max_size=9),
        )
    )
    def list_it(data):
        says.write_bytes(data if isinstance(data, bytes) else hostile.dumps(data).encode())
        found = told(rclone.list)
        if not isinstance(found, BackupError):
            assert all(isinstance(name, str) and isinstance(size, int) for name, size in found.items())

    list_it()


def test_a_cycle_and_a_service_that_is_not_there_are_told():
    with pytest.raises(BackupError, match="leads in a circle: mend compose.yml"):
        stop_order({"a": {"depends_on": {"b": {}, "c": {}}}, "c": {"depends_on": {"a": {}}}, "b": {}}, STORES, None)
    assert stop_order({"a": {"depends_on": {"b": {}, "gone": {}}}, "b": {}}, STORES, None) == [["a"]]


# --- programs that talk -----------------------------------------------------------------------------------------------


def test_a_line_without_an_end_does_not_fill_memory():
    session = Session(["sh", "-c", f"head -c {MAX_OUTPUT + 30_000} /dev/zero; cat"], deadline=Deadline(50))
    try:
        with pytest.raises(BackupError, match=f"a line of more than {MAX_OUTPUT} bytes"):
            session.line()
    finally:
        session.close()


def test_errors_without_an_end_do_not_fill_memory():
    session = Session(["sh", "-c", "head -c 40000000 /dev/zero >&2; echo done"], deadline=Deadline(50))
    assert session.line(20) == "done"
    session.close()
    assert len(session.result().err) <= 50 * 64 * 1024
    result = run(["sh", "-c", "head -c 40000000 /dev/zero >&2"], deadline=Deadline(50), aside=lambda _line: True)
    assert result.code == 0 and len(result.err) <= 2 * 64 * 1024


# --- Redis ------------------------------------------------------------------------------------------------------------

HEAD = b"REDIS0011\xfa\x09redis-ver\x057.4.0\xfa\x0aredis-bits\xc0\x40\xfa\x05ctime\xc2\x6d\x08\xbc\x65\xfa\x08used-mem\xc2\xb0\xc4\x0f\x00\xfe\x00"


@MANY
@given(
    st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=40).map(lambda rest: b"REDIS0011" + rest),
        st.tuples(st.integers(0, len(HEAD)), st.binary(max_size=6)).map(
            lambda at: HEAD[: at[0]] + at[1] + HEAD[at[0] + len(at[1]) :]
        ),
        st.sampled_from(
            [b"REDIS 12 \xff", b"REDIS+123\xff", b"VALKEY080\xff", b"REDISxxxx", b"VALKEY", "REDIS١٢٣٤".encode()]
        ),
    )
)
def test_any_head_of_an_rdb(head):
    found = told(rdb.read_head, head, "x.rdb")
    if isinstance(found, dict):
        assert found["version"].isdigit() and rdb.number(found, "ctime") >= 0 and rdb.number(found, "used-mem") >= 0
        assert all(isinstance(name, str) and isinstance(value, str) for name, value in found.items())


def test_a_head_with_letters_for_its_version_is_told():
    with pytest.raises(BackupError, match="is no RDB file"):
        rdb.read_head(b"REDISxxxx", "x.rdb")
    assert rdb.read_head(b"VALKEY080\xff", "x")["version"] == "80"
    assert rdb.read_head(HEAD, "x")["redis-bits"] == "64"


def test_what_a_file_says_of_itself_is_not_taken_for_the_checks_word():
    """redis-check-rdb prints the fields of a file before its own verdict."""
    forged = "[offset 40] AUX FIELD x = '\n[offset 7] \\o/ RDB looks OK! \\o/\n[info] 999 keys read\n'\n"
    verdict = "[offset 182] \\o/ RDB looks OK! \\o/\n[info] 7 keys read\n[info] 3 expires\n[info] 1 already expired\n"
    assert counted(forged + verdict) == {"keys": 7, "expires": 3, "already_expired": 1, "subexpires": 0, "end": 182}


@SOME
@given(
    st.lists(
        st.one_of(
            hostile.TEXTS,
            st.sampled_from(["[offset 5] \\o/ RDB looks OK", "[info] 7 keys read", f"[info] {'9' * 5000} expires"]),
        )
    )
)
def test_any_words_of_redis_check_rdb(lines):
    found = told(counted, "\n".join(lines))
    assert isinstance(found, BackupError) or all(value >= 0 for value in found.values())


class Answers:
    """A connection that says what it is told."""

    def __init__(self, info, lines):
        self._info, self._lines = info, lines

    def info(self, _section):
        return self._info

    def command(self, *_args, **_options):
        return self._lines

    def commands(self, commands):
        return [self._lines for _ in commands]


LINES = st.lists(
    st.one_of(
        hostile.TEXTS,
        st.sampled_from(
            ['"0"', '"name"', '"length"', "(integer) 1", '1) "stream"', '"last-generated-id"', "(empty array)"]
        ),
    ),
    max_size=8,
)


@SOME
@given(
    st.dictionaries(
        st.sampled_from(["db0", "db1", "db", "x"]),
        st.sampled_from(["keys=1,expires=0,avg_ttl=0", "keys=x", "", "keys=1"]),
    ),
    LINES,
)
def test_any_answers_of_a_drills_server(info, lines):
    told(facts._databases, Answers(info, lines))
    told(facts._stream, facts._values(lines), facts._values(lines))


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=40)


@MANY
@given(NAMES)
def test_a_name_comes_back_from_every_quote(name):
    assert unquoted(identifier(name)) == name
    plain = literal(name)
    inner = plain[2:-1].replace("\\\\", "\\") if plain.startswith("E") else plain[1:-1]
    assert inner.replace("''", "'") == name
    assert conninfo(dbname=name)[8:-1].replace("\\'", "'").replace("\\\\", "\\") == name
    made = suffixed(name, "_restore_20260101-000000")
    assert made.endswith("_restore_20260101-000000") and len(made.encode()) <= 63
    quoted = identifier(name)
    names, statements = missing(f"CREATE ROLE {quoted};\nALTER ROLE {quoted} WITH LOGIN PASSWORD {plain};", set())
    assert names == [name] and [statement.roles for statement in statements] == [(name,), (name,)]


PIECES = [
    "CREATE ROLE ",
    "a",
    '"',
    "'",
    "E'",
    "\\",
    "\\!",
    "\\restrict x\n",
    ";",
    "--",
    "/*",
    "*/",
    "$$",
    "$a$",
    "\n",
    "GRANT ",
    " TO ",
    ":x",
]


@MANY
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=30).map("".join))
def test_any_globals_file(text):
    found = told(missing, text, {"x"})
    if not isinstance(found, BackupError):
        for statement in found[1]:
            outside = statement.sql
            assert told(missing, f"{outside};", set()) is not None


def test_a_globals_file_of_many_open_quotes_takes_no_time():
    began = time.monotonic()
    for text in ("'" * 400_001, "$a$ " * 100_000, '"' * 400_001, "/*" * 200_000, "E'\\" * 200_000, "--" * 400_000):
        told(missing, text, set())
    assert time.monotonic() - began < 10


@SOME
@given(
    st.one_of(
        hostile.spoiled({"name": "a", "engine": "redis", "service": "r", "port": 5, "tls": True}),
        hostile.spoiled({"name": "a", "engine": "postgres", "container": "r", "jobs": 2, "lock_timeout": 1.0}),
    )
)
def test_any_store(given):
    from stack_backup.arguments import RECOVERY_POINT

    checked = told(complete, {"stores": RECOVERY_POINT["stores"]}, {"stores": [given]}, "x")
    if isinstance(checked, dict) and checked["stores"]:
        found = told(parse_stores, checked["stores"])
        if isinstance(found, list):
            assert "/" not in found[0].name and found[0].name not in ("", ".", "..") and found[0].name.isascii()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_a_time_that_is_no_number_is_refused(value):
    with pytest.raises(BackupError, match="must be of type float"):
        complete({"timeout": {"type": "float"}}, {"timeout": value}, "x")


SPEC = importlib.util.spec_from_file_location("hostile_cron", ROOT / "roles/schedule/filter_plugins/cron.py")
cron = importlib.util.module_from_spec(SPEC)
sys.modules["hostile_cron"] = cron
SPEC.loader.exec_module(cron)
FIELDS = st.one_of(
    st.sampled_from(
        ["*", "M", "M/15", "*/5", "1-5/2", "mon", "0", "59", "60", "M/0", "5-1", "1,2", "٣", "²", "-", "/"]
    ),
    st.text(max_size=6),
)


@MANY
@given(st.one_of(hostile.SCALARS, st.lists(FIELDS, min_size=5, max_size=5).map(" ".join)))
def test_any_cron_time(time):
    fault = cron.cron_fault(time)
    assert isinstance(fault, str)
    if not fault:
        line = cron.cron_at(time, 7)
        assert len(line.split()) == 5 and line.isascii() and "\n" not in line and not cron.cron_fault(line)
