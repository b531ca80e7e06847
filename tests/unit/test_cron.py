"""Cron times: the wrong ones are refused, as cron would ignore the whole file; M is a host's own minute."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "roles" / "schedule" / "filter_plugins" / "cron.py"
spec = importlib.util.spec_from_file_location("cron", FILE)
cron = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cron)


@pytest.mark.parametrize(
    "time",
    ["M 2 * * *", "M/15 * * * *", "0 0 1 1 0", "*/5 1-23/2 1,15 jan-mar mon-fri", "59 23 31 DEC 7", "0,30 2 * * Sun"],
)
def test_right(time):
    assert cron.cron_fault(time) == ""


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("", "has not the five fields"),
        (None, "has not the five fields"),
        ("2 * * *", "has not the five fields"),
        ("@daily", "has not the five fields"),
        ("60 2 * * *", "60 is no minute (0-59)"),
        ("M 24 * * *", "24 is no hour (0-23)"),
        ("M 2 0 * *", "0 is no day of month (1-31)"),
        ("M 2 * 13 *", "13 is no month (1-12)"),
        ("M 2 * * 8", "8 is no day of week (0-7)"),
        ("M 2 * * mo", "mo is no day of week"),
        ("M M * * *", "M is no hour"),
        ("M 5-2 * * *", "'5-2' ends before it begins"),
        ("*/0 2 * * *", "'*/0': the step of a minute is 1 to 59"),
        ("M/0 2 * * *", "the step of a minute is 1 to 59"),
        ("5/10 2 * * *", "'5/10': a step needs a range or *"),
        ("M 2 * * *; rm", "has not the five fields"),
        ("M 2,, * * *", "'' is no hour"),
        ("M -1 * * *", "'-1' is no hour"),
        ("\u0665 2 * * *", "is no minute"),
    ],
)
def test_wrong(time, said):
    assert said in cron.cron_fault(time)


@pytest.mark.parametrize(
    ("time", "minute", "becomes"),
    [
        ("M 2 * * *", 17, "17 2 * * *"),
        ("5 2 * * *", 17, "5 2 * * *"),
        ("M/15 * * * *", 17, "2-59/15 * * * *"),
        ("M/15 * * * *", 14, "14-59/15 * * * *"),
    ],
)
def test_the_hosts_own_minute(time, minute, becomes):
    assert cron.cron_at(time, minute) == becomes
    assert cron.cron_fault(becomes) == ""
