"""A restore of the whole stack: all new and healthy, or all old and healthy, whatever happens in between."""

import json
import shutil
import signal
import subprocess
import sys

import pytest
import trading as example
from conftest import ROOT
from stack_backup import catalog
from stack_backup.errors import BackupError
from stack_backup.journal import PHASES, journals, unfinished

HEALTHY = {"db": "ok", "redis": "ok"}
RUNNING = dict.fromkeys(("agents-1", "agents-2", "orchestrator-1", "postgres-1", "redis-1"), "running")
ORDERS = "select count(*), md5(string_agg(o::text, ',' order by id)) from orders o where id <= {}"


def stream(trading, newest):
    """The stream's end up to an entry: its begin is trimmed away as traffic goes on."""
    return trading.redis("XREVRANGE", "orders", newest, "-", "COUNT", "200").splitlines()


@pytest.fixture(scope="module")
def before(trading, tmp_path_factory):
    """A recovery point, and what the databases said when it was taken: the traffic stood still."""
    folder = tmp_path_factory.mktemp("point")
    trading.compose("stop", "orchestrator", "agents")
    taken = trading.take(folder)
    last = trading.sql("select max(id) from orders")
    newest = trading.redis("XREVRANGE", "orders", "+", "-", "COUNT", "1").split()[0]
    told = {
        "folder": folder,
        "id": taken["id"],
        "question": ORDERS.format(last),
        "orders": trading.sql(ORDERS.format(last)),
        "newest": newest,
        "stream": stream(trading, newest),
    }
    trading.compose("up", "--detach", "--wait")
    return told


@pytest.fixture
def backups(before, tmp_path):
    """The recovery point in a folder of the test's own."""
    folder = tmp_path / "backups"
    shutil.copytree(before["folder"], folder)
    return folder


@pytest.fixture(autouse=True)
def whole(trading):
    """Every test begins with all services up, and a mark that the recovery point does not have."""
    trading.compose("up", "--detach", "--wait")
    trading.sql("create table if not exists mark (x int)")
    trading.redis("SET", "mark", "1")
    yield
    leftovers = [name for name in trading.databases() if name not in ("postgres", "trading")]
    assert not [name for name in leftovers if "_restore_" in name], leftovers
    for name in leftovers:
        trading.sql(f'drop database "{name}"', "postgres")
    trading.compose("exec", "-T", "redis", "sh", "-c", "rm -rf /data/.stack-backup-*")


def is_old(trading):
    return trading.sql("select to_regclass('mark')") == "mark" and trading.redis("GET", "mark") == "1"


def is_new(trading, before):
    assert trading.sql(before["question"]) == before["orders"]
    assert stream(trading, before["newest"]) == before["stream"]
    return trading.sql("select to_regclass('mark')") == "" and trading.redis("EXISTS", "mark") == "0"


def nothing_kept(trading):
    aside = trading.compose("exec", "-T", "redis", "sh", "-c", "ls -A /data").split()
    return trading.databases() == ["postgres", "trading"] and not [name for name in aside if "stack-backup" in name]


def test_a_disaster_and_its_restore(trading, before, backups):
    trading.sql("drop table orders, fills cascade")
    trading.redis("FLUSHALL")
    started = trading.containers()
    report = trading.restore(backups)
    assert is_new(trading, before)
    assert trading.health() == HEALTHY and trading.states() == RUNNING
    assert report["outcome"] == "restored" and report["point"] == before["id"]
    assert 0 < report["downtime_seconds"] < report["seconds"]["total"]
    again = trading.containers()
    assert again[f"{example.NAME}-postgres-1"] == started[f"{example.NAME}-postgres-1"]  # never stopped
    assert sorted(report["services"]) == [
        f"{example.NAME}-{name}" for name in ("agents-1", "agents-2", "orchestrator-1")
    ]
    # Traffic goes on, on the restored data.
    count = trading.sql("select count(*) from orders")
    assert trading.sql(f"select pg_sleep(0.5); select count(*) > {count} from orders").split()[-1] == "t"
    # The safety backup has the disaster, and latest does not mean it.
    assert catalog.read(backups).choose("latest") == before["id"]
    assert report["safety_point"] != before["id"]
    assert [store["store"] for store in trading.restore(backups, True, point=report["safety_point"])["stores"]] == [
        "redis",
        "postgres",
    ]
    # Back to the disaster, for whoever wants it; then there is nothing more to go back to.
    trading.restore(backups, action="back", health_timeout=1)
    assert trading.sql("select to_regclass('orders')") == ""
    with pytest.raises(BackupError, match="nothing to go back to"):
        trading.restore(backups, action="back")
    trading.restore(backups)
    assert is_new(trading, before)
    dropped = trading.restore(backups, action="drop")
    assert len(dropped["removed"]) == 2
    assert nothing_kept(trading)
    with pytest.raises(BackupError, match="nothing to drop"):
        trading.restore(backups, action="drop")


