"""A manifest with anything in any place: what reads it tells so, and touches nothing but what is its own."""

import json
import subprocess
from pathlib import Path

import hostile
import pytest
from hostile import FEW, POINT, SOME, told
from hypothesis import given
from hypothesis import strategies as st
from stack_backup import catalog, cli, monitor, prune, report, verify
from stack_backup.arguments import STACK_CHECK
from stack_backup.choice import backups_of, refuse_unusable
from stack_backup.errors import BackupError
from stack_backup.offsite import picture
from stack_backup.offsite.remote import files_of
from stack_backup.stores import parse_stores

STORES = [{"name": name, "engine": name, "service": name} for name in ("postgres", "redis")]


@pytest.fixture(scope="module", params=[False, True], ids=["custom", "directory"])
def place(request, tmp_path_factory):
    """A catalog, its manifests, and a file that nobody may touch; no docker."""
    folder = tmp_path_factory.mktemp("hostile")
    backups = folder / "backups"
    backups.mkdir()
    (folder / "precious").write_text("x")
    manifests = hostile.good(backups, tree=request.param)
    (folder / "empty").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder / "empty"))
        patch.setattr("stack_backup.monitor.facts._AGAIN", 0.0)  # nothing is at work here that could end meanwhile
        yield backups, manifests, {store: path.read_text() for store, path in manifests.items()}


def listing(root, sizes):
    """The backup folder as a remote would list it."""
    return picture.read(root, sizes, lambda name: (root / name).read_bytes(), "s")


def everything(backups):
    """All that reads a manifest, but what needs a container."""
    root = {"backup_dir": str(backups), "stack": "s"}
    found = catalog.read(backups, "s")
    info = catalog.info(root)
    json.dumps(info, allow_nan=False).encode()
    "\n".join(report.listing({**info, "offsite": {"points": {}}})).encode("utf-8")
    for asked in ("latest", POINT):
        point = told(found.choose, asked)
        told(verify.refuse_damaged, found, asked)
        if isinstance(point, str):
            chosen = told(backups_of, found, point, parse_stores(STORES))
            for backup in chosen.values() if isinstance(chosen, dict) else ():
                told(refuse_unusable, backup, False)
                told(backup.globals, None)
                files_of(backup)
            found.passed_over(point)
    for point in (POINT, "20261123-020000"):
        found.fault(point)
    assert isinstance(told(verify.verify, {**root, "timeout": 30}), BackupError)  # no docker
    told(prune.prune, {**root, "keep_daily": 7, "max_age_hours": 0}, check_mode=True)
    sizes = {str(path.relative_to(backups)): path.stat().st_size for path in backups.rglob("*") if path.is_file()}
    assert set(listing(backups, sizes).points) <= {POINT, "20261123-020000"}
    params = {name: option.get("default") for name, option in STACK_CHECK.items()}
    answer = monitor.check({**params, **root, "state_dir": str(backups.parent / "state")}, check_mode=True)
    assert not [item for item in answer["findings"] if item["status"] == 3], answer["findings"]
    return found


@pytest.mark.parametrize("store", ["postgres", "redis"])
def test_anything_in_any_place_is_told(place, store):
    backups, manifests, texts = place

    @SOME
    @given(hostile.spoiled(json.loads(texts[store])))
    def spoil(data):
        manifests[store].write_text(hostile.dumps(data))
        everything(backups)

    try:
        spoil()
    finally:
        manifests[store].write_text(texts[store])
    assert everything(backups).choose("latest") == POINT


def test_any_bytes_are_told(place):
    backups, manifests, texts = place

    @SOME
    @given(
        st.one_of(st.binary(max_size=60), st.integers(0, 3000).map(lambda at: texts["redis"].encode()[:at] + b"\xff"))
    )
    def spoil(data):
        manifests["redis"].write_bytes(data)
        found = everything(backups)
        assert "redis" not in found.points[POINT] and POINT in found.unreadable

    try:
        spoil()
    finally:
        manifests["redis"].write_text(texts["redis"])


@pytest.fixture
def host(place, monkeypatch, tmp_path):
    """The host's command, set up for the catalog."""
    backups, manifests, texts = place
    jobs = [["recovery_point", {"stack": "s", "backup_dir": str(backups), "project_dir": "/srv", "stores": STORES}]]
    (tmp_path / "s.json").write_text(json.dumps({"format": 1, "stack": "s", "backup": jobs}))
    monkeypatch.setenv("STACK_BACKUP_ETC", str(tmp_path))
    monkeypatch.setenv("STACK_BACKUP_VAR", str(tmp_path / "var"))
    yield backups, manifests, texts
    for store, text in texts.items():
        manifests[store].write_text(text)


