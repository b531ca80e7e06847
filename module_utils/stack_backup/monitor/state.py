"""What the monitor remembers: two small files in the state folder, and a lock for the one that jobs change too."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional

from .. import content
from ..artifact import hand_over, write_json
from ..chain import KEPT_LOST, Chain
from ..kinds import Kind, mapping, named, seconds, text

__all__ = [
    "CHECK",
    "growth",
    "known_proofs",
    "load",
    "load_alerts",
    "locked",
    "remember_chain",
    "remember_size",
    "save",
    "save_alerts",
]

_ALERTS = "monitor-alerts.json"  # what was told whom and when
CHECK = "monitor-check.json"  # where the digests' sample is, and how the catalog grew
_RUN = Path("/run")  # a disk that is full or only read must not make every check alert again
_WAIT = 60.0  # seconds for another check's alerts to go out
_EVERY, _KEPT = 6 * 3600.0, 60  # a size each six hours, for fifteen days
_SPAN = 86400.0  # a slope of less than a day is none


def load(folder: Path, name: str) -> dict[str, Any]:
    """A file's content; what is not there or can't be read is remembered as nothing."""
    try:
        data = content.load(folder / name)
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def save(folder: Path, name: str, data: dict[str, Any]) -> str:
    """Write a file; the error in words where that fails."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(folder / name, data)
    except OSError as error:
        return (
            f"the state folder {folder} can't be written ({error.strerror}): what jobs did and what was checked "
            "is not remembered there: free its disk, or mend its owner, mode or mount"
        )
    return ""


def _second(folder: Path) -> Path:
    return _RUN / f"stack-backup{str(folder).replace('/', '-')}"


def load_alerts(folder: Path) -> dict[str, Any]:
    """What was told whom: the newer of what the state folder and its stand-in hold."""
    told = [_told(load(place, _ALERTS)) for place in (folder, _second(folder))]
    return max(told, key=lambda item: float(item.get("at", 0.0)))


def _told(found: dict[str, Any]) -> dict[str, Any]:
    """What this program wrote; nothing where it is not of its kind: an alert must not be what a memory stops."""
    whole = all(kind(found[name]) for name, kind in _KINDS.items() if name in found)
    return found if whole else {}


def _is_status(value: Any) -> bool:
    return value in (0, 1, 2, 3)


def _is_last(entry: Any) -> bool:
    return mapping(entry) and seconds(entry.get("at")) and _is_status(entry.get("status"))


def _is_failed(entry: Any) -> bool:
    return mapping(entry) and seconds(entry.get("since")) and text(entry.get("error"))


def _is_channel(memory: Any) -> bool:
    return (
        mapping(memory)
        and named(text, _is_status)(memory.get("announced", {}))
        and named(text, _is_last)(memory.get("last", {}))
        and seconds(memory.get("sent_at", 0.0))
    )


_KINDS: dict[str, Kind] = {
    "at": seconds,
    "channels": named(text, _is_channel),
    "failed": named(text, _is_failed),
    "success": named(text, seconds),
}


def save_alerts(folder: Path, told: dict[str, Any]) -> str:
    """Write what was told whom, where that can be; the error in words where it can't."""
    told["at"] = time.time()
    error = save(folder, _ALERTS, told)
    return error and save(_second(folder), _ALERTS, told) and error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time changes what was told; after a wait, or where no lock can be, it goes on without."""
    descriptor = -1
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / ".monitor.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        hand_over(descriptor, folder)
        end = time.monotonic() + _WAIT
        while time.monotonic() < end:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.1)
    except OSError:
        pass
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def remember_size(memory: dict[str, Any], now: float, size: int) -> None:
    """Note the bytes of all backups, now and then. What a clock that was wrong noted is dropped."""
    history = [item for item in memory.get("history", []) if item[0] <= now]
    if not history or now - history[-1][0] >= _EVERY:
        history.append([now, size])
    memory["history"] = history[-_KEPT:]


def known_proofs(memory: dict[str, Any]) -> list[str]:
    """The proofs of signatures that were made; the memory is not in the backup folder, where somebody else may write."""
    known = memory.get("signatures")
    return [str(proof) for proof in known] if isinstance(known, list) else []


def remember_chain(memory: dict[str, Any], now: float, chain: Optional[Chain]) -> str:
    """Note the chain as it is; that it does not follow the one that was noted, for as long as what is lost is told of.

    The memory is not in the backup folder: who sets that back, chain and all, does not set this back.
    """
    if chain is None:
        return ""
    known = memory.get("chain") or {"serial": 0, "digest": chain.digest, "broken": None}
    broken = known["broken"]
    if not chain.follows(known["digest"], known["serial"]):
        broken = {"from": known["serial"], "to": chain.serial, "at": now}
    if broken and now - broken["at"] > KEPT_LOST:
        broken = None
    memory["chain"] = {"serial": chain.serial, "digest": chain.digest, "broken": broken}
    if not broken:
        return ""
    return (
        f"the chain of recovery points, number {broken['to']}, does not follow the one that was here, number "
        f"{broken['from']}: the backup folder was set back to an older state, or the chain was taken away: see who did, and "
        "compare with the remote what is missing; this is told for a week"
    )


def growth(memory: dict[str, Any]) -> Optional[float]:
    """Bytes per second by which the backups grew, by least squares; None where too little is known."""
    history = memory.get("history", [])
    if not history or history[-1][0] - history[0][0] < _SPAN:
        return None
    middle = sum(when for when, _ in history) / len(history)
    mean = sum(size for _, size in history) / len(history)
    spread = sum((when - middle) ** 2 for when, _ in history)
    return float(sum((when - middle) * (size - mean) for when, size in history) / spread)
