"""What retention will remove in the days to come is what it then does remove."""

import calendar
import time
from datetime import datetime, timezone

import pytest
from stack_backup import retention
from stack_backup.retention import Point, Policy
from stack_backup.status.preview import DAY, Event, expected, play

NOW = float(calendar.timegm((2026, 11, 27, 12, 0, 0)))
BOTH = frozenset({"postgres", "redis"})


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def name(at):
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(at))


def nightly(count, **given):
    """Points of so many nights, the last one of this night at two."""
    return [
        Point(name(NOW - 10 * 3600 - day * DAY), BOTH, {"postgres": 100, "redis": 10}, **given) for day in range(count)
    ][::-1]


def policy(**counts):
    return Policy.parse({"max_age_hours": 26, **{f"keep_{key}": value for key, value in counts.items()}})


def later(days, backup=10, prune=9):
    """A backup at two and a prune at three of each night to come."""
    return [
        Event(NOW + day * DAY - hours * 3600, job)
        for day in range(1, days + 1)
        for hours, job in ((backup, "backup"), (prune, "prune"))
    ]


def test_each_night_one_goes():
    points = nightly(7)
    told = play(points, policy(daily=7), later(3), NOW)
    assert {point: at for point, (at, _) in told.goes.items()} == {
        points[day].id: NOW + (day + 1) * DAY - 9 * 3600 for day in range(3)
    }
    assert {why for _, why in told.goes.values()} == {"no rule keeps it"}
    assert told.held == "" and told.keep[points[-1].id].startswith("newest, daily 2026-11-27")


def test_it_is_what_retention_then_does():
    """The days are lived through: each prune by itself, with the points that are there then."""
    rules = policy(daily=7, weekly=4, monthly=3)
    points = nightly(150)
    told = play(points, rules, later(30), NOW)
    left, gone = list(points), {}
    for event in later(30):
        if event.job == "backup":
            left.append(Point(name(event.at), BOTH, {"postgres": 100, "redis": 10}))
        else:
            now = datetime.fromtimestamp(event.at + 1, timezone.utc)
            removed = retention.plan(left, rules, now).remove
            gone.update(dict.fromkeys(removed, event.at))
            left = [point for point in left if point.id not in removed]
    ours = {point.id for point in points}
    assert {point: at for point, (at, _) in told.goes.items()} == {key: at for key, at in gone.items() if key in ours}
    assert len(told.goes) > 130


def test_a_drill_to_come_lets_the_drilled_one_go():
    points = nightly(9)
    points[0] = Point(points[0].id, BOTH, {"postgres": 100, "redis": 10}, verified=BOTH)
    rules = policy(daily=2)
    assert points[0].id not in play(points, rules, later(3), NOW).goes
    drill = Event(NOW + DAY - 9.5 * 3600, "verify")
    goes = play(points, rules, sorted([*later(3), drill]), NOW).goes
    assert goes[points[0].id][0] == NOW + DAY - 9 * 3600


def test_a_safety_backup_and_an_incomplete_point_go_by_their_age():
    points = nightly(5)
    points.append(Point(name(NOW - 6 * DAY + 60), BOTH, {"postgres": 100, "redis": 10}, safety=True))
    points.append(Point(name(NOW - 5 * DAY + 60), BOTH, {"postgres": 100}, fault="incomplete, redis refused"))
    told = play(points, policy(daily=30), later(5), NOW)
    assert {key: why for key, (_, why) in told.goes.items()} == {
        points[-2].id: "a restore's safety backup: older than 7d",
        points[-1].id: "incomplete, redis refused: older than 7d",
    }


def test_what_holds_retention_now_is_told_and_may_pass():
    points = [point for point in nightly(5) if point.id < name(NOW - 40 * 3600)]
    told = play(points, policy(daily=1), later(2), NOW)
    assert "more than retention_max_age_hours" in told.held
    assert set(told.goes) == {point.id for point in points}  # the next backup is new again
    assert not play(points, policy(daily=1), [event for event in later(2) if event.job == "prune"], NOW).goes


def test_the_runs_to_come_are_those_of_the_crontab():
    scheduled = {"backup": ["17 2 * * *"], "prune": ["17 * * * *"], "verify": ["17 4 * * 0"], "check": ["* * * * *"]}
    events, supposed = expected(scheduled, NOW - DAY, NOW, 7)
    jobs = [event.job for event in events]
    assert not supposed and (jobs.count("backup"), jobs.count("verify")) == (7, 1)
    assert jobs.count("prune") == 8 and "check" not in jobs  # one of each calendar day
    assert events == sorted(events) and all(NOW < event.at <= NOW + 7 * DAY for event in events)


def test_without_a_schedule_each_day_brings_a_point():
    events, supposed = expected({}, NOW - 3600, NOW, 3)
    assert supposed
    assert [(event.at - NOW, event.job) for event in events] == [
        (day * DAY - 3600, job) for day in (1, 2, 3) for job in ("backup", "prune")
    ]
    # A prune of the same second counts the point that was taken then.
    assert play(nightly(2), policy(daily=2), events, NOW).goes[nightly(2)[0].id][0] == NOW + DAY - 3600
    assert expected({"backup": ["not a time at all"]}, NOW, NOW, 3) == ([], False)


def test_no_point_at_all():
    told = play([], policy(daily=7), later(3), NOW)
    assert told.goes == {} and "there is no good recovery point" in told.held