def test_a_health_check_that_stays_red_brings_the_old_data_back(trading, backups):
    red = [{**example.HEALTH[0], "json": {"db": "never"}}]
    with pytest.raises(BackupError, match="not healthy after 3 s.*never.*the old data is live") as caught:
        trading.restore(backups, health_checks=red, health_timeout=3)
    assert caught.value.details["outcome"] == "returned"
    assert is_old(trading) and trading.health() == HEALTHY and trading.states() == RUNNING
    assert nothing_kept(trading)
    assert unfinished(backups) is None


def test_a_smoke_query_that_fails_stops_nothing(trading, backups):
    started = trading.containers()
    query = {"store": "postgres", "sql": "select count(*) from symbols", "expect": "0"}
    with pytest.raises(BackupError, match="select count.*symbols"):
        trading.restore(backups, smoke_queries=[query])
    assert trading.containers() == started
    assert is_old(trading) and nothing_kept(trading)


def test_the_plan_changes_nothing(trading, before, backups):
    started = trading.containers()
    plan = trading.restore(backups, True)
    assert plan["outcome"] == "planned" and plan["point"] == before["id"]
    assert [store["replaces"] for store in plan["stores"]] == [True, True]
    assert any("orders" in text or "trading" in text for store in plan["stores"] for text in store["sessions"])
    assert trading.containers() == started and nothing_kept(trading)
    assert not (backups / ".restore").exists()


def test_what_did_not_run_stays_stopped(trading, before, backups):
    trading.compose("stop", "agents")
    trading.restore(backups, health_checks=example.HEALTH[:1])
    assert trading.states() == {**RUNNING, "agents-1": "exited", "agents-2": "exited"}
    assert is_new(trading, before)
    trading.restore(backups, action="drop")


def test_one_store_leaves_the_other_alone(trading, before, backups):
    trading.restore(backups, only=["postgres"])
    assert trading.sql(before["question"]) == before["orders"]
    assert trading.redis("GET", "mark") == "1"
    trading.restore(backups, action="back")
    assert is_old(trading)


def test_in_place_and_back_from_it(trading, before, backups):
    report = trading.restore(backups, restore_method="in_place")
    assert is_new(trading, before)
    assert trading.databases() == ["postgres", "trading"]
    assert report["safety_point"]
    trading.sql("create table mark (x int)")
    trading.redis("SET", "mark", "1")
    red = [{**example.HEALTH[0], "json": {"db": "never"}}]
    with pytest.raises(BackupError, match="the old data is live"):
        trading.restore(backups, restore_method="in_place", health_checks=red, health_timeout=3)
    assert is_old(trading) and trading.health() == HEALTHY


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"confirm": "production"}, "not confirmed"),
        ({"confirm": None}, "not confirmed"),
        ({"point": "20200101-000000"}, "there is no recovery point 20200101-000000"),
        ({"stack": "other", "confirm": "other"}, "no complete recovery point|is of stack"),
        ({"window": {"from": "00:00", "to": "00:00"}}, "outside the restore window"),
        ({"dependents": ["gone"]}, "stack_dependents names gone"),
        ({"dependents": ["redis"]}, "which is a store"),
        ({"only": ["gone"]}, "no store is named 'gone'"),
        ({"health_checks": [{"url": "file:///etc/passwd"}]}, "no http"),
    ],
)
def test_what_can_not_work_is_refused_before_anything_is_touched(trading, backups, given, message):
    started = trading.containers()
    with pytest.raises(BackupError, match=message):
        trading.restore(backups, **given)
    assert trading.containers() == started and is_old(trading) and nothing_kept(trading)


def damage_byte(folder):
    path = next((folder / "postgres").glob("*.dump"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(folder):
    path = next((folder / "redis").glob("*.rdb"))
    path.write_bytes(path.read_bytes()[:-10])


def lose_store(folder):
    shutil.rmtree(folder / "redis")


def edit(**changes):
    def change(folder):
        path = next((folder / "postgres").glob("*.json"))
        data = json.loads(path.read_text())
        for place, value in changes.items():
            item = data
            *parents, last = place.split("__")
            for name in parents:
                item = item[name]
            item[last] = value
        path.write_text(json.dumps(data))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_byte, "is not what was written"),
        (cut, "its manifest says"),
        (lose_store, "lacks the store redis"),
        (edit(stack="other"), "is of stack other"),
        (edit(server_version=990000), "is of Postgres 99, this server is 17"),
        (edit(counts__tables=0), "holds no data at all"),
        (edit(artifact__encryption={"program": "gpg"}), "is encrypted by gpg"),
    ],
    ids=["byte", "cut", "store", "stack", "version", "empty", "encrypted"],
)
def test_a_bad_backup_is_refused_before_anything_is_touched(trading, before, backups, damage, message):
    started = trading.containers()
    damage(backups)
    with pytest.raises(BackupError, match=message):
        trading.restore(backups, point=before["id"])
    assert trading.containers() == started and is_old(trading) and nothing_kept(trading)


