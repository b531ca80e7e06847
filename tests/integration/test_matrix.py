"""Every version of every server: a whole cycle of the job, and what passes from one version to another."""

import hashlib
import json
import time

import pytest
from conftest import PG, PROJECT, sh
from stack_backup import arguments, catalog, drill, restore
from stack_backup.errors import BackupError

DATABASE = "matrix"
SQL = """
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text, at timestamptz, doc jsonb, raw bytea, parts numeric[]);
INSERT INTO orders (note, at, doc, raw, parts) SELECT 'n' || i || E'\\t\\n\\\\', timestamptz '2026-01-01' + i * interval '1 h',
 jsonb_build_object('i', i, 'ü', NULL), decode(md5(i::text), 'hex'), ARRAY[i / 7.0, 'NaN', NULL] FROM generate_series(1, 5000) i;
CREATE TABLE events (day date NOT NULL, order_id bigint REFERENCES orders) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-07-01'); CREATE TABLE events_2 PARTITION OF events DEFAULT;
INSERT INTO events SELECT date '2026-01-01' + i, 1 + i FROM generate_series(0, 400) i;
CREATE INDEX ON orders (note); SELECT lo_from_bytea(77, 'large');
"""
# Every row of every table, and what holds them together.
ROWS = r"""SELECT format('SELECT %L, count(*), md5(string_agg(md5(t::text), '''' ORDER BY md5(t::text))) FROM %s t', c.oid::regclass, c.oid::regclass)
 FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname \gexec
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n' ORDER BY 1;
SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1; SELECT lo_get(77); SELECT last_value FROM orders_id_seq;"""
KEYS = """local out = {} for _, key in ipairs(redis.call('KEYS', '*')) do
 out[#out + 1] = key .. ' ' .. redis.sha1hex(redis.call('DUMP', key):sub(1, -11)) .. ' ' .. redis.call('EXPIRETIME', key) end
table.sort(out) return table.concat(out, '|')"""
# Postgres's service, its compression, its store's options; Redis's service.
PAIRS = {
    "15-7.0": ("pg15", "gzip:1", {}, "redis7"),
    "17-8.0": ("pg17", "zstd:1", {}, "redis8"),
    "18-valkey": ("pg18", "zstd:1", {"format": "directory"}, "valkey8"),
}


class Pair:
    """One server of each kind, as the two stores of one stack."""

    def __init__(self, stack, name):
        self.stack = stack
        self.pg, self.compression, options, self.redis = PAIRS[name]
        login = {"password_file": "/run/pw"} if self.redis == "redis8" else {}
        self.stores = [
            {"name": "redis", "engine": "redis", "service": self.redis, **login},
            {**PG, "service": self.pg, "database": DATABASE, **options},
        ]

    def sql(self, sql, database=DATABASE):
        return self.stack.sql(self.pg, sql, database)

    def cli(self, *args):
        return self.stack.redis(self.redis, *args)

    def make(self):
        self.drop()
        self.sql(f"CREATE DATABASE {DATABASE}", "postgres")
        self.sql(SQL)
        self.cli("flushall")
        self.cli("eval", "for i = 1, 2000 do redis.call('set', 'k' .. i, ('v' .. i):rep(i % 50)) end", "0")
        self.cli("expire", "k7", "86400")
        self.cli("hset", "h", "f", "v", "g", "")
        self.cli("rpush", "l", *map(str, range(300)))
        self.cli("zadd", "z", "1.5", "a", "-inf", "b")
        self.cli("sadd", "s", "1", "2")
        self.cli("xadd", "x", "5-1", "k", "v")
        self.cli("xgroup", "create", "x", "workers", "0")
        self.cli("xreadgroup", "group", "workers", "c", "streams", "x", ">")

    def lose(self):
        """A disaster; what is there after it tells it from what was."""
        self.sql("DROP TABLE events; TRUNCATE orders; CREATE TABLE wreck (x int)")
        self.cli("flushall")
        self.cli("set", "wreck", "1")

    def drop(self):
        for name in self.databases():
            self.sql(f'DROP DATABASE "{name}" WITH (FORCE)', "postgres")

    def databases(self):
        return self.sql(f"SELECT datname FROM pg_database WHERE datname LIKE '{DATABASE}%'", "postgres").split()

    def rows(self):
        return self.sql(ROWS)

    def keys(self):
        """With what a stream's groups hold: the time of a delivery is in the dump, and kept."""
        return self.cli("eval", KEYS, "0"), self.cli("xpending", "x", "workers"), self.cli("dbsize")

    def all(self):
        return self.rows(), self.keys()

    def untouched(self):
        """What must be as it was after a refusal: the data, the servers, and no database more."""
        names = [self.stack.name(service) for service in (self.pg, self.redis)]
        started = sh("docker", "inspect", "--format", "{{.State.StartedAt}} {{.RestartCount}}", *names)
        return self.all(), sorted(self.databases()), started

    def restore(self, backup_dir, check_mode=False, **given):
        params = {name: option.get("default") for name, option in arguments.STACK_RESTORE.items()}
        given = {"confirm": "test", "dependents": [], **given}
        return restore.restore({**params, **self.stack.params(backup_dir, self.stores, **given)}, check_mode)


