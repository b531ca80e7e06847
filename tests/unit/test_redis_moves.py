"""The moves in a data folder, cut off after each single step: the old data always comes back whole."""

import itertools
import subprocess

import pytest
from stack_backup.redis.files import BACK, SWITCH
from stack_backup.redis.layout import Layout

LAYOUTS = [Layout(aof=aof, multipart=multipart) for aof, multipart in itertools.product([True, False], repeat=2)]
# Every step that changes something; the one after the last allowed ends the script as SIGKILL would.
CUT = """left={left}
step() {{ if [ $left = 0 ]; then exit 99; fi; left=$((left - 1)); command "$@"; }}
mv() {{ step mv "$@"; }}; mkdir() {{ step mkdir "$@"; }}; rm() {{ step rm "$@"; }}; rmdir() {{ step rmdir "$@"; }}
sync() {{ command true; }}
"""


def run(script, left, home, *args):
    argv = ["sh", "-c", CUT.format(left=left) + script, "sh", str(home), *args]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode in (0, 4, 99), result.stderr
    return result.returncode


def tree(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def write(folder, layout, word):
    for name in layout.names:
        if name == layout.appenddirname:
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "base").write_text(word)
        else:
            (folder / name).write_text(word)


def make(folder, layout, old):
    data = folder / "data"
    data.mkdir()
    if old:
        write(data, layout, "old")
    (data / "other").write_text("old")
    before = tree(data)
    home = data / ".stack-backup-20260101-000000"
    staged = home / "new" / layout.rdb
    staged.parent.mkdir(parents=True)
    staged.write_text("new")
    return data, home, before


def attempt(folder, layout, old, there, back, stray):
    """Switch up to one step, undo up to one, undo to the end; whether each was whole before it was cut off."""
    args = [layout.top, *layout.names]
    folder.mkdir()
    data, home, before = make(folder, layout, old)
    switched = run(SWITCH, there, home, *args) == 0
    if switched:
        write(data, layout, "written since")  # what a server on the new data leaves: all names
    undone = run(BACK, back, home, "", *args)
    if undone == 4:  # files were moved: it wants the server to be stopped first
        undone = run(BACK, back, home, "yes", *args)
    if stray and (home / "old").is_dir():
        # Someone starts the server meanwhile: it makes its files anew where there are none.
        for name in layout.names:
            if not (data / name).exists() and (home / "old" / name).exists():
                (data / name).write_text("stray")
    for _ in range(2):  # once more changes nothing
        assert run(BACK, 100, home, "yes", *args) == 0
        assert tree(data) == before, (there, back, stray)
        assert not home.exists()
    return switched, undone == 0


@pytest.mark.parametrize("old", [True, False], ids=["data", "empty"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda item: f"{item.top}-{item.multipart}")
def test_the_old_data_comes_back_from_every_point(tmp_path, layout, old):
    tried = 0
    for there in itertools.count():
        for back in itertools.count():
            for stray in [False, True] if old else [False]:
                tried += 1
                switched, undone = attempt(tmp_path / str(tried), layout, old, there, back, stray)
            if undone:
                break
        if switched:
            break
    assert tried > 10


def test_the_switch_puts_the_new_data_where_the_server_reads_it(tmp_path):
    for layout in LAYOUTS:
        folder = tmp_path / f"{layout.aof}{layout.multipart}"
        folder.mkdir()
        data, home, before = make(folder, layout, True)
        assert run(SWITCH, 100, home, layout.top, *layout.names) == 0
        assert (data / layout.rdb).read_text() == "new"
        there = {name: word for name, word in tree(data).items() if not name.startswith(".")}
        assert there == {layout.rdb: "new", "other": "old"}
        assert {**tree(home / "old"), "other": "old"} == before


@pytest.mark.parametrize(
    ("layout", "rdb", "manifest"),
    [
        (Layout(True, True, appenddirname="d", appendfilename="f"), "d/f.1.base.rdb", "file f.1.base.rdb seq 1 type b"),
        (
            Layout(True, True, appendfilename="a b"),
            "appendonlydir/a b.1.base.rdb",
            'file "a b.1.base.rdb" seq 1 type b',
        ),
        (Layout(True, False), "appendonly.aof", None),
        (Layout(False, True, dbfilename="x.rdb"), "x.rdb", None),
        (Layout(False, False), "dump.rdb", None),
    ],
)
def test_where_the_files_go(layout, rdb, manifest):
    assert layout.rdb == rdb
    assert bool(layout.manifest) == bool(manifest)
    assert manifest is None or layout.manifest_line == manifest
