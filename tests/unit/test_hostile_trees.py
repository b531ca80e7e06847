"""Folders of anything: what is in a backup folder is named, and only a backup's own files are ever removed."""

import json
import os
import shutil

import hostile
import pytest
from hostile import POINT, SOME, told
from hypothesis import given
from hypothesis import strategies as st
from stack_backup import catalog, prune, report
from stack_backup.errors import BackupError

OLD = "20200101-000000"
NAMES = st.one_of(
    st.sampled_from(
        [
            *(
                f"redis-{OLD}{ending}"
                for ending in (".json", ".rdb", ".partial", ".verified.json", ".rdb.age", ".globals.sql")
            ),
            *(f".redis-{OLD}{ending}" for ending in (".json.removed", ".json.new", ".verified.json.new")),
            *(f"redis-{POINT}.partial", "redis-99999999-999999.json", "redis-.json", f"-{OLD}.json", ".lock", "redis"),
            *(
                "-rf",
                "--",
                "a\nb",
                "\x1b[2J",
                " ",
                "\udcff\udcfe",
                f"\udcff-{OLD}.partial",
                f"redis-{OLD}.json\n",
                "日本",
            ),
        ]
    ),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=20).filter(
        lambda name: name not in (".", "..")
    ),
)
KINDS = st.sampled_from(["file", "json", "folder", "full", "pipe", "link out", "link folder", "dangling", "hard"])
FOLDERS = st.one_of(st.sampled_from(["redis", "postgres", ".", ".restore", ".offsite", "\udcff", "a\nb", "-x"]), NAMES)


def make(path, kind, outside):
    if kind == "file":
        path.write_bytes(b"x")
    elif kind == "json":
        path.write_text('{"format": 1}')
    elif kind in ("folder", "full"):
        path.mkdir()
        if kind == "full":
            (path / "toc.dat").write_bytes(b"x")
            (path / "out").symlink_to(outside)
            os.mkfifo(path / "pipe")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "hard":
        os.link(outside / "precious", path)
    else:
        path.symlink_to(
            {"link out": outside / "precious", "link folder": outside, "dangling": path.parent / "no"}[kind]
        )


def tree(top):
    """Everything below a folder, without following a link."""
    found = {}
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = f"{folder}/{name}"
            found[path] = os.lstat(path).st_ino
    return found


@pytest.mark.timeout(120)
@SOME
@given(st.lists(st.tuples(FOLDERS, NAMES, KINDS), max_size=8), st.booleans())
def test_whatever_lies_there_is_named_and_what_is_not_ours_stays(tmp_path_factory, things, aged):
    top = tmp_path_factory.mktemp("t")
    backups, outside = top / "backups", top / "outside"
    for folder in (backups, outside / "inner"):
        folder.mkdir(parents=True)
    for name in ("precious", "inner/more"):
        (outside / name).write_text("x")
    hostile.good(backups)
    ours = tree(backups)
    for folder, name, kind in things:
        path = backups / folder / name
        try:
            path.parent.mkdir(exist_ok=True)
            make(path, kind, outside)
        except (FileExistsError, NotADirectoryError):
            continue
        except OSError as error:
            assert "name too long" in str(error)
            continue
        if aged:
            os.utime(path, (0, 0), follow_symlinks=False)
    before, away = tree(backups), tree(outside)
    found = catalog.read(backups, "s")
    "\n".join(report.listing({**catalog.info({"backup_dir": str(backups)}), "offsite": {"points": {}}})).encode("utf-8")
    assert all(item["path"].isprintable() and item["message"].isprintable() for item in found.problems)
    answer = told(prune.prune, {"backup_dir": str(backups), "stack": "s", "keep_last": 1, "max_age_hours": 0})
    assert tree(outside) == away and (outside / "precious").read_text() == "x"
    gone = set(before) - set(tree(backups))
    named = (backups / "redis", backups / "postgres", backups / ".restore")
    for path in gone:
        mine = any(path.startswith(f"{folder}/{'.' if folder.name == '.restore' else ''}") for folder in named)
        assert mine and ("20261123" in path or OLD in path or path in ours or ".restore/" in path), path
    if isinstance(answer, BackupError):
        assert not gone - set(ours) or answer.details.get("removed") is not None
    assert os.path.lexists(backups / "redis" / f"redis-{POINT}.json")
    shutil.rmtree(top)