@pytest.fixture
def pair(stack, request):
    pair = Pair(stack, request.param)
    pair.make()
    yield pair
    pair.drop()
    clean(pair)


def clean(pair):
    """The other tests' data, and nothing that a restore kept."""
    pair.cli("flushall")
    pair.cli("mset", "a", "1", "b", "2")
    pair.cli("xadd", "s", "1-1", "k", "v")
    pair.cli("xgroup", "create", "s", "g", "0")
    pair.stack.compose("exec", "-T", pair.redis, "sh", "-c", "rm -rf /data/.stack-backup-*")


@pytest.mark.parametrize("pair", PAIRS, indirect=True)
def test_a_whole_cycle(stack, pair, tmp_path):
    saved = pair.all()
    point = stack.take(tmp_path, pair.stores)["id"]
    told = catalog.read(tmp_path, "test").points[point]["postgres"].manifest
    assert told["artifact"]["compression"] == pair.compression
    options = {name: option.get("default") for name, option in arguments.BACKUP_DRILL.items()}
    queries = [{"store": "postgres", "sql": "SELECT count(*) FROM events", "expect": "401"}]
    drilled = drill.drill({**options, "backup_dir": str(tmp_path), "stack": "test", "smoke_queries": queries})
    assert [store["ok"] for store in drilled["stores"]] == [True, True]
    pair.lose()
    lost = pair.all()
    assert lost != saved
    report = pair.restore(tmp_path)
    assert pair.all() == saved
    assert report["point"] == point and report["safety_point"] not in (None, point)
    # The safety backup holds the disaster, and reads to its end; the way back leads there.
    assert [store["ok"] for store in stack.verify(tmp_path, point=report["safety_point"])["stores"]] == [True, True]
    pair.restore(tmp_path, action="back")
    assert pair.all() == lost
    time.sleep(1)  # a restore is called by its second
    pair.restore(tmp_path, point=point, safety_backup=False)
    assert pair.all() == saved
    pair.restore(tmp_path, action="drop")
    assert pair.databases() == [DATABASE] and pair.all() == saved


@pytest.fixture(scope="module")
def points(stack, tmp_path_factory):
    """A recovery point of each pair, and what was in it."""
    points = {}

    def point(name):
        if name not in points:
            pair, folder = Pair(stack, name), tmp_path_factory.mktemp(name)
            pair.make()
            stack.take(folder, pair.stores)
            points[name] = folder, pair.rows(), pair.keys()
            pair.drop()
            clean(pair)
        return points[name]

    return point


@pytest.mark.parametrize(
    ("source", "pair", "stores"),
    [
        ("15-7.0", "17-8.0", ["postgres", "redis"]),
        ("15-7.0", "18-valkey", ["redis"]),
        ("17-8.0", "18-valkey", ["postgres"]),
        ("18-valkey", "17-8.0", ["redis"]),
    ],
    indirect=["pair"],
)
def test_an_older_backup_restores_into_a_newer_server(points, source, pair, stores):
    folder, rows, keys = points(source)
    pair.lose()
    pair.restore(folder, only=stores, safety_backup=False)
    if "postgres" in stores:
        assert pair.rows() == rows
    if "redis" in stores:
        # The groups and the counts: how a value is packed is the version's own.
        assert [names(pair.keys()[0]), *pair.keys()[1:]] == [names(keys[0]), *keys[1:]]
    pair.restore(folder, action="drop")


