"""The line that shows how far a job is: in a file while it runs, gone when it ends, and never the job's concern."""

import io
import time
from pathlib import Path

import pytest
from stack_backup import progress

ROOT = Path(__file__).resolve().parents[2]
ACTIONS = sorted((ROOT / "action_plugins").glob("*.py"))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(progress, "_NOTE_SECONDS", 0.05)


def told(folder, until, seconds=5):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = (folder / ".progress").read_text() if (folder / ".progress").exists() else ""
        if until in text:
            return text
        time.sleep(0.02)
    raise AssertionError(f"{until!r} was never told")


def test_the_note_tells_step_table_bytes_and_rate_and_is_gone_at_the_end(tmp_path):
    partial = tmp_path / "postgres" / "postgres-20261124-021500.partial"
    partial.mkdir(parents=True)
    with progress.Note(tmp_path):
        progress.step("postgres", "stream")
        progress.detail("postgres", "public.orders")
        assert told(tmp_path, "stream").startswith("0:00 · postgres stream public.orders")
        (partial / "dump").write_bytes(b"x" * 3_000_000)
        assert told(tmp_path, "3.0 MB").rstrip().endswith("/s")
        progress.step("offsite", "fetches 2 files", partial)
        assert "offsite fetches 2 files 3.0 MB" in told(tmp_path, "offsite")
    assert not (tmp_path / ".progress").exists()
    with progress.Note(tmp_path):
        assert "stream" not in told(tmp_path, "0:0")  # of the job before


def test_a_job_whose_note_can_not_be_written_goes_on(tmp_path):
    (tmp_path / ".progress").mkdir()
    with progress.Note(tmp_path):
        progress.step("redis", "seal")
        assert not told_soon(tmp_path)


def told_soon(folder):
    time.sleep(0.2)
    return [path for path in folder.iterdir() if path.is_file()]


def test_without_a_terminal_nothing_is_shown(tmp_path):
    stream = io.StringIO()
    with progress.Line(stream, "backup", tmp_path):
        progress.step("redis", "seal")
    assert stream.getvalue() == ""


def test_every_long_module_has_its_watcher():
    """The file's names are links to one."""
    assert {path.stem for path in ACTIONS} <= {path.stem for path in (ROOT / "library").glob("*.py")}
    assert {path.stem for path in ACTIONS} >= {
        "recovery_point",
        "stack_restore",
        "backup_drill",
        "offsite_copy",
        "offsite_fetch",
    }
    assert len({path.resolve() for path in ACTIONS}) == 1
