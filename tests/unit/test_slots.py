"""Places that stacks share: no more are held at once than there are, and a dead holder's is free."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT
from stack_backup import point
from stack_backup.artifact import Slot
from stack_backup.errors import BackupError
from stack_backup.process import Deadline


def test_no_more_at_once_than_there_are(tmp_path):
    lock, now, most = threading.Lock(), [0], [0]

    def work():
        with Slot(tmp_path, 2, Deadline(30)):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.1)
            with lock:
                now[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, now) == ([2], [0])


def test_who_waits_does_so_within_its_time(tmp_path):
    with Slot(tmp_path, 1, Deadline(5)), pytest.raises(BackupError, match="time limit of 1 s has passed"):
        Slot(tmp_path, 1, Deadline(1)).__enter__()
    with Slot(tmp_path, 1, Deadline(1)):
        assert [path.name for path in tmp_path.iterdir()] == [".stack-backup-slot-1"]


def test_a_killed_holders_place_is_free(tmp_path):
    program = (
        f"import sys, time; sys.path.insert(0, {str(ROOT / 'module_utils')!r})\n"
        "from pathlib import Path; from stack_backup.artifact import Slot; from stack_backup.process import Deadline\n"
        f"Slot(Path({str(tmp_path)!r}), 1, Deadline(5)).__enter__(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BackupError):
            Slot(tmp_path, 1, Deadline(0.2)).__enter__()
        os.kill(holder.pid, signal.SIGKILL)
    with Slot(tmp_path, 1, Deadline(0.2)):
        pass


@pytest.mark.parametrize(
    ("given", "words"), [({"slots_dir": "/no/such"}, "/no/such is no folder"), ({"slots": 0}, "backup_slots is 0")]
)
def test_what_can_not_be(tmp_path, given, words):
    params = {
        "stack": "x",
        "backup_dir": str(tmp_path),
        "timeout": 5,
        "slots_dir": str(tmp_path),
        "stores": [],
        **given,
    }
    with pytest.raises(BackupError, match=words):
        point.take(params)