def test_the_script_for_the_manual_way_back_runs_nothing_that_a_manifest_says(host, capsys, tmp_path):
    _backups, manifests, texts = host
    shells = []

    @FEW
    @given(
        hostile.spoiled(
            {name: json.loads(texts["postgres"])[name] for name in ("database", "source", "counts", "artifact")}
        )
    )
    def spoil(data):
        whole = json.loads(texts["postgres"])
        manifests["postgres"].write_text(hostile.dumps({**whole, **data}))
        capsys.readouterr()
        code = cli.main(["restore-help", "--point", POINT])
        said = capsys.readouterr()
        assert (code == 0) == bool(said.out) and (code == 2) == said.err.startswith("stack-backup: "), said
        if code == 0:
            shells.append(said.out)

    spoil()
    assert len(shells) > 5
    for text in shells:  # sh takes it for a script, and comments and here documents end where they are to
        done = subprocess.run(["/bin/sh", "-n"], input=text, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert not [line for line in text.splitlines() if line.startswith(("touch", "\\!"))]


# --- what was found so ------------------------------------------------------------------------------------------------


def changed(place, store, change):
    _backups, manifests, texts = place
    data = json.loads(texts[store])
    change(data)
    manifests[store].write_text(hostile.dumps(data))


@pytest.fixture
def spoil(place):
    yield lambda store, change: changed(place, store, change)
    for store, text in place[2].items():
        place[1][store].write_text(text)


@pytest.mark.parametrize(
    ("store", "change"),
    [
        ("redis", lambda data: data["seconds"].update(total=10**400)),
        ("redis", lambda data: data["seconds"].update(total="@nan@")),
        ("redis", lambda data: data["artifact"].update(size=-1)),
        ("redis", lambda data: data["artifact"].update(size=True)),
        ("redis", lambda data: data["artifact"].update(sha256="x")),
        ("redis", lambda data: data["artifact"].update(files=None)),
        ("postgres", lambda data: data["globals"].update(files=5)),
        ("postgres", lambda data: data["globals"].update(files={"../../../precious": {"size": 1, "sha256": "a" * 64}})),
        ("postgres", lambda data: data["artifact"].update(files={"a\nb": {"size": 1, "sha256": "a" * 64}})),
        ("redis", lambda data: data["point"].update(stores=["a\0b"])),
    ],
    ids=["huge", "nan", "negative", "bool", "digest", "null", "roles", "way-out", "line", "nul"],
)
def test_a_field_of_another_kind_is_a_damaged_manifest(place, spoil, store, change):
    spoil(store, change)
    found = everything(place[0])
    assert store not in found.points.get(POINT, {}) and "can't be read" in found.unreadable[POINT]


@pytest.mark.parametrize(
    ("store", "change", "field"),
    [
        ("redis", lambda data: data["source"].update(image_id="--help"), "source.image_id"),
        ("redis", lambda data: data.pop("source"), "source"),
        ("redis", lambda data: data["counts"].update(keys="many"), "counts.keys"),
        ("postgres", lambda data: data["database"].update(owner="a\0b"), "database.owner"),
        (
            "postgres",
            lambda data: data["database"].update(settings=[{"role": None, "config": ["work_mem"]}]),
            "settings",
        ),
        ("postgres", lambda data: data["counts"]["rows"].update({"a.b; DROP TABLE c": 1}), "counts.rows"),
        ("postgres", lambda data: data["globals"].pop("passwords"), "globals"),
    ],
)
def test_what_a_restore_reads_is_there_before_it_begins(place, spoil, store, change, field):
    """docker would take such an image for an option: `docker run --help` ends well, and nothing was read."""
    spoil(store, change)
    backup = catalog.read(place[0], "s").points[POINT][store]
    for use in (lambda: refuse_unusable(backup, True), lambda: verify.prove(None, place[0], backup)):
        with pytest.raises(BackupError, match=f"is not what was written: .*{field}.* is (missing|of the wrong kind)"):
            use()


def test_an_id_that_is_no_time_is_listed(place):
    manifest = hostile.publish(place[0], "redis", "99999999-999999")
    try:
        lines = list(report.listing({**catalog.info({"backup_dir": str(place[0])}), "offsite": {"points": {}}}))
        assert [line for line in lines if line.startswith("99999999-999999") and " - " in line]
    finally:
        manifest.unlink()
        Path(str(manifest).replace(".json", ".rdb")).unlink()
