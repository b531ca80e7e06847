"""What guards a bucket: versioning, object lock, public access, encryption. One word or ``unknown: <reason>`` each."""

from __future__ import annotations

from typing import Any, Callable, Sequence, Union

from .bucket import Bucket, Unknown
from .errors import code_of

__all__ = ["NOT_TOLD", "guards", "retention"]

Answer = dict[str, Any]
NOT_TOLD = "unknown: the endpoint does not tell"


def _versioning(told: Answer) -> str:
    return str(told.get("Status") or "off").lower()


def _lock(told: Answer) -> str:
    enabled = (told.get("ObjectLockConfiguration") or {}).get("ObjectLockEnabled")
    return "on" if enabled == "Enabled" else NOT_TOLD


def _default_retention(told: Answer) -> str:
    config = told.get("ObjectLockConfiguration") or {}
    rule = (config.get("Rule") or {}).get("DefaultRetention") or {}
    for unit in ("Days", "Years"):
        if rule.get(unit):
            return f"{rule.get('Mode')} {rule[unit]} {unit.lower()}"
    return "none" if config.get("ObjectLockEnabled") else NOT_TOLD


def _public_access(told: Answer) -> str:
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    block = told.get("PublicAccessBlockConfiguration") or {}
    if not block:
        return NOT_TOLD
    open_ = [name for name in names if not block.get(name)]
    return f"not blocked: {', '.join(open_)}" if open_ else "blocked"


def _policy(told: Answer) -> str:
    public = (told.get("PolicyStatus") or {}).get("IsPublic")
    return NOT_TOLD if public is None else "public" if public else "not public"


def _encryption(told: Answer) -> str:
    for rule in (told.get("ServerSideEncryptionConfiguration") or {}).get("Rules") or ():
        default = rule.get("ApplyServerSideEncryptionByDefault") or {}
        if default.get("SSEAlgorithm"):
            return " ".join(filter(None, (default["SSEAlgorithm"], default.get("KMSMasterKeyID"))))
    return NOT_TOLD


# Name → the call, what is read from its answer, and the error by which an endpoint says that it is not set.
_ASKED: dict[str, tuple[str, Callable[[Answer], str], str, str]] = {
    "versioning": ("get_bucket_versioning", _versioning, "", ""),
    "object_lock": ("get_object_lock_configuration", _lock, "ObjectLockConfigurationNotFoundError", "off"),
    "default_retention": (
        "get_object_lock_configuration",
        _default_retention,
        "ObjectLockConfigurationNotFoundError",
        "none",
    ),
    "public_access": ("get_public_access_block", _public_access, "NoSuchPublicAccessBlockConfiguration", "not blocked"),
    "policy": ("get_bucket_policy_status", _policy, "NoSuchBucketPolicy", "none"),
    "encryption": (
        "get_bucket_encryption",
        _encryption,
        "ServerSideEncryptionConfigurationNotFoundError",
        "none",
    ),
}


def guards(bucket: Bucket) -> dict[str, str]:
    """Every guard by its name. Never fails: keys that read backups need not be allowed to read a bucket's settings."""

    def ask(call: str) -> Union[Answer, Unknown]:
        try:
            return bucket.ask(call)
        except Unknown as unknown:
            return unknown

    calls = sorted({call for call, *_rest in _ASKED.values()})
    answers = dict(zip(calls, bucket.side_by_side(ask, calls)))
    found = {}
    for name, (call, read, code, meaning) in _ASKED.items():
        answer = answers[call]
        if isinstance(answer, Unknown):
            found[name] = meaning if code_of(answer.error) == code else f"unknown: {answer}"
        else:
            found[name] = read(answer)
    return found


def retention(bucket: Bucket, names: Sequence[str]) -> dict[str, Any]:
    """How the objects are locked: ``mode``, and ``until`` when every one of them is.

    A HEAD tells it where the keys may know; only where it does not is the object's retention asked for.
    """

    def ask(name: str) -> tuple[str, str]:
        head = bucket.head(name)
        if head.lock_mode and head.locked_until:
            return head.lock_mode, head.locked_until
        try:
            return bucket.retention(name)
        except Unknown as unknown:
            none = code_of(unknown.error) in ("NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError")
            return ("", "") if none else (f"unknown: {unknown}", "")

    found = bucket.side_by_side(ask, names)
    modes = sorted({mode or "none" for mode, _until in found})
    ends = [until for _mode, until in found]
    return {"mode": ", ".join(modes), "until": min(ends) if ends and all(ends) else None}
