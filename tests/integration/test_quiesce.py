"""Services paused by backup_quiesce run again, whatever becomes of the job."""

import signal
import time

import pytest
from conftest import PG, REDIS, job, shim, until
from stack_backup import redis
from stack_backup.errors import BackupError

# The pin of the store finds the service paused, says so in a file, and then the job comes to its end.
_PATCH = """
import os, signal, subprocess
def pin(self):
    with open({seen!r}, "w") as file:
        subprocess.run(["docker", "inspect", "--format", "{{{{.State.Status}}}}", {paused!r}], stdout=file)
    os.kill(os.getpid(), {number})
    raise RuntimeError("goes on")
redis.Source.pin = pin
"""


def files(folder):
    return [path for path in folder.rglob("*") if path.name not in (".lock", "seen")]


def run(stack, folder, number):
    seen = folder / "seen"
    process = job(
        stack.params(folder, [PG, REDIS], quiesce=["redis7"]),
        _PATCH.format(seen=str(seen), paused=stack.name("redis7"), number=int(number)),
    )
    said = process.communicate(timeout=60)[1]
    assert seen.read_text().strip() == "paused"
    return process.returncode, said


def test_a_job_killed_while_services_are_paused(stack, tmp_path):
    code, _said = run(stack, tmp_path, signal.SIGKILL)
    assert code == -signal.SIGKILL
    # At once, not only when the guard's own time is up.
    assert until(lambda: stack.state(stack.name("redis7")) == "running", 5)
    assert until(lambda: not stack.sides(), 10)
    assert stack.take(tmp_path, [PG, REDIS], quiesce=["redis7"])["complete"]


def test_a_job_ended_while_services_are_paused(stack, tmp_path):
    code, said = run(stack, tmp_path, signal.SIGTERM)
    assert (code, said.strip()) == (1, "ended by SIGTERM: what was not published is removed")
    assert stack.state(stack.name("redis7")) == "running"
    assert stack.sides() == []
    assert files(tmp_path) == []


@pytest.mark.parametrize("error", [BackupError("no pin"), RuntimeError("no pin")], ids=["told", "unforeseen"])
def test_an_error_while_services_are_paused(stack, tmp_path, monkeypatch, error):
    def pin(_self):
        assert stack.state(stack.name("redis7")) == "paused"
        raise error

    monkeypatch.setattr(redis.Source, "pin", pin)
    with pytest.raises(type(error), match="no pin"):
        stack.take(tmp_path, [REDIS], quiesce=["redis7"])
    assert stack.state(stack.name("redis7")) == "running"
    assert files(tmp_path) == []


def test_pins_that_take_too_long_are_not_called_one_instant(stack, tmp_path, monkeypatch):
    monkeypatch.setattr("stack_backup.point._QUIESCE_SECONDS", 2)
    real = redis.Source.pin

    def pin(self):
        assert until(lambda: stack.state(stack.name("redis7")) == "running", 10)
        real(self)

    monkeypatch.setattr(redis.Source, "pin", pin)
    result = stack.take(tmp_path, [REDIS], quiesce=["redis7"])
    assert (result["complete"], result["quiesced"]) == (True, [])


def test_what_can_not_be_paused_is_told(stack, tmp_path):
    assert "which holds store redis" in str(stack.fail(tmp_path, [REDIS], quiesce=["redis8"]))
    assert "names gone, which is no service" in str(stack.fail(tmp_path, [REDIS], quiesce=["gone"]))
    assert stack.take(tmp_path, [REDIS], quiesce=["stopped"])["quiesced"] == []


@pytest.mark.parametrize(("failures", "quiesced"), [(2, True), (3, False)], ids=["at last", "never"])
def test_what_can_not_be_frozen_at_first(stack, tmp_path, monkeypatch, failures, quiesced):
    """Docker's own words, after a real pause: it may have paused the others of several."""
    tries = tmp_path / "tries"
    said = "Error response from daemon: Cannot pause container x: OCI runtime pause failed: unable to freeze: unknown"
    script = f"""
[ "$1" = pause ] || exec REAL "$@"
REAL "$@" || exit; echo "$@" >>{tries}
[ $(wc -l <{tries}) -gt {failures} ] || {{ echo "{said}" >&2; exit 1; }}
"""
    shim("docker", tmp_path / "bin", monkeypatch, script)
    backups = tmp_path / "backups"
    backups.mkdir()
    if quiesced:
        assert stack.take(backups, [PG], quiesce=["redis7"])["quiesced"] == [stack.name("redis7")]
    else:
        assert "backup_quiesce: docker pause: " in str(stack.fail(backups, [PG], quiesce=["redis7"]))
        assert files(backups) == []
    assert len(tries.read_text().splitlines()) == 3
    assert stack.state(stack.name("redis7")) == "running"


def test_an_end_by_signal_takes_no_time(stack, tmp_path):
    patch = """
import os, signal, threading
def stream(self):
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    self._docker.call("wait", self._container.id)
redis.Source.stream = stream
"""
    process = job(stack.params(tmp_path, [PG, REDIS]), patch)
    began = time.monotonic()
    assert "ended by SIGTERM" in process.communicate(timeout=60)[1]
    assert time.monotonic() - began < 10
    assert files(tmp_path) == []
