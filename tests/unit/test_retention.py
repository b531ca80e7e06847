"""The retention plan over random histories, against a second, slower reading of its rules."""

from datetime import datetime, timedelta, timezone
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stack_backup.retention import Point, Policy, plan

settings.register_profile(
    "retention",
    max_examples=10_000,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MANY = settings.get_profile("retention")
UTC = timezone.utc
BOTH = frozenset({"postgres", "redis"})
SETS = [BOTH, frozenset({"redis"}), frozenset({"postgres"}), BOTH | {"cache"}]
# Clocks that change by an hour, by half an hour, over midnight (St. John's until 2011), over the date line, and never.
ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia", "Asia/Kathmandu"]
# Moments around which histories lie: nothing special, a leap day, a year's end, changes of clocks.
BASES = [
    datetime(2026, 11, 24, 2, 15),
    datetime(2024, 2, 29, 23, 59),
    datetime(2021, 1, 3, 23, 30),
    datetime(2026, 10, 25, 1, 0),
    datetime(2026, 4, 4, 15, 0),
    datetime(2010, 11, 7, 2, 31),
    datetime(2011, 12, 31, 9, 0),
]
RULES = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
UNITS = (1, 60, 1800, 3600, 86400, 86400, 86400, 7 * 86400)
DRILLED = (frozenset(), frozenset(), BOTH | {"cache"}, frozenset({"redis"}), frozenset({"postgres"}))
KINDS = ("good",) * 5 + ("fault", "safety", "begun")


@st.composite
def histories(draw, newest_good=True):
    """Points, a policy, and now. Hypothesis draws how many points and a seed, and shrinks both: its own numbers are for the
    most part small and equal, which makes ten thousand histories of nearly no points.
    """
    count = draw(st.integers(1, 25))
    dice = Random(draw(st.integers(0, 2**64 - 1)))  # noqa: S311
    now = dice.choice(BASES).replace(tzinfo=UTC) + timedelta(seconds=dice.randrange(7200))
    at, points = now - timedelta(seconds=dice.randrange(3600)), []
    for _ in range(count):
        stores = dice.choice([BOTH] * 12 + SETS)
        kind = dice.choice(KINDS) if points or not newest_good else "good"
        points.append(
            Point(
                id=at.strftime("%Y%m%d-%H%M%S"),
                stores=stores,
                sizes=dict.fromkeys(sorted(stores)[:1] if kind == "fault" else stores, 1000),
                fault="incomplete" if kind == "fault" else "",
                verified=dice.choice(DRILLED) & stores,
                safety=kind == "safety",
                begun=kind == "begun",
                pinned=dice.choice([""] * 15 + ["a restore may need it"]),
            )
        )
        unit = dice.choice(UNITS)
        at -= timedelta(seconds=unit * dice.randint(1, 5 if unit > 3600 else 60))
    if dice.randrange(10) == 0:
        points.append(Point(id=(now + timedelta(days=3)).strftime("%Y%m%d-%H%M%S"), stores=BOTH, sizes={}))
    counts = {rule: max(0, dice.randint(-4, 8)) for rule in RULES}
    within = timedelta(hours=dice.randint(1, 960)) if dice.randrange(2) else None
    if not any(counts.values()) and not within:
        counts["daily"] = 7
    return points, Policy(counts=counts, within=within, zone=zone(dice.choice(ZONES))), now


def zone(name):
    return UTC if name == "UTC" else ZoneInfo(name)


def time(point):
    return datetime.strptime(point.id, "%Y%m%d-%H%M%S").replace(tzinfo=UTC)


def period(rule, at, tz):
    """The period of a time, as numbers: not how the engine names it."""
    local = at.astimezone(tz)
    return {
        "last": at,
        "hourly": (local.date(), local.hour, local.utcoffset()),
        "daily": local.date(),
        "weekly": local.date() - timedelta(days=local.weekday()),
        "monthly": (local.year, local.month),
        "yearly": local.year,
    }[rule]


def newest_of_periods(points, rule, count, tz):
    """The newest point of each of the last periods that have one, told by their newest points."""
    best = {}
    for point in points:
        key = period(rule, time(point), tz)
        if key not in best or point.id > best[key].id:
            best[key] = point
    return sorted(best.values(), key=lambda item: item.id)[-count:] if count else []


def good_of(points, now):
    return [point for point in points if point.good and time(point) <= now]


@pytest.mark.timeout(900)
@settings(MANY)
@given(histories())
def test_the_invariants_hold_in_ten_thousand_histories(history):
    points, policy, now = history
    answer = plan(points, Policy(**{**vars(policy), "force": True}), now)
    by_id = {point.id: point for point in points}
    good = good_of(points, now)
    newest = max(good, key=lambda item: item.id)

    # Each point has one fate, with a reason.
    assert set(answer.keep) | set(answer.remove) == set(by_id) and not set(answer.keep) & set(answer.remove)
    assert all(reasons and all(reasons) for reasons in answer.keep.values()) and all(answer.remove.values())
    # The newest good point, and the newest verified one, whatever is held against them.
    assert newest.id in answer.keep
    verified = [point.id for point in good if point.verified >= point.stores]
    assert not verified or max(verified) in answer.keep
    for store in BOTH:
        having = [point.id for point in good if store in point.verified]
        assert not having or max(having) in answer.keep
    # The last copy of a store's data never goes.
    for store in {name for point in points for name in point.sizes}:
        having = {point.id for point in points if store in point.sizes and not point.begun}
        assert not having or having & set(answer.keep)
    # What is pinned, or of the future, stays.
    assert all(point.id in answer.keep for point in points if point.pinned or time(point) > now)
    # What is not good and young stays; only then does it depend on now.
    for point in points:
        if not point.good and not point.begun and time(point) <= now and now - time(point) <= policy.incomplete:
            assert point.id in answer.keep
    # The order in which points come says nothing.
    unforced = plan(points[::-1], policy, now)
    assert unforced == plan(points[1::2] + points[::2], policy, now)
    assert unforced.remove == ({} if unforced.held else answer.remove)
    # A second run on what is left finds nothing to do, and gives the same reasons.
    left = [point for point in points if point.id in answer.keep]
    again = plan(left, Policy(**{**vars(policy), "force": True}), now)
    assert not again.remove and again.keep == answer.keep
    each_rule_keeps_as_many_as_it_says(answer, points, policy, now)


def each_rule_keeps_as_many_as_it_says(answer, points, policy, now):
    good = good_of(points, now)
    expected = set()
    for stores in {point.stores for point in good}:
        having = [point for point in good if point.stores >= stores]
        for rule, count in policy.counts.items():
            chosen = newest_of_periods(having, rule, count, policy.zone)
            periods = {period(rule, time(point), policy.zone) for point in having}
            assert len(chosen) == min(count, len(periods))
            expected |= {(point.id, rule) for point in chosen}
        if policy.within:
            end = max(map(time, having)) - policy.within
            expected |= {(point.id, "within") for point in having if time(point) > end}
    told = {
        (name, rule)
        for name, reasons in answer.keep.items()
        for rule in (*RULES, "within")
        for reason in reasons
        if reason.startswith(rule)
    }
    assert told == expected
    # A point that goes is kept by no rule.
    assert not {name for name, _ in expected} & set(answer.remove)


@settings(MANY, max_examples=1000)
@given(histories(), st.sampled_from(RULES), st.integers(1, 5))
def test_more_to_keep_never_removes_more(history, rule, more):
    points, policy, now = history
    counts = {**policy.counts, rule: policy.counts[rule] + more}
    assert set(plan(points, policy, now).keep) <= set(
        plan(points, Policy(**{**vars(policy), "counts": counts}), now).keep
    )
    wider = Policy(**{**vars(policy), "within": (policy.within or timedelta()) + timedelta(days=more)})
    assert set(plan(points, policy, now).keep) <= set(plan(points, wider, now).keep)


@settings(MANY, max_examples=1000)
@given(histories(newest_good=False))
def test_nothing_goes_after_a_newest_point_that_is_not_good(history):
    points, policy, now = history
    past = [point for point in points if time(point) <= now and not point.safety and not point.begun]
    if past and max(past, key=lambda item: item.id).fault:
        answer = plan(points, policy, now)
        assert answer.held and not answer.remove


@settings(MANY, max_examples=1000)
@given(histories(), st.integers(1, 4000))
def test_time_alone_removes_nothing_good(history, days):
    points, policy, now = history
    forced = Policy(**{**vars(policy), "force": True})
    kept = plan(points, forced, now).keep
    left = [point for point in points if point.id in kept and time(point) <= now]
    gone = plan(left, forced, now + timedelta(days=days)).remove
    assert not gone.keys() & {point.id for point in left if point.good}


def daily(days, end=datetime(2026, 11, 24, 2, 15, tzinfo=UTC), **more):
    return [
        Point(
            id=(end - timedelta(days=day)).strftime("%Y%m%d-%H%M%S"),
            stores=BOTH,
            sizes=dict.fromkeys(BOTH, 1000),
            **more,
        )
        for day in range(days)
    ], end


def test_ninety_days_as_a_person_counts_them():
    points, now = daily(90)
    answer = plan(points, Policy(counts={"daily": 7, "weekly": 4, "monthly": 3}), now)
    assert sorted(answer.keep) == [
        f"{day}-021500"
        # September's and October's last; three Sundays before the seven days, the newest of which is a Sunday too.
        for day in ["20260930", "20261031", "20261108", "20261115", *range(20261118, 20261125)]
    ]
    assert answer.keep["20261124-021500"] == [
        "newest",
        "daily 2026-11-24",
        "weekly 2026-W48",
        "monthly 2026-11",
    ]


def test_the_repeated_hour_is_two_hours_and_a_local_day_is_one_day():
    ids = [
        "20261024-213000",
        "20261024-223000",
        "20261024-233000",
        "20261025-003000",
        "20261025-013000",
        "20261025-023000",
    ]
    points = [Point(id=name, stores=BOTH, sizes=dict.fromkeys(BOTH, 1)) for name in ids]
    now = datetime(2026, 10, 25, 3, tzinfo=UTC)

    def kept(zone_name, **counts):
        return sorted(plan(points, Policy(counts=counts, zone=zone(zone_name)), now).keep)

    # Berlin: 02:30 summer time and 02:30 winter time are an hour apart.
    assert kept("Europe/Berlin", hourly=3) == ids[3:]
    assert kept("Europe/Berlin", daily=2) == [ids[0], ids[5]]
    assert kept("UTC", daily=2) == [ids[2], ids[5]]


def test_a_date_that_comes_twice_is_one_day():
    # St. John's, 7 November 2010: at 00:01 the clocks went back to 23:01 of the 6th.
    ids = ["20101107-021500", "20101107-023030", "20101107-030000", "20101107-040000"]
    points = [Point(id=name, stores=BOTH, sizes=dict.fromkeys(BOTH, 1)) for name in ids]
    local = [
        datetime.strptime(name, "%Y%m%d-%H%M%S").replace(tzinfo=UTC).astimezone(ZoneInfo("America/St_Johns"))
        for name in ids
    ]
    assert [at.day for at in local] == [6, 7, 6, 7]
    policy = Policy(counts={"daily": 5}, zone=ZoneInfo("America/St_Johns"))
    assert sorted(plan(points, policy, datetime(2010, 11, 7, 5, tzinfo=UTC)).keep) == ids[2:]


@pytest.mark.parametrize("newest, share, held", [(499, 0.5, True), (500, 0.5, False), (499, 0, False), (999, 1, True)])
def test_how_small_is_suspicious(newest, share, held):
    points, now = daily(20)
    # The seven before it count: what was small long ago hides nothing.
    sizes = [newest, *[1000] * 7, *[1] * 12]
    points = [Point(id=point.id, stores=BOTH, sizes={"redis": size}) for point, size in zip(points, sizes)]
    assert bool(plan(points, Policy(counts={"daily": 7}, min_share=share), now).held) is held


def test_a_clock_that_jumped_ahead_removes_nothing():
    points, now = daily(20)
    answer = plan(points, Policy(counts={"daily": 3}, max_age=timedelta(hours=26)), now + timedelta(days=365))
    assert "8760.0 hours old" in answer.held and not answer.remove


def test_a_newest_point_that_is_not_good_does_not_age_into_one_that_does_not_matter():
    points, now = daily(20)
    points[0] = Point(id=points[0].id, stores=BOTH, sizes={"redis": 1000}, fault="incomplete, store postgres failed")
    answer = plan(points, Policy(counts={"daily": 3}), now + timedelta(days=30))
    assert "20261124-021500 is the newest of its stores and not good: incomplete" in answer.held and not answer.remove


def test_a_clock_that_was_set_back_removes_nothing_newer():
    points, now = daily(20)
    answer = plan(points, Policy(counts={"daily": 3}), now - timedelta(days=10))
    assert len(answer.remove) == 7 and all("of the future" in answer.keep[point.id][0] for point in points[:10])
