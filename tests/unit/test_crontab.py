"""When cron starts what a crontab names, in the host's time zone."""

import time
from datetime import datetime, timedelta

import pytest
from stack_backup.cron import entries, runs

NOW = "2026-11-27 01:30"  # a Friday
LINES = """\
# 1 1 * * * root run ignored
PATH=/usr/bin
17 2 * * * root /opt/stack-backup/bin/stack-backup run backup --stack shop --wait 3600
2-59/15 * * * *\troot x run check
"""


@pytest.fixture(autouse=True)
def zone(request, monkeypatch):
    monkeypatch.setenv("TZ", getattr(request, "param", "UTC"))
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def local(text):
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M"))


def starts(fields, count, after=NOW, days=800):
    begin = local(after)
    found = runs(fields, begin, begin + days * 86400)
    return [time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) for at, _ in zip(found, range(count))]


def test_the_jobs_of_a_crontab():
    assert entries(LINES) == [("backup", "17 2 * * *"), ("check", "2-59/15 * * * *")]
    assert entries("") == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("17 2 * * *", ["2026-11-27 02:17", "2026-11-28 02:17"]),
        ("30 1 * * *", ["2026-11-28 01:30", "2026-11-29 01:30"]),  # the moment itself is past
        ("0 4 * * 0", ["2026-11-29 04:00", "2026-12-06 04:00"]),
        ("0 4 * * 7", ["2026-11-29 04:00", "2026-12-06 04:00"]),
        ("0 4 * * 6-7", ["2026-11-28 04:00", "2026-11-29 04:00"]),
        ("0 4 * dec sun,Tue", ["2026-12-01 04:00", "2026-12-06 04:00"]),
        ("2-59/15 * * * *", ["2026-11-27 01:32", "2026-11-27 01:47", "2026-11-27 02:02"]),
        ("*/20 3,5 * * *", ["2026-11-27 03:00", "2026-11-27 03:20", "2026-11-27 03:40", "2026-11-27 05:00"]),
        ("0 0 1 * 1", ["2026-11-30 00:00", "2026-12-01 00:00", "2026-12-07 00:00"]),  # either of the days
        ("0 0 1 jan *", ["2027-01-01 00:00", "2028-01-01 00:00"]),
        ("0 0 29 2 *", ["2028-02-29 00:00"]),
    ],
)
def test_when_it_runs(fields, expected):
    assert starts(fields, len(expected)) == expected


@pytest.mark.parametrize("fields", ["", "@daily", "1 2 3", "x 2 * * *", "1 2 * * * *"])
def test_what_is_no_time(fields):
    with pytest.raises(ValueError):
        next(runs(fields, 0, 86400))


@pytest.mark.parametrize("zone", ["Europe/Berlin"], indirect=True)
def test_daylight_saving(zone):
    """By the clock of the host, whose days are not all of 24 hours."""
    found = list(runs("17 4 * * *", local("2026-03-27 12:00"), local("2026-03-30 00:00")))
    assert timedelta(seconds=found[1] - found[0]) == timedelta(hours=23)
    (skipped,) = runs("30 2 * * *", local("2026-03-29 00:00"), local("2026-03-29 12:00"))
    assert datetime.fromtimestamp(skipped).strftime("%H:%M") in ("01:30", "03:30")