KILL = """
import os, signal, sys, threading
sys.path.insert(0, {module_utils!r})
from stack_backup import absent, journal, postgres, redis, restore
def die(*_args, **_more):
    os.kill(os.getpid(), signal.SIGKILL)
where, when = {place!r}.split(":")
if where == "journal":
    mark = journal.Journal.mark
    def marked(self, phase, **changes):
        mark(self, phase, **changes)
        if phase == when:
            die()
    journal.Journal.mark = marked
else:
    kind = {{"postgres": postgres.Target, "redis": redis.Target, "absent": absent.Absent}}[where]
    name, moment = when.rstrip("+~"), when[-1]
    real = getattr(kind, name)
    def patched(self, *args, **more):
        if moment == "~":
            threading.Timer(6, die).start()
        if moment in "+~":
            real(self, *args, **more)
        die()
    setattr(kind, name, patched)
restore.restore({params!r})
"""
PLACES = [f"journal:{phase}" for phase in PHASES if phase not in ("up", "returned", "dropped")]
PLACES += ["postgres:prepare+", "redis:prepare+", "postgres:switch+", "redis:switch", "redis:switch+", "redis:check+"]


def killed(trading, backups, place):
    program = KILL.format(module_utils=str(ROOT / "module_utils"), place=place, params=trading.restore_params(backups))
    job = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert job.returncode == -signal.SIGKILL, job.stderr


@pytest.mark.parametrize("place", PLACES)
def test_killed_anywhere_the_way_back_is_whole(trading, before, backups, place):
    killed(trading, backups, place)
    trading.restore(backups, action="back")
    assert is_old(trading) and trading.health() == HEALTHY and trading.states() == RUNNING
    assert nothing_kept(trading)
    assert unfinished(backups) is None


@pytest.mark.parametrize(
    "place", ["journal:preparing", "journal:stopping", "redis:switch", "journal:starting", "journal:done"]
)
def test_killed_and_run_again_it_is_restored(trading, before, backups, place):
    killed(trading, backups, place)
    report = trading.restore(backups)
    assert is_new(trading, before) and trading.health() == HEALTHY and trading.states() == RUNNING
    assert bool(report["resumed"]) == (place != "journal:done")
    assert {item.phase for item in journals(backups)} <= {"done", "returned"}
    trading.restore(backups, action="drop")


def test_what_is_kept_goes_when_its_time_is_over(trading, backups):
    trading.restore(backups, keep_previous=0)
    assert not nothing_kept(trading)
    assert trading.restore(backups, True, action="expire")["changed"]
    assert len(trading.restore(backups, action="expire")["removed"]) == 2
    assert nothing_kept(trading)
    assert not trading.restore(backups, action="expire")["changed"]


def test_the_playbook_plans_asks_restores_and_undoes(trading, before, backups):
    code, said = trading.play(backups, "--check")
    assert code == 0, said
    assert f"restore recovery point {before['id']}" in said and "stops, in this order: " in said
    assert is_old(trading)
    code, said = trading.play(backups)  # nobody answers the prompt
    assert code == 2 and "not confirmed" in said
    assert is_old(trading)
    code, said = trading.play(backups, "-e", "restore_confirm=trading")
    assert code == 0, said
    assert "is live and healthy. Downtime" in said
    assert is_new(trading, before)
    code, said = trading.play(backups, "-e", "restore_confirm=trading", "-e", "restore_resume=back")
    assert code == 0, said
    assert is_old(trading)


def test_who_is_asked_sees_what_will_be_replaced(trading, before, backups):
    code, said = trading.answer(backups, "production")
    assert code == 2 and "not confirmed" in said, said
    prompt = said[said.index("restore recovery point") : said.index("Type the name of the stack")]
    for words in (
        "postgres (postgres): ",
        "redis (redis): ",
        "its tables were last written to disk ",
        "changes since its last save or start, ",
        f"stops, in this order: {example.NAME}-",
        "for how long: unknown, no restore of this stack was measured yet",
        "is kept for 72 hours",
    ):
        assert words in prompt, prompt
    assert prompt.count(" ago, at 20") == 2 and prompt.count("replaces the live ") == 2, prompt
    assert is_old(trading)
    code, said = trading.answer(backups, "trading")
    assert code == 0 and "is live and healthy. Downtime" in said, said
    assert is_new(trading, before)
    downtime = journals(backups)[-1].data["downtime_seconds"]
    code, said = trading.play(backups, "--check")
    assert code == 0 and f"for how long: {downtime} s in the last restore, " in said, said
    trading.restore(backups, action="drop")


def test_the_plan_shows_what_a_person_should_know(trading, backups):
    """Ansible takes a result's key "warnings" for its own, and away."""
    trading.take(backups)
    newest = max(backups.glob("redis/*.rdb"))
    newest.write_bytes(b"cut")
    code, said = trading.play(backups, "--check")
    assert code == 0, said
    assert "NOTE: newer, and not usable" in said and newest.name in said.replace("\n", "").replace(" ", "")
