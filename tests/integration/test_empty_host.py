"""A stack that is gone: only its Compose project and a recovery point are left. These tests run in their order."""

import json
import shutil

import pytest
import trading as example
from conftest import sh, until
from stack_backup import catalog
from stack_backup.errors import BackupError
from stack_backup.journal import unfinished
from test_restore import HEALTHY, RUNNING, killed

NAME, PORT = f"{example.NAME}-lost", example.PORT + 3
ROWS = "select id || ':' || o::text from orders o order by id"
# Asked of the restored data before any service writes to it.
QUERIES = [
    *example.SMOKE,
    {"store": "postgres", "sql": "select coalesce(string_agg(id::text, ',' order by id), '') from orders"},
    {"store": "redis", "command": "XLEN orders"},
]


class Lost:
    """The stack, the folder of its recovery point, and what was in its stores when it went down."""

    def __init__(self, stack, backups):
        self.stack, self.backups = stack, backups
        stack.sql("create role auditor login password 'x'")
        self.point = stack.take(backups, quiesce=["orchestrator"])
        stack.compose("stop", "orchestrator", "agents")
        self.orders = dict(line.split(":", 1) for line in stack.sql(ROWS).splitlines())
        self.stream = self.entries("+")
        stack.compose("down", "--volumes", "--timeout", "1")
        for manifest in backups.glob("*/*.json"):  # a new machine has none of the images that it was taken with
            text = manifest.read_text().replace('"sha256:', '"sha256:0')
            manifest.write_text(text.replace('"postgres:17"', '"postgres:none"').replace('"redis:8.0"', '"redis:none"'))

    def entries(self, count):
        return self.stack.redis("XRANGE", "orders", "-", *(["+"] if count == "+" else ["+", "COUNT", str(count)]))

    def left(self):
        """Containers, volumes and networks of the project."""
        label = ("--filter", f"label=com.docker.compose.project={NAME}")
        return {
            kind: sh("docker", kind, "ls", *more, "--format", f"{{{{.{name}}}}}", *label).split()
            for kind, name, more in (("container", "Names", ["--all"]), ("volume", "Name", []), ("network", "Name", []))
        }

    def is_back(self, report):
        """The restored data is what the recovery point holds, row by row and entry by entry; traffic goes on."""
        answers = {
            item["query"]: item["answer"]
            for store in report["stores"]
            for item in store["smoke"]
            if "orders" in item["query"]
        }
        ids = answers[QUERIES[-2]["sql"]].split(",")
        restored = dict(line.split(":", 1) for line in self.stack.sql(ROWS).splitlines())
        assert len(ids) > 50 and ids[-1] != max(self.orders, key=int)  # taken under traffic
        assert [restored[number] for number in ids] == [self.orders[number] for number in ids]
        length = int(answers["XLEN orders"])
        assert length > 50
        assert self.stream.startswith(self.entries(length))
        count = self.stack.sql("select count(*) from orders")
        assert self.stack.sql(f"select pg_sleep(0.5); select count(*) > {count} from orders").split()[-1] == "t"
        return self.stack.health() == HEALTHY and self.stack.states() == RUNNING

    def saved(self, point):
        """How many orders a safety backup holds, by its manifest."""
        manifest = json.loads((self.backups / "postgres" / f"postgres-{point}.json").read_text())
        return manifest["counts"]["rows"]["public.orders"]


NOTHING = {"container": [], "volume": [], "network": []}


