"""The chain: a signed list of the backups that should be here, so that one that was taken away is noticed.

``.chain.json`` in the backup folder holds the list as text, and the text's signature: one file, replaced at once. It is
rewritten under the job's lock, after a backup was published and before any is pruned, so that a crash at any step leaves no
name in it whose backup went by right.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Collection, Iterator, Mapping, Optional

from .artifact import encode, manifest_path, write_json
from .errors import BackupError
from .signing import Key, Signers

__all__ = ["KEPT_LOST", "Chain", "begin", "extend", "load", "lost", "path_of"]

FORMAT = 1
KEPT_LOST = 7 * 86400.0  # seconds for which what is gone stays in the list, and is told of
_REMEMBERED = 100  # lists before
_LARGEST = 64 * 1024 * 1024
_Manifests = Mapping[str, Mapping[str, str]]  # by point and store: sha256 of the manifest


@dataclass(frozen=True)
class Chain:
    """The list. ``gone``: since when (seconds since 1970) points are known to be gone; ``before``: sha256 of the lists before
    it, oldest first; ``digest``: its own, where it was read."""

    stack: str
    serial: int = 0
    at: float = 0.0
    points: dict[str, dict[str, str]] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    digest: str = ""

    def follows(self, digest: str, serial: int) -> bool:
        """Whether it is the list of that digest and number, or one that was written after it."""
        if self.serial - serial > _REMEMBERED:
            return True  # as far as can be told
        return digest in (self.digest, *self.before)

    def told(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "format": FORMAT,
            "chain": {"stack": self.stack, "serial": self.serial, "at": self.at, "before": self.before},
            "points": self.points,
            "gone": self.gone,
        }


def path_of(backup_dir: Path) -> Path:
    """Where it is."""
    return backup_dir / ".chain.json"


def load(backup_dir: Path, trust: Signers, stack: Optional[str]) -> tuple[Optional[Chain], str]:
    """The chain, or why it is none that can be believed; neither where there is none. Raises no error for what it reads."""
    try:
        descriptor = os.open(path_of(backup_dir), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"the chain of recovery points can't be read: {error.strerror}"
    with os.fdopen(descriptor, "rb") as file:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_size > _LARGEST:
            return None, "the chain of recovery points is no file that stack-backup wrote"
        content = file.read(_LARGEST)
    try:
        held = json.loads(content.decode())
        text, signature = held["list"].encode(), held["signature"].encode()
        chain = replace(_parse(json.loads(text)), digest=hashlib.sha256(text).hexdigest())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        return None, f"the chain of recovery points is not as stack-backup writes it: {type(error).__name__} {error}"
    fault = trust.fault(text, signature, chain.stack, chain.at)
    if fault:
        return None, f"the chain of recovery points is not to be believed: {fault}"
    if stack is not None and chain.stack != stack:
        return None, f"the chain of recovery points is of stack {chain.stack}, not {stack}"
    return chain, ""


def _parse(told: Any) -> Chain:
    head = told["chain"]
    if told["format"] != FORMAT:
        raise ValueError(f"it is of format {told['format']}, this program reads {FORMAT}")
    points = {
        str(point): {str(store): str(sha) for store, sha in stores.items()} for point, stores in told["points"].items()
    }
    gone = {str(point): float(at) for point, at in told["gone"].items()}
    at = float(head["at"])
    datetime.fromtimestamp(at, timezone.utc)  # a time that there is
    return Chain(str(head["stack"]), int(head["serial"]), at, points, gone, [str(sha) for sha in head["before"]])


def lost(before: Optional[Chain], after: Optional[Chain], there: _Manifests) -> Iterator[tuple[str, str, str]]:
    """Point, store and what is wrong, of what was listed before and after somebody looked what is ``there``.

    What goes by right leaves the list first: what was listed after the look too was gone without right.
    """
    listed = after.points if after else {}
    for point, stores in (before.points if before else {}).items():
        for store, sha in stores.items():
            found = there.get(point, {}).get(store)
            if found == sha or listed.get(point, {}).get(store) != sha:
                continue
            if found is None:
                yield point, store, "is gone, and no prune removed it: see who did; the remote may have a copy"
            else:
                yield point, store, "is another manifest than was written: see who changed it"


def begin(backup_dir: Path, stack: str, key: Key, now: float) -> None:
    """Make the chain where there is none: who signs has one before the first signed backup."""
    if not os.path.lexists(path_of(backup_dir)):
        _write(backup_dir, Chain(stack, at=now), key)


def extend(
    backup_dir: Path, stack: str, key: Key, now: float, there: _Manifests, without: Collection[str] = ()
) -> None:
    """Add what is ``there`` and not listed, and take out the points that are to go. One that can't be believed is begun anew.

    Raises BackupError where it can't be written; the old one is there then.
    """
    found, _fault = load(backup_dir, key.trust, stack)
    old = found or Chain(stack)
    points = {point: dict(stores) for point, stores in old.points.items() if point not in without}
    for point, stores in there.items():
        if point not in without:
            points[point] = {**stores, **points.get(point, {})}
    gone = {
        point: old.gone.get(point, now)
        for point, stores in points.items()
        if not all(os.path.lexists(manifest_path(backup_dir, store, point)) for store in stores)
    }
    for point in [point for point, since in gone.items() if now - since > KEPT_LOST]:
        del points[point], gone[point]
    new = replace(old, points=points, gone=gone)
    if new != found:
        _write(backup_dir, replace(new, at=now), key)


def _write(backup_dir: Path, chain: Chain, key: Key) -> None:
    before = [*chain.before, *([chain.digest] if chain.digest else [])]
    chain = replace(chain, serial=chain.serial + 1, before=before[-_REMEMBERED:])
    text = encode(chain.told())
    try:
        write_json(path_of(backup_dir), {"list": text.decode(), "signature": key.sign(text).decode()})
    except OSError as error:
        raise BackupError(
            f"the chain of recovery points {path_of(backup_dir)} can't be written: {error.strerror}: mend the backup "
            "folder's disk, owner or mode"
        ) from None
