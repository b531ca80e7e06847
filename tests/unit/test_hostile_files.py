"""Pipes, devices, links and floods of bytes where a file of ours belongs: nobody waits, nothing elsewhere is touched."""

import json
import os
import resource
import shutil
import time
from pathlib import Path

import hostile
import pytest
from hostile import POINT, SOME, told
from hypothesis import given
from hypothesis import strategies as st
from stack_backup import artifact, catalog, cli, config, content, prune, record
from stack_backup.errors import BackupError, Locked
from stack_backup.journal import journals, needed, spent, unfinished
from stack_backup.monitor import metrics
from stack_backup.monitor import state as memory
from stack_backup.offsite import picture
from stack_backup.offsite import state as offsite

pytestmark = pytest.mark.timeout(60)  # who waits for a pipe waits for ever
DEEP = "[" * 200_000


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def flood(path):
    with path.open("wb") as file:
        file.truncate(300 * 1024 * 1024)


def deep(path):
    path.write_text(DEEP)


def loop(path):
    path.symlink_to(path.name)


def folder(path):
    path.mkdir()


ODD = pytest.mark.parametrize("odd", [pipe, device, flood, deep, loop, folder])


@pytest.fixture
def backups(tmp_path):
    folder = tmp_path / "backups"
    folder.mkdir()
    hostile.good(folder, tree=True)
    return folder