@pytest.fixture(scope="module")
def lost(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lost")
    (folder / "backups").mkdir()
    stack = example.start(folder / "stack", NAME, PORT)
    try:
        yield Lost(stack, folder / "backups")
    finally:
        stack.down()


def test_the_plan_proves_the_backups_and_starts_nothing(lost):
    plan = lost.stack.restore(lost.backups, True)
    assert plan["outcome"] == "planned" and plan["point"] == lost.point["id"] and plan["services"] == []
    assert plan["up"] == ["agents", "orchestrator", "postgres", "redis"]
    assert not plan["notes"]
    code, said = lost.stack.play(lost.backups, "--check")
    assert code == 0 and "has no container: brings up agents, orchestrator, postgres, redis" in said, said
    assert lost.left() == NOTHING and not (lost.backups / ".restore").exists()


def test_what_a_plan_can_not_read_it_says(lost):
    compose = lost.stack.folder / "compose.yml"
    mine, broken = compose.read_text(), lost.backups.parent / "broken"
    shutil.copytree(lost.backups, broken)
    try:
        compose.write_text(mine.replace("postgres:${POSTGRES_VERSION:-17}", "postgres:none"))
        assert "of postgres only the digests are proven" in lost.stack.restore(broken, True)["notes"][0]
        dump = next((broken / "postgres").glob("*.dump"))
        dump.write_bytes(dump.read_bytes()[:-1] + b"?")
        with pytest.raises(BackupError, match="is not what was written"):
            lost.stack.restore(broken)
        compose.write_text(mine.replace("postgres:${POSTGRES_VERSION:-17}", "redis:8.0"))
        with pytest.raises(BackupError, match="redis|pg_restore"):
            lost.stack.restore(lost.backups)
    finally:
        compose.write_text(mine)
    assert lost.left() == NOTHING


def test_a_container_that_does_not_run_is_not_taken_for_none(lost):
    lost.stack.compose("create", "redis")
    with pytest.raises(BackupError, match="service redis is created, not running: docker compose up -d redis"):
        lost.stack.restore(lost.backups)
    assert lost.stack.states() == {"redis-1": "created"}
    lost.stack.compose("down", "--volumes")
    assert unfinished(lost.backups) is None


def test_killed_while_compose_works_nothing_stays(lost):
    # Compose is killed where it waits, and says nothing that would tell it that nobody listens any more.
    compose, environment = lost.stack.folder / "compose.yml", lost.stack.folder / ".env"
    mine, quick = compose.read_text(), environment.read_text()
    environment.write_text(quick.replace("HEALTH_INTERVAL=1s", "HEALTH_INTERVAL=30s"))
    waits = "  redis:\n    depends_on: {postgres: {condition: service_healthy}}\n"
    compose.write_text(mine.replace("  redis:\n", waits, 1))
    killed(lost.stack, lost.backups, "absent:up_stores~")
    assert unfinished(lost.backups).phase == "up"
    assert until(lambda: not sh("pgrep", "-f", f"{NAME} up", check=False), 2)
    assert lost.stack.states()["redis-1"] == "created"
    compose.write_text(mine)
    environment.write_text(quick)
    lost.stack.restore(lost.backups, action="back")
    assert lost.left() == NOTHING and unfinished(lost.backups) is None


def test_what_does_not_come_up_is_told_with_its_log(lost):
    script = lost.stack.folder / "redis" / "start.sh"
    mine = script.read_text()
    script.write_text("echo no memory of this >&2; exit 3\n")
    try:
        with pytest.raises(BackupError, match="while up.*redis-1.*no memory of this.*the project is as it was found"):
            lost.stack.restore(lost.backups, health_timeout=15)
    finally:
        script.write_text(mine)
    assert lost.left() == NOTHING


def test_health_that_stays_red_takes_away_what_came_and_no_more(lost):
    """The volume of Redis is there already: its data comes back, and it stays."""
    volume, labels = f"{NAME}_redis", {"project": NAME, "volume": "redis"}
    options = [f"--label=com.docker.compose.{name}={value}" for name, value in labels.items()]
    sh("docker", "volume", "create", *options, volume)
    inside = ["docker", "run", "--rm", "-v", f"{volume}:/data", "--entrypoint", "sh", "redis:8.0", "-c"]
    sh(*inside, "echo mine >/data/mine")
    red = [{**example.health_checks(PORT)[0], "json": {"db": "never"}}]
    # Redis's image is made when it is brought up: until then nothing here reads its backup.
    compose = lost.stack.folder / "compose.yml"
    mine = compose.read_text()
    compose.write_text(mine.replace('image: "redis:${REDIS_VERSION:-8.0}"', "build: ./redis"))
    (lost.stack.folder / "redis" / "Dockerfile").write_text("FROM redis:8.0\n")
    try:
        with pytest.raises(BackupError, match="while starting: not healthy.*is as it was found") as caught:
            lost.stack.restore(lost.backups, health_checks=red, health_timeout=40)
        assert caught.value.details["outcome"] == "returned"
        assert lost.left() == {**NOTHING, "volume": [volume]}
        assert set(sh(*inside, "ls -A /data").split()) <= {"appendonlydir", "dump.rdb", "mine"}
        assert sh(*inside, "cat /data/mine; grep -rl orders /data || :") == "mine\n"
    finally:
        compose.write_text(mine)
        sh("docker", "volume", "rm", volume)
        sh("docker", "image", "rm", f"{NAME}-redis")


def test_killed_when_all_is_up_and_run_again_it_is_restored(lost):
    killed(lost.stack, lost.backups, "absent:up_rest+")
    assert unfinished(lost.backups).phase == "starting"
    # The services run by now, and nobody knows that the restore did not end: what they write is not to be lost.
    newest = f"select count(*) > {len(lost.orders)} from orders"
    assert until(lambda: lost.stack.sql(newest) == "t")
    report = lost.stack.restore(lost.backups, smoke_queries=QUERIES)
    assert lost.is_back(report)
    saved = lost.saved(report["resumed"]["safety_point"])
    assert saved > len(lost.orders)
    assert report["resumed"]["removed"] and report["up"] == ["agents", "orchestrator", "postgres", "redis"]
    assert report["safety_point"] is None and report["kept"] == []
    assert [note for note in report["notes"] if "the roles auditor were missing" in note]
    assert lost.stack.sql("select rolpassword is not null from pg_authid where rolname = 'auditor'") == "t"
    assert {"prove", "up", "prepare", "switch", "start", "total"} <= set(report["seconds"])
    assert report["seconds"]["total"] >= report["downtime_seconds"] > report["seconds"]["up"] > 0
    assert lost.stack.databases() == ["postgres", "trading"]
    assert "stack-backup" not in lost.stack.compose("exec", "-T", "redis", "ls", "-A", "/data")
    with pytest.raises(BackupError, match="which had no data before: there is nothing to go back to"):
        lost.stack.restore(lost.backups, action="back")
    assert lost.stack.states() == RUNNING


def test_only_what_is_missing_is_brought_up(lost):
    started = lost.stack.containers()
    lost.stack.redis("SET", "mark", "1")
    lost.stack.compose("stop", "agents")
    lost.stack.compose("rm", "--stop", "--force", "postgres")
    sh("docker", "volume", "rm", f"{NAME}_postgres")
    # The orchestrator runs on, so what it may write to the new database is saved before it goes.
    report = lost.stack.restore(lost.backups, health_checks=example.health_checks(PORT)[:1], smoke_queries=QUERIES)
    assert report["up"] == ["postgres"] and report["services"] == [f"{NAME}-orchestrator-1"]
    assert lost.stack.states() == {**RUNNING, "agents-1": "exited", "agents-2": "exited"}
    assert {name for name, state in lost.stack.containers().items() if state != started.get(name)} >= {
        f"{NAME}-postgres-1"
    }
    assert report["safety_point"] and [text for text in report["kept"] if "redis" in text] == report["kept"] != []
    assert lost.stack.redis("EXISTS", "mark") == "0" and lost.stack.health()["db"] == "ok"
    lost.stack.compose("start", "agents")


def test_points_of_another_stack_need_its_name_said(lost, tmp_path):
    """And the way back needs nothing of theirs."""
    source, mine = tmp_path / "source", tmp_path / "backups"
    shutil.copytree(lost.backups, source, ignore=shutil.ignore_patterns(".*"))
    mine.mkdir()
    lost.stack.sql("create table mark (x int)")
    given = {"source_dir": str(source), "source_stack": "trading", "stack": "staging", "confirm": "staging"}
    given.update(only=["postgres"], point=lost.point["id"])
    for wrong in (None, "trading"):
        with pytest.raises(BackupError, match="points are of stack trading, this is stack staging.*as_stack=staging"):
            lost.stack.restore(mine, as_stack=wrong, **given)
    with pytest.raises(BackupError, match="is of stack trading, not staging"):
        lost.stack.restore(mine, as_stack="staging", **{**given, "source_stack": None})
    assert lost.stack.sql("select to_regclass('mark')") == "mark" and not (mine / ".restore").exists()
    report = lost.stack.restore(mine, as_stack="staging", **given)
    assert lost.stack.sql("select to_regclass('mark')") == ""
    assert list(catalog.read(mine, "staging").points) == [report["safety_point"]]
    assert sorted(item.name for item in source.iterdir()) == ["postgres", "redis"]
    theirs = source.rename(tmp_path / "theirs")
    lost.stack.restore(mine, action="back", **given)
    assert lost.stack.sql("select to_regclass('mark')") == "mark" and lost.stack.health() == HEALTHY
    # The database is the one that the inventory names.
    stores = [{**example.STORES[1], "database": "rehearsal"}]
    told = {"restore_source_dir": str(theirs), "restore_source_stack": "trading", "restore_as_stack": "staging"}
    told.update(stack_name="staging", stack_stores=stores, stack_dependents=[], restore_confirm="staging")
    code, said = lost.stack.play(mine, **told)
    assert code == 0 and f"recovery point {lost.point['id']} is live" in said, said
    assert int(lost.stack.sql("select count(*) from orders", "rehearsal")) > 50
