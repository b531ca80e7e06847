"""What of a look at a bucket is well and what is not: findings as ``stack_check`` has them."""

from __future__ import annotations

from typing import Any, Iterator, Mapping

from ..stack_backup.monitor.check import CRITICAL, OK, WARNING, ago
from ..stack_backup.monitor.facts import FUTURE, point_time

__all__ = ["findings"]

Finding = dict[str, Any]
_HOUR = 3600.0
_SHOWN = 3


def _finding(check: str, status: int, message: str) -> Finding:
    return {"check": f"offsite_{check}", "status": status, "message": message}


def _point(told: Mapping[str, Any], now: float, max_age_hours: float) -> Finding:
    whole = [point for point in told["points"] if point["whole"] and not point["safety"]]
    dated = [(point_time(point["id"]), point["id"]) for point in whole]
    past = sorted((when, name) for when, name in dated if when is not None and when <= now + FUTURE)
    cure = "run playbooks/offsite.yml and see what it says"
    if not past:
        return _finding("point", CRITICAL, f"there is no whole recovery point at {told['url']}: {cure}")
    when, name = past[-1]
    age, limit = max(now - when, 0), max_age_hours * _HOUR
    text = f"the newest whole recovery point at {told['url']}, {name}, is {ago(age)} old"
    if age > limit:
        return _finding("point", CRITICAL, f"{text}, more than {ago(limit)}: {cure}")
    how = f"; {told['compared']} of it compared" if name == told["newest"] else ""
    return _finding("point", OK, f"{text}; {len(whole)} of {len(told['points'])} are whole{how}")


def _objects(told: Mapping[str, Any]) -> Iterator[Finding]:
    lost, foreign, left = [], [], 0
    for item in told["problems"]:
        text = f"{item['key']}: {item['message']}"
        if item["problem"] == "foreign":
            foreign.append(text)
        elif item["problem"] in ("damaged", "untrusted") or item["key"].endswith(".json"):
            lost.append(text)
        else:
            left += 1
    if lost:
        yield _finding(
            "objects",
            CRITICAL,
            f"{_some(lost)}: not usable: find what changed it (older versions of the objects?), remove it and copy anew",
        )
    if foreign:
        yield _finding("foreign", WARNING, f"{_some(foreign)}: give each stack a prefix that nothing else writes to")
    if not lost and not foreign:
        more = f", beside {left} of copies that did not end" if left else ""
        yield _finding("objects", OK, f"the objects in the bucket are as their manifests say{more}")


def _some(texts: list[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more


def _guards(told: Mapping[str, Any]) -> Iterator[Finding]:
    bucket = told["bucket"]
    versioning = bucket["versioning"]
    bad = versioning in ("off", "suspended")
    yield _finding(
        "versioning",
        WARNING if bad else OK,
        f"versioning is {versioning}" + (": what is overwritten or deleted is gone: enable it" if bad else ""),
    )
    yield _lock(bucket, told["retention"])
    access, policy = bucket["public_access"], bucket["policy"]
    text = f"public access is {access}, the bucket's policy is {policy}"
    if policy == "public":
        yield _finding("access", CRITICAL, f"{text}: whoever knows the address reads the backups: remove that policy")
    elif access.startswith("not blocked"):
        yield _finding("access", WARNING, f"{text}: block all public access of the bucket")
    else:
        yield _finding("access", OK, text)
    encryption = bucket["encryption"]
    sealed = all(store["encrypted"] for point in told["points"] for store in point["stores"])
    bare = encryption == "none" and not sealed
    yield _finding(
        "encryption",
        WARNING if bare else OK,
        f"default encryption is {encryption}" + (": set it, or backup_age_recipients" if bare else ""),
    )


def _lock(bucket: Mapping[str, str], retention: Mapping[str, Any]) -> Finding:
    if bucket["object_lock"] == "off":
        return _finding(
            "lock",
            WARNING,
            "object lock is off: who takes over the host can delete every copy: make a bucket that has it",
        )
    text = f"object lock is {bucket['object_lock']}, default retention {bucket['default_retention']}"
    if retention["until"]:
        return _finding(
            "lock", OK, f"{text}; the newest point is locked ({retention['mode']}) until {retention['until']}"
        )
    if retention["mode"] and not retention["mode"].startswith("unknown"):
        return _finding("lock", WARNING, f"{text}; the newest point is not locked: set a default retention")
    return _finding(
        "lock", OK, f"{text}; the newest point's lock is {retention['mode']}" if retention["mode"] else text
    )


def findings(told: Mapping[str, Any], now: float, max_age_hours: float) -> list[Finding]:
    """Every finding; ``told`` is the module's answer without them, ``now`` in seconds since 1970."""
    return [_point(told, now, max_age_hours), *_objects(told), *_guards(told)]
