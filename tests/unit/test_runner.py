"""A job's record and log, whatever becomes of the job."""

import json
import os
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from stack_backup import arguments, cli, monitor, runner
from stack_backup.artifact import Lock
from stack_backup.config import Config
from stack_backup.errors import BackupError
from stack_backup.modules import MODULES


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Runs a job of one module, which is the function given."""

    def run(function, job="backup", wait=0.0, log=None):
        monkeypatch.setitem(MODULES, "fake", SimpleNamespace(run=function))
        check = {name: option.get("default") for name, option in arguments.STACK_CHECK.items()}
        check.update(stack="shop", backup_dir=str(tmp_path / "backups"), state_dir=str(tmp_path / "var" / "shop"))
        jobs = {job: [("fake", {"n": 1})], "check": [("stack_check", check)]}
        config = Config("shop", tmp_path / "backups", tmp_path / "var" / "shop", {**jobs, job: [("fake", {"n": 1})]})
        warned = []
        record = runner.run(config, job, wait=wait, log=log, warn=warned.append)
        written = tmp_path / "var" / "shop" / f"last-{job}.json"
        assert not written.exists() or json.loads(written.read_text()) == record
        return record, warned

    return run


def fail(_params):
    raise BackupError("the disk is full: free some", stores=[1])


def test_a_good_job(job, tmp_path):
    log = tmp_path / "log"

    def work(params):
        during = json.loads((tmp_path / "var" / "shop" / "last-backup.json").read_text())
        assert (during["ended_at"], during["ok"]) == (None, False)
        return {"changed": True, **params}

    record, warned = job(work, log=log)
    assert record["ok"] and record["error"] == "" and record["result"] == {"fake": {"changed": True, "n": 1}}
    assert record["started_at"] <= record["ended_at"]
    lines = log.read_text().splitlines()
    assert lines == record["log"] and lines[0].endswith("begins") and "ok in" in lines[1]
    assert not warned
    assert (tmp_path / "var" / "shop").stat().st_mode & 0o777 == 0o700


def test_a_failed_job_is_told_at_once(job, monkeypatch):
    told = []
    monkeypatch.setattr(monitor, "job_started", lambda params, name: told.append((params, name)))
    monkeypatch.setattr(monitor, "job_ended", lambda params, record: told.append((params, record)))
    record, _ = job(fail)
    assert not record["ok"] and record["error"] == "the disk is full: free some"
    assert record["result"] == {"fake": {"stores": [1]}}
    assert record["log"][-1].endswith(f"FAILED in {record['seconds']:.1f} s: the disk is full: free some")
    assert [item for _params, item in told] == ["backup", record]
    assert [params["stack"] for params, _item in told] == ["shop", "shop"]


def test_an_alert_that_fails_is_in_the_log(job, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(monitor, "job_ended", lambda _params, _record: print("mail is down", file=sys.stderr))
    record, _ = job(lambda _params: {}, log=tmp_path / "log")
    assert record["ok"] and (tmp_path / "log").read_text().endswith("mail is down\n")
    assert capsys.readouterr().err == ""


def test_the_check_does_not_tell_of_itself(job, monkeypatch):
    monkeypatch.setattr(monitor, "job_started", fail)
    monkeypatch.setattr(monitor, "job_ended", fail)
    record, _ = job(lambda _params: {"changed": False}, job="check")
    assert record["ok"] and len(record["log"]) == 1


def test_a_fault_of_our_own_is_in_the_log(job, tmp_path):
    record, _ = job(lambda params: params["gone"], log=tmp_path / "log")
    assert record["error"] == "unexpected KeyError: 'gone'"
    assert "Traceback" in (tmp_path / "log").read_text()


def test_a_log_that_can_not_be_written_stops_no_job(job, tmp_path):
    record, warned = job(lambda _params: {}, log=tmp_path)
    assert record["ok"]
    assert warned == [f"the log {tmp_path} can't be written: Is a directory: mend its owner, mode or disk"]
    assert warned[0] in record["log"]


def test_a_record_that_can_not_be_written_stops_no_job(job, tmp_path):
    (tmp_path / "var").write_text("")
    record, _ = job(lambda _params: {}, log=tmp_path / "log")
    assert record["ok"]
    assert "last-backup.json can't be written: Not a directory" in (tmp_path / "log").read_text()


def test_waits_for_another_job(job, tmp_path):
    def work(_params):
        with Lock(tmp_path):
            return {}

    lock = Lock(tmp_path)
    lock.__enter__()
    record, _ = job(work)
    assert not record["ok"] and "another job of this stack is running" in record["error"]
    threading.Timer(0.3, lock.__exit__).start()
    record, _ = job(work, wait=20)
    assert record["ok"] and "waits: another job" in record["log"][1]
    assert 0.2 < record["seconds"] < 10


def test_a_signal_ends_the_job_with_a_record(job):
    def work(_params):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        return {}

    record, _ = job(work)
    assert not record["ok"] and record["error"].startswith("ended by SIGTERM")


@pytest.mark.parametrize(
    ("ended", "ok", "pid", "state"),
    [("t", True, 1, "ok"), ("t", False, 1, "failed"), (None, False, 1, "running"), (None, False, 2**22 + 1, "died")],
)
def test_how_a_job_stands(ended, ok, pid, state):
    assert cli._state({"ended_at": ended, "ok": ok, "pid": pid}) == state
