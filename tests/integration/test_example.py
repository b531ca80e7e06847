"""The example stack under traffic: what a recovery point holds, restored by hand into throw-away servers."""

import json
import subprocess
import threading
import time

import pytest
from conftest import sh, until
from stack_backup import postgres
from trading import NAME, RATE

WORKERS = 4  # as in compose.yml
HEALTHY = {"db": "ok", "redis": "ok"}


def ask(container, sql):
    psql = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "trading", "-d", "trading", "-c", sql]
    return sh("docker", "exec", container, *psql).strip()


def seqs(container):
    """Each worker's newest order, after a look that none before it is missing and that the books are right."""
    rows = [
        line.split("|")
        for line in ask(container, "SELECT worker, min(seq), max(seq), count(*) FROM orders GROUP BY 1").splitlines()
    ]
    assert sorted(row[0] for row in rows) == [str(number) for number in range(1, WORKERS + 1)]
    assert [(first, last) for _worker, first, last, _count in rows] == [("1", count) for *_row, count in rows]
    assert ask(container, "SELECT * FROM position_differences") == ""
    return {int(worker): int(last) for worker, _first, last, _count in rows}


@pytest.fixture(scope="module")
def scratch_postgres():
    """An empty server of the same version; the superuser is called as in the stack."""
    name = f"{NAME}-scratch-postgres"
    argv = ["--env", "POSTGRES_PASSWORD=x", "--env", "POSTGRES_USER=trading", "--env", "POSTGRES_DB=postgres"]
    sh("docker", "run", "--detach", "--name", name, "--tmpfs", "/var/lib/postgresql/data", *argv, "postgres:17")
    try:
        ready = ["docker", "exec", name, "pg_isready", "-q", "-h", "127.0.0.1"]
        assert until(lambda: subprocess.run(ready, check=False).returncode == 0)
        yield name
    finally:
        sh("docker", "rm", "-fv", name)


def restored_postgres(name, folder):
    """The newest order of each worker after psql of the globals and pg_restore."""
    (dump,) = folder.glob("*.dump")
    (roles,) = folder.glob("*.globals.sql")
    sh("docker", "cp", str(dump), f"{name}:/tmp/dump")
    # The role that the server was made with is there already: the others come.
    sh("docker", "exec", "-i", name, "psql", "-q", "-U", "trading", "-d", "postgres", stdin=roles.read_text())
    drop = "DROP DATABASE IF EXISTS trading"
    sh("docker", "exec", name, "psql", "-q", "-U", "trading", "-d", "postgres", "-c", drop)
    sh(
        "docker",
        "exec",
        name,
        "pg_restore",
        "--exit-on-error",
        "--create",
        "-U",
        "trading",
        "-d",
        "postgres",
        "/tmp/dump",
    )
    return seqs(name)


def restored_redis(folder):
    """The newest order of each worker in the stream of a server that was started on the file."""
    name = f"{NAME}-scratch-redis"
    (rdb,) = folder.glob("*.rdb")
    sh("docker", "create", "--name", name, "redis:8.0", "redis-server", "--dir", "/data", "--appendonly", "no")
    try:
        sh("docker", "cp", str(rdb), f"{name}:/data/dump.rdb")
        sh("docker", "start", name)
        cli = ["docker", "exec", name, "redis-cli", "--json"]
        assert until(lambda: sh(*cli, "ping", check=False).strip() == '"PONG"')
        found = {number: set() for number in range(1, WORKERS + 1)}
        for _entry, fields in json.loads(sh(*cli, "xrange", "orders", "-", "+")):
            order = dict(zip(fields[::2], fields[1::2]))
            found[int(order["worker"])].add(int(order["seq"]))
        for worker, numbers in found.items():
            assert numbers == set(range(1, max(numbers) + 1)), f"worker {worker}: an order is missing"
        assert json.loads(sh(*cli, "xinfo", "groups", "orders"))
        return {worker: max(numbers) for worker, numbers in found.items()}
    finally:
        sh("docker", "rm", "-fv", name)


class Watch:
    """Asks for the orchestrator's health without a pause, while a backup runs."""

    def __init__(self, trading):
        self._trading = trading

    def __enter__(self):
        self.answers, self._end = [], threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self):
        while not self._end.wait(0.02):
            self.answers.append(self._trading.health())

    def __exit__(self, *_exc):
        self._end.set()
        self._thread.join()


@pytest.mark.parametrize("quiesce", [["orchestrator"], []], ids=["quiesced", "running"])
def test_what_a_recovery_point_under_traffic_holds(trading, scratch_postgres, tmp_path, monkeypatch, quiesce):
    real, example = postgres.Source.pin, f"{NAME}-postgres-1"

    def late(self):
        """Half a second after Redis, and, where orders still come, after ten more of every worker."""
        before = seqs(example)
        time.sleep(0.5)
        if not quiesce:
            assert until(lambda: all(last >= before[worker] + 10 for worker, last in seqs(example).items()))
        real(self)

    monkeypatch.setattr(postgres.Source, "pin", late)
    began = seqs(example)
    with Watch(trading) as watch:
        result = trading.take(tmp_path, quiesce=quiesce)
    assert result["complete"] and result["pin_distance_ms"] >= 500
    assert result["quiesced"] == ([f"{NAME}-orchestrator-1"] if quiesce else [])
    assert len(watch.answers) > 5
    assert [answer for answer in watch.answers if answer != HEALTHY] == []
    assert all(trading.health(number) == {"redis": "ok"} for number in (1, 2))

    database, stream = restored_postgres(scratch_postgres, tmp_path / "postgres"), restored_redis(tmp_path / "redis")
    assert all(database[worker] >= began[worker] for worker in began)
    ahead = [database[worker] - stream[worker] for worker in sorted(database)]
    print(
        f"\n{'quiesced' if quiesce else 'running'}: pins {result['pin_distance_ms']} ms apart, Postgres ahead by {ahead}"
    )
    if quiesce:
        assert set(ahead) <= {0, 1}, ahead  # the one order that each worker had in flight
    else:
        # Each worker's orders of the time between the pins, at its rate at most.
        most = RATE / WORKERS * result["pin_distance_ms"] / 1000 + 5
        assert all(10 <= number <= most for number in ahead), (ahead, most)
    # The stack goes on, and nothing was lost in it.
    now = seqs(example)
    assert until(lambda: all(last > now[worker] for worker, last in seqs(example).items()))
