"""What a restore writes down, and what the next one finds."""

import pytest
from stack_backup.errors import BackupError
from stack_backup.journal import Journal, journals, unfinished

STOPPED = {"service": "app", "level": 0, "id": "x", "name": "app-1", "policy": "no"}


def begin(folder, number=1):
    return Journal.begin(folder, id=f"20261124-03000{number}", stack="s", point="p", stores=[])


def test_an_interrupted_restore_is_found_and_a_finished_one_is_not(tmp_path):
    assert unfinished(tmp_path) is None
    journal = begin(tmp_path)
    journal.mark("stopping", stopped=[STOPPED])
    found = unfinished(tmp_path)
    assert (found.id, found.phase, found.data["stopped"]) == (journal.id, "stopping", [STOPPED])
    assert found.reached("prepared") and not found.reached("switching")
    found.mark("done")
    assert unfinished(tmp_path) is None
    begin(tmp_path, 2)
    assert [item.phase for item in journals(tmp_path)] == ["done", "planned"]


def test_a_journal_that_can_not_be_read_stops_everything(tmp_path):
    begin(tmp_path)
    path = tmp_path / ".restore" / "20261124-030001.json"
    path.write_text(path.read_text()[:20])
    with pytest.raises(BackupError, match="can't be read.*then move the file away"):
        unfinished(tmp_path)


def test_a_phase_that_can_not_be_written_down_does_not_begin(tmp_path):
    journal = begin(tmp_path)
    (tmp_path / ".restore" / ".20261124-030001.json.new").mkdir()
    with pytest.raises(BackupError, match="can't be written"):
        journal.mark("stopping")
    assert unfinished(tmp_path).phase == "planned"