@pytest.fixture(autouse=True)
def little_memory():
    """A flood that is read whole would take what is left, and fail."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + 250 * 1024 * 1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@ODD
@pytest.mark.parametrize("name", [f"redis-{POINT}.json", f"redis-{POINT}.verified.json", f"redis-{POINT}.rdb"])
def test_in_place_of_a_file_of_a_backup(backups, odd, name):
    path = backups / "redis" / name
    path.unlink(missing_ok=True)
    odd(path)
    found = catalog.read(backups, "s")
    known = found.points.get(POINT, {}).get("redis")
    assert known is None if "verified" not in name else known.verified is None
    assert found.choose("latest") == (POINT if "verified" in name else "20261123-020000")
    told(prune.prune, {"backup_dir": str(backups), "stack": "s", "keep_last": 1, "max_age_hours": 0, "force": True})
    points = catalog.read(backups, "s").points
    assert "redis" in points[POINT if "verified" in name else "20261123-020000"]


@ODD
def test_inside_a_dump_in_directory_format(backups, odd):
    """Of a size of none it was no damage, and the digest waited for what comes out of the pipe."""
    dump = backups / "postgres" / f"postgres-{POINT}.dump"
    odd(dump / "4000.dat")
    found = catalog.read(backups, "s")
    assert "postgres" in found.broken[POINT] and "postgres" not in found.points[POINT]
    if odd not in (flood, deep):
        error = told(artifact.digest, dump)
        assert odd is folder or isinstance(error, BackupError)
    known = json.loads((backups / "postgres" / f"postgres-{POINT}.json").read_text())
    known["artifact"]["files"]["4000.dat"] = {"size": 0, "sha256": "a" * 64}
    (backups / "postgres" / f"postgres-{POINT}.json").write_text(json.dumps(known))
    assert "postgres" in catalog.read(backups, "s").broken[POINT]


@ODD
def test_in_place_of_what_jobs_remember(tmp_path, backups, odd, monkeypatch):
    state = tmp_path / "state"
    for path in (state / "last-backup.json", state / "monitor-alerts.json", backups / ".offsite" / "state.json"):
        path.parent.mkdir(exist_ok=True)
        odd(path)
    assert record.last(config.Config("s", backups, state, {}), "backup") is None
    assert memory.load_alerts(state) == {} and offsite.load(backups)["points"] == {}
    monkeypatch.setenv("STACK_BACKUP_ETC", str(tmp_path / "etc"))
    (tmp_path / "etc").mkdir()
    odd(tmp_path / "etc" / "s.json")
    with pytest.raises(BackupError, match="run playbooks/install.yml|run this as its owner"):
        config.find("s")
    assert cli.main(["list", "--stack", "s"]) == 2


@ODD
def test_in_place_of_a_journal(backups, odd):
    (backups / ".restore").mkdir()
    odd(backups / ".restore" / f"{POINT}.json")
    for read in (journals, unfinished, needed):
        with pytest.raises(BackupError, match="journal .* can't be read .*move the file away"):
            read(backups)
    with pytest.raises(BackupError, match="move the file away"):
        prune.prune({"backup_dir": str(backups), "stack": "s", "keep_last": 1, "max_age_hours": 0})


@pytest.mark.parametrize("odd", [pipe, device, loop, folder])
def test_in_place_of_the_lock(backups, odd):
    odd(backups / ".lock")
    wrong = pytest.raises(BackupError, match=r"the lock .* can't be opened: .*: mend its owner or mode")
    with wrong, artifact.Lock(backups):
        pass


def test_a_lock_that_is_another_name_of_a_file_is_not_given_away(tmp_path, backups):
    """root hands its files over to the owner of the folder."""
    precious = tmp_path / "precious"
    precious.write_text("x")
    os.link(precious, backups / ".lock")
    with pytest.raises(BackupError, match="it is no file of its own"), artifact.Lock(backups):
        pass
    assert precious.read_text() == "x" and precious.stat().st_uid == os.getuid()


def test_what_a_lock_says_is_quoted_and_no_more(backups):
    with artifact.Lock(backups):
        (backups / ".lock").write_bytes(b"\xff\x00\x1b[2J" * 100)
        with pytest.raises(Locked, match="another job of this stack is running"), artifact.Lock(backups):
            pass


@pytest.mark.parametrize("odd", [pipe, "link", "name"])
@pytest.mark.parametrize("write", ["json", "metrics"])
def test_a_draft_that_is_no_file_of_its_own_is_replaced(tmp_path, odd, write):
    """A pipe was waited for, and a file of another name was emptied, and handed over."""
    precious, target = tmp_path / "precious", tmp_path / "data.json"
    precious.write_text("x")
    draft = tmp_path / ".data.json.new"
    {pipe: pipe, "link": lambda path: path.symlink_to(precious), "name": lambda path: os.link(precious, path)}[odd](
        draft
    )
    if write == "json":
        artifact.write_json(target, {"a": 1})
        assert json.loads(target.read_text()) == {"a": 1}
    else:
        metrics.write(target, "x 1\n")
        assert target.read_text() == "x 1\n"
    assert precious.read_text() == "x" and not draft.exists() and not target.is_symlink()


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    flood(tmp_path / "f")
    began = time.monotonic()
    with pytest.raises(ValueError, match="more than 100 bytes"):
        content.read(tmp_path / "f", 100)
    (tmp_path / "f").write_bytes(b"x" * 100)
    assert content.read(tmp_path / "f", 100) == b"x" * 100 and time.monotonic() - began < 1


# --- JSON of any kind -------------------------------------------------------------------------------------------------

ENTRY = {"service": "app", "level": 0, "id": "abc", "name": "app-1", "policy": "no"}
LAYOUT = {"aof": True, "multipart": True, "dbfilename": "d", "appenddirname": "a", "appendfilename": "f"}
DATABASE = {
    "live": "shop",
    "side": f"shop_restore_{POINT}",
    "previous": f"shop_before_{POINT}",
    "method": "side_by_side",
}
DATABASE.update(replaces=True, subscriptions=[], oid=5)
JOURNAL = {
    **{"format": 1, "id": POINT, "phase": "done", "stack": "s", "point": POINT, "safety_point": None, "up": None},
    **{"began_at": 1.0, "ended_at": 2.0, "keep_until": 3.0, "downtime_seconds": 1.5, "kept": ["x"], "stopped": [ENTRY]},
    "stores": [
        {"name": "redis", "engine": "redis", "state": {"home": f"/data/.stack-backup-{POINT}", "layout": LAYOUT}},
        {"name": "postgres", "engine": "postgres", "state": DATABASE},
    ],
}
RECORD = {
    "job": "backup",
    "started_at": "2026-11-24T02:00:00+00:00",
    "ended_at": "2026-11-24T02:00:09+00:00",
    "ok": True,
}
RECORD.update(error="", seconds=9.0, log=["x"], pid=1)
RECORD["result"] = {"recovery_point": {"id": POINT, "stores": [{"store": "redis", "size": 5}]}}
ALERTS = {"at": 1.0, "success": {"backup": 1.0}, "failed": {"email": {"since": 1.0, "error": "x"}}}
ALERTS["channels"] = {"email": {"announced": {"disk": 1}, "last": {"disk": {"at": 1.0, "status": 1}}, "sent_at": 1.0}}
OFFSITE = {"remote": "s3:b", "at": 1.0, "points": {POINT: {"since": 1.0, "checked": 1.0}}, "pruned": []}


@SOME
@given(hostile.spoiled(JOURNAL))
def test_any_journal(tmp_path_factory, data):
    backups = tmp_path_factory.mktemp("j")
    path = backups / ".restore" / f"{POINT}.json"
    path.parent.mkdir()
    path.write_text(hostile.dumps(JOURNAL))
    assert [journal.data for journal in journals(backups)] == [JOURNAL]
    path.write_text(hostile.dumps(data))
    for read in (journals, unfinished, needed, lambda where: spent(where, 1e10)):
        told(read, backups)
    found = told(journals, backups)
    if isinstance(found, list):
        for item in found[0].data["stores"]:  # what a way back or a drop removes is the restore's own
            home = item["state"].get("home", f".stack-backup-{POINT}")
            assert home.endswith(f".stack-backup-{POINT}") and ".." not in home
            assert item["state"].get("previous", f"_before_{POINT}").endswith(f"_before_{POINT}")
    shutil.rmtree(backups)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("id"),
        lambda data: data.update(ended_at="yesterday"),
        lambda data: data["stores"][0]["state"].update(home="/data/appendonlydir"),
        lambda data: data["stores"][0]["state"].update(home=f"/data/../etc/.stack-backup-{POINT}"),
        lambda data: data["stores"][0]["state"]["layout"].update(dbfilename="../x"),
        lambda data: data["stores"][1]["state"].update(previous="shop"),
        lambda data: data["stores"][1]["state"].update(side="postgres"),
        lambda data: data["stopped"][0].update(id="--help"),
    ],
)
def test_a_journal_names_nothing_but_its_restores_own(backups, change):
    """`previous` is dropped when its time is over, and `home` removed: the live data is neither."""
    data = json.loads(json.dumps(JOURNAL))
    change(data)
    (backups / ".restore").mkdir()
    (backups / ".restore" / f"{POINT}.json").write_text(json.dumps(data))
    with pytest.raises(BackupError, match="not of this program"):
        needed(backups)


@SOME
@given(hostile.spoiled(RECORD), hostile.spoiled(ALERTS), hostile.spoiled(OFFSITE))
def test_any_record_and_any_state(tmp_path_factory, jobs, alerts, state):
    top = tmp_path_factory.mktemp("r")
    backups, folder, etc = top / "backups", top / "var" / "s", top / "etc"
    for made in (backups / ".offsite", folder, etc):
        made.mkdir(parents=True)
    invocation = ["backup_prune", {"stack": "s", "backup_dir": str(backups)}]
    (etc / "s.json").write_text(json.dumps({"format": 1, "stack": "s", "backup": [invocation]}))
    (folder / "last-backup.json").write_text(hostile.dumps(jobs))
    (folder / "monitor-alerts.json").write_text(hostile.dumps(alerts))
    (backups / ".offsite" / "state.json").write_text(hostile.dumps(state))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STACK_BACKUP_ETC", str(etc))
        patch.setenv("STACK_BACKUP_VAR", str(top / "var"))
        for command in (["list"], ["list", "--json"], ["status"], ["status", "--json"]):
            assert cli.main(command) in (0, 1)
    found = memory.load_alerts(folder)
    if found:
        assert found == alerts
    shutil.rmtree(top)


@SOME
@given(
    st.one_of(
        hostile.VALUES, hostile.spoiled({"format": 1, "stack": "s", "backup": [["backup_prune", {"stack": "s"}]]})
    )
)
def test_any_configuration(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("c") / "s.json"
    path.write_text(hostile.dumps(data))
    told(config.read, path)
    path.parent.joinpath("s.json").unlink()


@SOME
@given(st.one_of(st.binary(max_size=40), hostile.VALUES.map(lambda value: hostile.dumps(value).encode())))
def test_any_mark_of_a_remote(data):
    try:
        assert isinstance(picture.owner(data), str)
    except ValueError:
        pass
