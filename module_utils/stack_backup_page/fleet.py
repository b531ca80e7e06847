"""What is said of each stack in one line, the same on the terminal and on the page; pure functions."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence

from ..stack_backup.monitor.check import OK, UNKNOWN, ago, worst
from ..stack_backup.monitor.facts import point_time
from ..stack_backup.report import size_text

__all__ = ["COLUMNS", "FAILS", "VERDICTS", "Stack", "clock", "counts", "day", "fleet"]

VERDICTS = ("critical", "unreachable", "unknown", "warning", "ok")  # the worst first
FAILS = VERDICTS[:3]
WORDS = ("ok", "warning", "critical", "unknown")  # a finding's status
COLUMNS = ("Verdict", "Newest point", "Size", "Trend", "Last drill", "Offsite", "Next backup")


def clock(at: float) -> str:
    """A moment in UTC."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))


def day(text: str) -> str:
    """``20261124`` as a date."""
    return "-".join(part for part in (text[:4], text[4:6], text[6:8]) if part)


@dataclass(frozen=True)
class Stack:
    """One stack: what was found and told of it."""

    host: str
    name: str
    reachable: bool
    failure: str
    findings: Sequence[Mapping[str, Any]]
    told: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        if not self.reachable:
            return "unreachable"
        if self.failure:
            return "critical"
        return WORDS[worst(self.findings) if self.findings else UNKNOWN]

    @property
    def title(self) -> str:
        """The stack as people know it."""
        return self.host if self.name == self.host else f"{self.host} ({self.name})"

    def bad(self) -> list[tuple[str, str]]:
        """What is not well: word and sentence, the worst first."""
        order = sorted(self.findings, key=lambda item: -VERDICTS[::-1].index(WORDS[item["status"]]))
        found = [
            (WORDS[item["status"]], f"{item['check']}: {item['message']}") for item in order if item["status"] != OK
        ]
        if self.failure:
            found.insert(0, (self.verdict, self.failure))
        if not found and self.verdict != "ok":
            found.append((self.verdict, "nothing was found out: see what the playbook says of this host"))
        return found

    def well(self) -> list[str]:
        """What is well."""
        return [f"{item['check']}: {item['message']}" for item in self.findings if item["status"] == OK]

    def cells(self) -> dict[str, str]:
        """One line of all, by COLUMNS."""
        texts = (
            self.verdict,
            self._newest(),
            self._size(),
            self._trend(),
            self._drill(),
            self._offsite(),
            self._next(),
        )
        return dict(zip(COLUMNS, texts))

    def since(self, at: Optional[float]) -> str:
        """How long ago, by the clock of the stack's host."""
        return ago(max(float(self.told["at"]) - at, 0)) if at else ""

    def _newest(self) -> str:
        newest = self.told.get("newest")
        return self.since(point_time(newest["id"])) if newest else "none" if self.told else ""

    def _size(self) -> str:
        newest = self.told.get("newest")
        return size_text(newest["bytes"]) if newest else ""

    def _trend(self) -> str:
        trend = self.told.get("trend")
        return f"{round(trend['change'], 2) + 0.0:+.0%}" if trend else ""  # no -0%

    def _drill(self) -> str:
        drills = self.told.get("drills") or []
        if not drills:
            return "never" if self.told else ""
        last = drills[-1]
        took = f", took {ago(last['seconds'])}" if last["ok"] else ", FAILED"
        return f"{self.since(last['at'])} ago{took}"

    def _offsite(self) -> str:
        offsite = self.told.get("offsite")
        if not offsite:
            return "no remote" if self.told else ""
        if not offsite["at"]:
            return "never copied"
        lacking = f", {offsite['lacking']} lacking" if offsite["lacking"] else ""
        return f"{offsite['points']} points, {self.since(offsite['at'])} ago{lacking}"

    def _next(self) -> str:
        at = self.told.get("next", {}).get("backup")
        return f"in {ago(max(at - float(self.told['at']), 0))}" if at else "not scheduled" if self.told else ""


def fleet(given: Sequence[Mapping[str, Any]]) -> list[Stack]:
    """The stacks in the parameters of status_report: the worst first, then by name."""
    stacks = [
        Stack(
            host=item["host"],
            name=item.get("stack") or item["host"],
            reachable=bool(item["reachable"]),
            failure=item["failure"] or "",
            findings=item["findings"] or [],
            told=item["told"] or {},
        )
        for item in given
    ]
    return sorted(stacks, key=lambda stack: (VERDICTS.index(stack.verdict), stack.host))


def counts(stacks: Sequence[Stack]) -> list[tuple[str, int]]:
    """How many there are of each verdict that there is."""
    found = [(verdict, sum(stack.verdict == verdict for stack in stacks)) for verdict in VERDICTS]
    return [(verdict, number) for verdict, number in found if number]