# --- what was found so ------------------------------------------------------------------------------------------------


@pytest.fixture
def backups(tmp_path):
    folder = tmp_path / "backups"
    folder.mkdir()
    hostile.good(folder, tree=True)
    return folder


def test_a_name_that_is_no_text_can_be_said(backups, capsys):
    """A name in no encoding ended `stack-backup list` with a traceback, and one with a line's end forged a line of it."""
    for name in (b"\xff\xfe", b"a\nPROBLEM: forged", b"\x1b[2J"):
        (backups / "redis" / os.fsdecode(name)).write_text("x")
        (backups / os.fsdecode(name)).mkdir()
    found = catalog.info({"backup_dir": str(backups), "stack": "s"})
    lines = list(report.listing({**found, "offsite": {"points": {}}}))
    "\n".join(lines).encode("utf-8")
    assert sum("not written by stack-backup" in line for line in lines) == 3
    assert sum("not a store's folder" in line for line in lines) == 3
    assert all(line.isprintable() for line in lines)


def test_a_folder_that_no_store_can_be_called_holds_no_backups(backups):
    """Nothing was removed there, but its files passed for what a job had left."""
    store = backups / os.fsdecode(b"\xff")
    store.mkdir()
    left = store / os.fsdecode(b"\xff-20200101-000000.partial")
    left.write_text("x")
    os.utime(left, (0, 0))
    assert prune.prune({"backup_dir": str(backups), "stack": "s", "keep_last": 5, "max_age_hours": 0})["cleaned"] == []
    assert left.exists()


def test_a_dangling_link_in_a_dump_hides_no_other_backup(backups):
    """It ended the reading of the whole catalog."""
    (backups / "postgres" / f"postgres-{POINT}.dump" / "x").symlink_to("nowhere")
    found = catalog.read(backups, "s")
    assert "postgres" in found.broken[POINT] and set(found.points["20261123-020000"]) == {"postgres", "redis"}


def test_a_store_that_became_a_link_on_the_way_is_not_followed(backups, tmp_path, monkeypatch):
    """Swapped between the look at the catalog and the removal."""
    outside = tmp_path / "outside"
    shutil.copytree(backups / "redis", outside)
    real = prune._Removal.apply

    def swap(self, root):
        if not (backups / "redis").is_symlink():
            (backups / "redis").rename(tmp_path / "away")
            (backups / "redis").symlink_to(outside)
        real(self, root)

    monkeypatch.setattr(prune._Removal, "apply", swap)
    before = tree(outside)
    with pytest.raises(BackupError, match="can't be removed"):
        prune.prune({"backup_dir": str(backups), "stack": "s", "keep_last": 1, "max_age_hours": 0})
    assert tree(outside) == before


def test_a_dump_of_another_name_of_a_file_takes_that_name_alone(backups, tmp_path):
    """A hard link: what is removed is the name in the backup folder."""
    precious = tmp_path / "precious"
    old = backups / "redis" / "redis-20261123-020000.rdb"
    os.link(old, precious)
    prune.prune({"backup_dir": str(backups), "stack": "s", "keep_last": 1, "max_age_hours": 0})
    assert precious.exists() and not old.exists()


def test_folders_too_deep_to_be_removed_are_told(backups):
    """Deeper than Python calls, and than a path is long."""
    top = backups / "redis" / f"redis-{OLD}.partial"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    os.utime(top, (0, 0))
    try:
        with pytest.raises(BackupError, match="can't be (removed|looked at)"):
            prune.prune({"backup_dir": str(backups), "stack": "s", "keep_last": 5, "max_age_hours": 0})
    finally:
        os.system(f"rm -rf '{top}'")


def test_what_is_said_of_a_drill_is_read_as_far_as_it_is_true(backups):
    path = backups / "redis" / f"redis-{POINT}.verified.json"
    for told_of, seconds, fault in (
        ({"ok": False}, 0.0, "store redis did not restore in its drill"),
        ({"ok": True, "seconds": "1", "at": 5, "error": None}, 0.0, ""),
        ({"ok": True, "seconds": 2.5}, 2.5, ""),
    ):
        path.write_text(json.dumps(told_of))
        found = catalog.read(backups, "s")
        assert found.fault(POINT) == fault
        assert found.points[POINT]["redis"].verified["seconds"] == seconds
