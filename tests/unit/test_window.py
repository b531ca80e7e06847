"""When a restore may begin."""

from datetime import datetime, timezone

import pytest
from stack_backup.errors import BackupError
from stack_backup.window import require_window


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("window", "now", "inside"),
    [
        ({}, "2026-11-24T12:00", True),
        ({"from": "02:00", "to": "04:00"}, "2026-11-24T02:00", True),
        ({"from": "02:00", "to": "04:00"}, "2026-11-24T04:00", False),
        ({"from": "02:00", "to": "04:00"}, "2026-11-24T01:59:59", False),
        ({"from": "23:00", "to": "01:00"}, "2026-11-24T00:30", True),
        ({"from": "23:00", "to": "01:00"}, "2026-11-24T12:00", False),
        # Zurich: UTC+1 in winter, UTC+2 in summer
        ({"from": "02:00", "to": "04:00", "timezone": "Europe/Zurich"}, "2026-11-24T01:30", True),
        ({"from": "02:00", "to": "04:00", "timezone": "Europe/Zurich"}, "2026-07-24T01:30", True),
        ({"from": "02:00", "to": "04:00", "timezone": "Europe/Zurich"}, "2026-07-24T02:30", False),
    ],
)
def test_the_window_is_in_its_own_time(window, now, inside):
    if inside:
        require_window(window, at(now))
    else:
        with pytest.raises(BackupError, match="outside the restore window"):
            require_window(window, at(now))


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"from": "2am", "to": "04:00"}, "from must be a time"),
        ({"from": "02:00"}, "to must be a time"),
        ({"from": 7200, "to": "04:00"}, "from must be a time such as"),  # 02:00 unquoted in YAML
        ({"from": "02:00", "to": "04:00", "timezone": "Mars/Olympus"}, "knows no timezone 'Mars/Olympus'"),
        ({"from": "02:00", "to": "04:00", "timezone": "../../etc/passwd"}, "knows no timezone"),
    ],
)
def test_a_window_that_means_nothing_is_refused(window, message):
    with pytest.raises(BackupError, match=message):
        require_window(window, at("2026-11-24T03:00"))
