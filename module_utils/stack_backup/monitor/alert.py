"""Whom to tell what, and when: on a change, again daily while it is bad, once when all is well again."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Callable, Iterable, Mapping, Optional, Sequence

from ..errors import BackupError
from . import send
from .check import CRITICAL, OK, worst

__all__ = ["Message", "accept", "channels", "due", "hide", "job_due", "job_findings", "pings", "secrets"]

_DAY, _QUIET = 86400.0, 3600.0
_JOB_AGAIN = 12 * 3600.0  # a job that fails every night is told every night, one that fails every quarter is not
_LOG_LINES, _LOG_CHARS, _SUBJECT = 40, 6000, 150
_NAMES = {0: "OK", 1: "WARNING", 2: "CRITICAL", 3: "UNKNOWN"}
_USERINFO = re.compile(r"\b([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s@'\"]+@")
_QUERY = re.compile(r"\b([a-zA-Z][a-zA-Z0-9+.-]*://[^\s?'\"]+\?)[^\s'\"]+")
_ASSIGNED = re.compile(r"(?i)\b((?:\w*(?:password|passwd|secret|token|api_?key)|pgpassword|rediscli_auth)=)[^\s'\"]+")
# What a failed job makes the next check find anyway, and need not be told a second time.
_SAME = {"backup": ("incomplete",), "verify": ("drill",)}
Memory = dict[str, Any]


def secrets(params: Mapping[str, Any]) -> list[str]:
    """Every secret that the parameters give or name; a file that can't be read has none to hide."""
    found = []
    items = [(None, (params.get("email") or {}).get("password_file"))]
    items += [
        (item.get("url"), item.get("url_file"))
        for item in [*(params.get("webhooks") or []), *(params.get("pings") or [])]
    ]
    for value, file in items:
        try:
            found.append(send.secret(value, file))
        except BackupError:
            continue
    return [value for value in found if value]


def hide(text: str, known: Iterable[str]) -> str:
    """A text without the ``known`` secrets, nor users and queries of addresses, nor values of a password's name."""
    for value in sorted(known, key=len, reverse=True):
        text = text.replace(value, "***")
    text = _USERINFO.sub(r"\1***@", text)
    text = _QUERY.sub(r"\1***", text)
    return _ASSIGNED.sub(r"\1***", text)


