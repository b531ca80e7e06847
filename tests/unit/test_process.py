"""Programs end when they should, and nothing is left running."""

import errno
import subprocess
import time

import pytest
from stack_backup.errors import BackupError
from stack_backup.postgres.connection import conninfo
from stack_backup.process import Deadline, Guard, Session, _live, run


def test_output_and_status_come_back():
    result = run(["sh", "-c", "cat; echo oops >&2; exit 3"], deadline=Deadline(5), stdin="in")
    assert (result.code, result.out, result.reason()) == (3, "in", "oops")


def test_lines_of_standard_error_that_are_set_aside():
    script = "printf 'doing a\\nerr' >&2; sleep 0.2; printf 'or: b\\ndoing c\\nthe end' >&2; echo doing d; exit 3"
    seen = []
    result = run(["sh", "-c", script], deadline=Deadline(5), aside=lambda line: seen.append(line) or "doing" in line)
    assert seen == ["doing a", "error: b", "doing c"]
    assert (result.code, result.out, result.err) == (3, "doing d\n", "error: b\nthe end")


def test_a_program_that_is_too_slow_is_ended():
    began = time.monotonic()
    with pytest.raises(BackupError, match="did not end within"):
        run(["sh", "-c", "sleep 77.7 & wait"], deadline=Deadline(0.3))
    assert time.monotonic() - began < 5
    assert not subprocess.run(["pgrep", "-f", "sleep 77.[7]"], capture_output=True, check=False).stdout


def test_a_missing_program_is_named():
    with pytest.raises(BackupError, match="no-such-program is not on this host's PATH"):
        run(["no-such-program"], deadline=Deadline(5))


def test_a_session_answers_and_tells_why_it_ended():
    session = Session(["sh", "-c", "read x; echo got $x; echo why >&2; exit 1"], deadline=Deadline(5))
    session.send("a\n")
    assert session.line() == "got a"
    with pytest.raises(BackupError, match="why"):
        session.line()
    session.close()


def test_the_guard_acts_also_when_nobody_releases_it(tmp_path):
    mark = tmp_path / "mark"
    guard = Guard(["touch", str(mark)], seconds=1)
    assert not mark.exists()
    for _ in range(50):
        if mark.exists():
            break
        time.sleep(0.1)
    assert mark.exists()
    guard.release()


def test_the_guard_waits_for_the_program_whose_work_it_undoes(tmp_path):
    mark = tmp_path / "mark"
    guard = Guard(["rm", str(mark)], seconds=20)
    slow = run(
        ["sh", "-c", f"(sleep 0.5; touch {mark}) >/dev/null 2>&1 &"], deadline=Deadline(5), holds=[guard.lifeline]
    )
    assert slow.code == 0
    assert guard.release() == 0
    assert not mark.exists()


def test_a_deadline_that_is_cut_starts_nothing_more():
    deadline = Deadline(5)
    deadline.cut("ended by SIGTERM")
    with pytest.raises(BackupError, match="ended by SIGTERM"):
        run(["sleep", "78"], deadline=deadline)
    assert not _live


def test_a_program_that_can_not_be_started_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken").write_text("#!/no/such/shell")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupError, match="broken can't be started: Permission denied"):
        run(["broken"], deadline=Deadline(5))


def test_a_host_at_its_limit_of_processes_is_told_so(monkeypatch):
    def full(*_args, **_more):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", full)
    for start in (lambda: run(["true"], deadline=Deadline(5)), lambda: Guard(["true"], seconds=5)):
        with pytest.raises(
            BackupError, match="can't be started: .*unavailable: this host is at its limit of processes"
        ):
            start()


def test_every_name_stands_for_itself_in_a_connection_string():
    assert conninfo(user="a'b", dbname="x y\\z=1", host=None) == "user='a\\'b' dbname='x y\\\\z=1'"