def names(told):
    return [(key.split()[0], key.split()[2]) for key in told.split("|")]


NOT_HERE = {"image": "postgres:not-here", "image_id": "sha256:" + "0" * 64}


@pytest.mark.parametrize("elsewhere", [False, True], ids=["its-image-is-here", "its-image-is-not-here"])
@pytest.mark.parametrize(
    ("source", "pair", "store", "message"),
    [
        (
            "18-valkey",
            "17-8.0",
            "postgres",
            "the backup is of Postgres 18, this server is 17: restore it into Postgres 18 or",
        ),
        (
            "17-8.0",
            "15-7.0",
            "postgres",
            "the backup is of Postgres 17, this server is 15: restore it into Postgres 17 or",
        ),
        (
            "17-8.0",
            "15-7.0",
            "redis",
            r"Redis 7\.0\S* can't load this backup: it is of RDB version 12, saved by Redis 8\.0",
        ),
        (
            "17-8.0",
            "18-valkey",
            "redis",
            r"Valkey 8\.\S* can't load this backup: it is of RDB version 12, saved by Redis 8\.0",
        ),
    ],
    indirect=["pair"],
)
def test_a_newer_backup_is_refused_before_anything_is_touched(
    points, tmp_path, source, pair, store, message, elsewhere
):
    folder, _, _ = points(source)
    sh("cp", "-a", f"{folder}/.", str(tmp_path))
    if elsewhere:
        # Nothing here reads it but the older server's own program.
        for path in tmp_path.glob("[!.]*/*[0-9].json"):
            manifest = json.loads(path.read_text())
            path.write_text(json.dumps({**manifest, "source": {**manifest["source"], **NOT_HERE}}))
    before, files = pair.untouched(), sorted(tmp_path.rglob("*"))
    with pytest.raises(BackupError, match=message):
        pair.restore(tmp_path, only=[store])
    assert pair.untouched() == before
    assert sorted(tmp_path.rglob("*")) == files


@pytest.mark.parametrize("pair", ["17-8.0", "18-valkey"], indirect=True)
def test_a_valkey_9_backup_is_refused_by_its_own_name(points, tmp_path, pair):
    """No such server is here: this is the head of its files, before what an older one wrote."""
    sh("cp", "-a", f"{points('18-valkey')[0]}/.", str(tmp_path))
    path, rdb = (next(tmp_path.glob(f"redis/redis-*.{suffix}")) for suffix in ("json", "rdb"))
    data = rdb.read_bytes().replace(b"REDIS0011", b"VALKEY080")
    rdb.write_bytes(data)
    manifest = json.loads(path.read_text())
    manifest["artifact"]["sha256"] = hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(manifest))
    before = pair.untouched()
    with pytest.raises(
        BackupError, match=r"(Redis|Valkey) 8\.\S* can't load this backup: it is of RDB version 80, saved by Valkey"
    ):
        pair.restore(tmp_path, only=["redis"])
    assert pair.untouched() == before


@pytest.mark.parametrize(
    ("store", "message"), [("postgres", "of Postgres 17, this server is 15"), ("redis", r"Redis 7\.0\S* can't load")]
)
def test_an_empty_host_refuses_it_before_anything_is_brought_up(stack, points, tmp_path, store, message):
    folder, _, _ = points("17-8.0")
    compose = 'services: {pg15: {image: "postgres:15"}, redis7: {image: "redis:7.0", volumes: ["/data"]}}'
    (tmp_path / "compose.yml").write_text(compose)
    empty = Pair(stack, "15-7.0")
    place = {"project_dir": str(tmp_path), "project_name": f"{PROJECT}-empty"}
    with pytest.raises(BackupError, match=message):
        empty.restore(folder, only=[store], **place)
    assert sh("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={PROJECT}-empty") == ""