@dataclass
class Message:
    """What is told. ``kind``: problem, reminder, recovery or job_failed."""

    kind: str
    stack: str
    at: float
    findings: Sequence[Mapping[str, Any]]
    log: Sequence[str] = ()
    known: Sequence[str] = field(default_factory=list, repr=False)  # secrets that must not be in it
    host: str = field(default_factory=platform.node)

    @property
    def _bad(self) -> list[Mapping[str, Any]]:
        return sorted((item for item in self.findings if item["status"]), key=lambda item: item["status"] != CRITICAL)

    def subject(self) -> str:
        """One line."""
        bad = self._bad
        if not bad:
            text = f"OK: {self.stack} on {self.host}: all is well again"
        else:
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            again = "still " if self.kind == "reminder" else ""
            text = f"{again}{_NAMES[worst(bad)]}: {self.stack} on {self.host}: {bad[0]['message']}"
            text = text if len(text) <= _SUBJECT else text[: _SUBJECT - 1] + "…"
            text += more
        return hide(f"[stack-backup] {text}", self.known)

    def tail(self) -> list[str]:
        """The log's last lines."""
        lines = [hide(line.rstrip(), self.known) for line in self.log][-_LOG_LINES:]
        while lines and sum(len(line) + 1 for line in lines) > _LOG_CHARS:
            lines[0] = lines[0][-_LOG_CHARS:]
            if len(lines) == 1:
                break
            del lines[0]
        return lines

    def text(self) -> str:
        """The whole text."""
        lines = [f"{_NAMES[item['status']]} {item['check']}: {hide(item['message'], self.known)}" for item in self._bad]
        lines = lines or ["All checks are well again."]
        if self.log:
            lines += ["", "The log's last lines:", *self.tail()]
        at = datetime.fromtimestamp(self.at, timezone.utc).isoformat(timespec="seconds")
        return "\n".join([*lines, "", f"stack {self.stack} on {self.host}, {at}", "stack-backup status", ""])

    def json(self) -> dict[str, Any]:
        """The message as data."""
        return {
            "kind": self.kind,
            "stack": self.stack,
            "host": self.host,
            "at": datetime.fromtimestamp(self.at, timezone.utc).isoformat(timespec="seconds"),
            "status": worst(self._bad),
            "subject": self.subject(),
            "text": self.text(),
            "findings": [{**item, "message": hide(item["message"], self.known)} for item in self._bad],
            "log": self.tail(),
        }

    def slack(self) -> dict[str, str]:
        """The message as Slack and those that speak its format take it."""
        text = f"{self.subject()}\n```{self.text().strip()}```"
        return {"text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}


def channels(params: Mapping[str, Any]) -> dict[str, Callable[[Message], None]]:
    """The ways to tell a message, by names that stay the same from run to run and hold no secret."""
    found: dict[str, Callable[[Message], None]] = {}
    mail = params.get("email") or {}
    if mail.get("to"):
        found["e-mail"] = lambda message: send.email(mail, message.subject(), message.text())
    for number, hook in enumerate(params.get("webhooks") or [], 1):
        found[f"webhook {number}"] = lambda message, hook=hook: _hook(hook, message)  # type: ignore[misc]
    return found


def _hook(hook: Mapping[str, Any], message: Message) -> None:
    url = send.secret(hook.get("url"), hook.get("url_file"))
    send.post(url, message.slack() if hook.get("format") == "slack" else message.json())


def pings(
    params: Mapping[str, Any], job: Optional[str] = None, event: str = "success", text: str = ""
) -> dict[str, Callable[[], None]]:
    """The dead-man's switches of a job, or of all, as ``channels``."""
    return {
        f"ping {number} of {item['job']}": lambda item=item: send.ping(  # type: ignore[misc]
            send.secret(item.get("url"), item.get("url_file")), event, text
        )
        for number, item in enumerate(params.get("pings") or [], 1)
        if job in (None, item["job"])
    }


def _status(findings: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The status of each check that is not well."""
    bad: dict[str, int] = {}
    for item in findings:
        if item["status"] != OK:
            bad[item["check"]] = worst([item, {"status": bad.get(item["check"], OK)}])
    return bad


def _worse(status: int, than: int) -> bool:
    return status != than and worst([{"status": status}, {"status": than}]) == status


def _lately(now: float, then: float, seconds: float) -> bool:
    """Whether ``then`` is less than ``seconds`` ago; a time of the future, by a clock that was wrong, is not."""
    return 0 <= now - then < seconds


def due(memory: Memory, findings: Sequence[Mapping[str, Any]], now: float) -> str:
    """What a channel, by its memory, is to be told now: problem, reminder, recovery, or nothing.

    A check that goes to and fro is told of once an hour at most, unless it became worse.
    """
    bad, announced, last = _status(findings), memory.get("announced", {}), memory.get("last", {})
    for check, status in bad.items():
        told = last.get(check, {"at": 0.0, "status": OK})
        quiet = _lately(now, told["at"], _QUIET) and not _worse(status, told["status"])
        if _worse(status, announced.get(check, OK)) and not quiet:
            return "problem"
    if announced and not bad:
        return "recovery"
    if announced and not _lately(now, memory.get("sent_at", 0.0), _DAY):
        return "reminder"
    return ""


def accept(memory: Memory, findings: Sequence[Mapping[str, Any]], now: float, kind: str) -> None:
    """Remember what a channel was told; with no ``kind``, what became better meanwhile."""
    bad = _status(findings)
    announced, last = memory.setdefault("announced", {}), memory.setdefault("last", {})
    for check, status in list(announced.items()) if kind != "job_failed" else []:
        if check not in bad:
            del announced[check]
        elif _worse(status, bad[check]):
            announced[check] = bad[check]
    if kind in ("problem", "reminder", "job_failed"):
        memory["sent_at"] = now
        for check, status in bad.items():
            announced[check] = status
            last[check] = {"at": now, "status": status}


def job_due(memory: Memory, job: str, now: float) -> bool:
    """Whether a channel is to be told that a job failed."""
    told = memory.get("last", {}).get(f"job_{job}")
    return f"job_{job}" not in memory.get("announced", {}) or not told or not _lately(now, told["at"], _JOB_AGAIN)


def job_findings(record: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What to tell of a failed job, and what that tells beside itself."""
    job = str(record["job"])
    error = str(record.get("error") or "it says no error").strip()
    mine = {"check": f"job_{job}", "status": CRITICAL, "message": f"job {job} failed: {error}"}
    return [mine], [mine, *({"check": name, "status": CRITICAL, "message": ""} for name in _SAME.get(job, ()))]
