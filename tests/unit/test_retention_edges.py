"""The retention plan to the second and to the word: where each limit lies, what each fate is called, what a policy takes."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from stack_backup.catalog import Backup, Catalog
from stack_backup.errors import BackupError
from stack_backup.retention import Plan, Point, Policy, is_stale, plan, points_of

BOTH = frozenset({"postgres", "redis"})
NOW = datetime(2026, 11, 24, 2, 15, tzinfo=timezone.utc)
SECOND = timedelta(seconds=1)


def taken(age=timedelta(), stores=BOTH, **more):
    sizes = more.pop("sizes", dict.fromkeys(stores, 1000))
    return Point(id=(NOW - age).strftime("%Y%m%d-%H%M%S"), stores=stores, sizes=sizes, **more)


def fate(points, point, **policy):
    answer = plan(points, Policy(**{"counts": {"last": 1}, "force": True, **policy}), NOW)
    return answer.keep.get(point.id) or answer.remove[point.id]


def test_every_reason_to_keep_a_point_comes_in_the_same_order_and_words():
    counts = dict.fromkeys(("last", "hourly", "daily", "weekly", "monthly", "yearly"), 1)
    whole = taken(verified=BOTH)
    assert fate([whole], whole, counts=counts, within=timedelta(days=2)) == [
        "newest",
        "newest verified",
        "last",
        "hourly 2026-11-24T02+0000",
        "daily 2026-11-24",
        "weekly 2026-W48",
        "monthly 2026-11",
        "yearly 2026",
        "within 2d",
    ]
    partly = taken(verified=frozenset({"redis"}))
    assert fate([partly], partly) == ["newest", "newest verified redis", "last"]


def test_what_no_rule_judges_is_called_by_its_name():
    newest, old = taken(), taken(timedelta(days=30))
    assert fate([newest, old], old) == "no rule keeps it"
    begun = taken(timedelta(days=1), begun=True)
    assert fate([newest, begun], begun) == "its removal was interrupted"
    future = taken(-SECOND)
    assert fate([newest, future], future) == ["it is of the future: the clock was set back"]
    for name in ("20261399-256199", "19691231-235959"):
        odd = Point(id=name, stores=BOTH, sizes={})
        assert fate([newest, odd], odd) == ["its id is no time"]
    for name in ("19700101-000000", "19700615-120000"):
        first = Point(id=name, stores=BOTH, sizes={})
        assert fate([newest, first], first) == "no rule keeps it"


def test_within_reaches_to_the_second():
    newest, inside, outside = taken(), taken(timedelta(hours=36) - SECOND), taken(timedelta(hours=36))
    answer = plan([newest, inside, outside], Policy(counts={}, within=timedelta(hours=36), force=True), NOW)
    assert answer.keep == {newest.id: ["newest", "within 36h"], inside.id: ["within 36h"]}


@pytest.mark.parametrize(
    "kind, named, limit",
    [({"safety": True}, "a restore's safety backup", "3d"), ({"fault": "incomplete"}, "incomplete", "36h")],
)
def test_what_is_not_good_has_its_own_time_to_the_second(kind, named, limit):
    own = {"safety": timedelta(days=3), "incomplete": timedelta(hours=36)}
    age = own[next(iter(kind)).replace("fault", "incomplete")]
    young, old = taken(age, **kind), taken(age + SECOND, **kind)
    assert fate([taken(), young], young, **own) == [f"{named}: stays for {limit}"]
    assert fate([taken(), old], old, **own) == f"{named}: older than {limit}"
    assert fate([taken(stores=frozenset({"cache"})), old], old, **own) == [
        f"{named}: no newer good point has what it has"
    ]


def test_a_plan_that_is_held_keeps_everything_and_says_all_that_is_wrong():
    points = [taken(timedelta(days=day), sizes=dict.fromkeys(BOTH, 1000 if day > 2 else 100)) for day in (2, 3, 4)]
    answer = plan(points, Policy(counts={"last": 1}, max_age=timedelta(hours=26)), NOW)
    newest = points[0].id
    assert answer.held == (
        f"the newest good recovery point, {newest}, is 48.0 hours old, more than retention_max_age_hours (26h); "
        f"store postgres has 100 bytes in recovery point {newest}, less than 0.5 (retention_min_share) of 1000, "
        "the median of the 2 before it; "
        f"store redis has 100 bytes in recovery point {newest}, less than 0.5 (retention_min_share) of 1000, "
        "the median of the 2 before it"
    )
    assert answer.remove == {} and answer.keep == {
        newest: ["newest", "last"],
        **{point.id: ["nothing goes now (no rule keeps it)"] for point in points[1:]},
    }


def test_no_good_point_holds_everything():
    old = taken(timedelta(days=30), fault="incomplete")
    answer = plan([old], Policy(counts={"last": 1}), NOW)
    assert answer.held == "there is no good recovery point up to now" and not answer.remove


@pytest.mark.parametrize("late, held", [(timedelta(), False), (SECOND, True)])
def test_how_old_the_newest_may_be_to_the_second(late, held):
    newest = taken(timedelta(hours=26) + late)
    assert bool(plan([newest], Policy(counts={"last": 1}, max_age=timedelta(hours=26)), NOW).held) is held


@pytest.mark.parametrize("late, held", [(timedelta(), True), (SECOND, False)])
def test_a_fault_before_the_newest_good_point_holds_for_its_time_to_the_second(late, held):
    """The newest of its stores: only redis has been backed up since."""
    fault = taken(timedelta(days=7) + late, fault="incomplete")
    points = [taken(stores=frozenset({"redis"})), fault]
    assert bool(plan(points, Policy(counts={"last": 1}), NOW).held) is held


@pytest.mark.parametrize("late, stale", [(timedelta(), False), (SECOND, True)])
def test_what_is_older_than_a_day_is_stale(late, stale):
    assert is_stale(taken(timedelta(days=1) + late).id, NOW) is stale


def test_a_policy_is_what_its_parameters_say():
    given = {
        "keep_last": None,
        "keep_daily": 7,
        "keep_within": "36h",
        "keep_incomplete": "2w",
        "keep_safety": "3d",
        "timezone": "Europe/Berlin",
        "min_share": 1,
        "max_age_hours": 0,
        "force": True,
    }
    none = dict.fromkeys(("last", "hourly", "daily", "weekly", "monthly", "yearly"), 0)
    assert Policy.parse(given, "offsite") == Policy(
        counts={**none, "daily": 7},
        prefix="offsite",
        within=timedelta(hours=36),
        zone=ZoneInfo("Europe/Berlin"),
        incomplete=timedelta(weeks=2),
        safety=timedelta(days=3),
        max_age=None,
        min_share=1.0,
        force=True,
    )
    assert Policy.parse({"keep_within": "1d"}) == Policy(
        counts=none, within=timedelta(days=1), max_age=timedelta(hours=26)
    )
    assert Policy.parse({"keep_daily": 1, "timezone": "UTC"}).zone is timezone.utc  # whatever the host's own zone is


@pytest.mark.parametrize("name", ["max_age_hours", "min_share"])
def test_a_yes_is_no_number(name):
    with pytest.raises(BackupError, match=rf"^retention_{name} is True: give a number from 0 \(never asks\) to "):
        Policy.parse({"keep_daily": 7, name: True})


def test_an_unknown_time_zone_comes_with_its_cure():
    with pytest.raises(BackupError) as caught:
        Policy.parse({"keep_daily": 7, "timezone": "Mars/Olympus"})
    assert str(caught.value) == (
        "retention_timezone is 'Mars/Olympus', which this host does not know: "
        "take a name as in 'Europe/Berlin', and install tzdata there"
    )


@pytest.mark.parametrize("name", ["last", "hourly", "daily", "weekly", "monthly", "yearly", "within"])
def test_a_policy_is_off_only_when_it_keeps_nothing(name):
    assert Policy.is_off({}) and Policy.is_off({"keep_daily": 0, "keep_within": ""})
    assert not Policy.is_off({f"keep_{name}": 1})


def test_a_plan_that_is_held_is_refused_with_the_way_out():
    error = Plan(held="this is wrong").refusal(Policy(counts={}, prefix="offsite"), changed=False)
    assert str(error) == (
        "nothing was removed, because this is wrong. Mend what is wrong and take a new recovery point "
        "(playbooks/backup.yml); if it is as it should be, prune once with -e offsite_force=true"
    )
    assert error.details["changed"] is False


def backup(store, point, stores=("redis",), verified=None):
    manifest = {"point": {"id": point, "stores": list(stores)}, "artifact": {"size": 5}}
    return Backup(store, point, Path(f"/b/{store}/{store}-{point}.rdb"), manifest, verified)


def test_what_a_catalog_has_as_points():
    whole, broken, unread, unsigned, begun, needed = (f"20261124-02000{number}" for number in range(6))
    found = Catalog(
        points={
            whole: {"redis": backup("redis", whole, verified={"ok": True})},
            needed: {"redis": backup("redis", needed, verified={"ok": False})},
        },
        broken={broken: {"redis": backup("redis", broken)}},
        unreadable={unread: "redis-x.json: the manifest can't be read"},
        untrusted={unsigned: {"redis": backup("redis", unsigned)}},
        begun={begun},
    )
    redis = frozenset({"redis"})
    assert points_of(found, {needed: "a restore may need it"}) == [
        Point(id=whole, stores=redis, sizes={"redis": 5}, verified=redis),
        Point(id=broken, stores=redis, sizes={}, fault="store redis is damaged"),
        Point(
            id=unread,
            stores=frozenset(),
            sizes={},
            fault="redis-x.json: the manifest can't be read",
            pinned="it may not be ours, see what it is: redis-x.json: the manifest can't be read",
        ),
        Point(
            id=unsigned,
            stores=frozenset(),
            sizes={},
            fault="store redis is not signed by who may sign",
            pinned="it may not be ours, see what it is, then sign it or remove it by hand",
        ),
        Point(id=begun, stores=frozenset(), sizes={}, begun=True),
        Point(
            id=needed,
            stores=redis,
            sizes={"redis": 5},
            fault="store redis did not restore in its drill",
            pinned="a restore may need it",
        ),
    ]
