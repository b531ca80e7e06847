"""Waits until what was started is well: the containers' own health checks, and the answers over HTTP."""

from __future__ import annotations

import json
import threading
import time
from http.client import HTTPException
from typing import Any, Collection, Mapping, Sequence
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from . import content
from .containers import Docker
from .errors import BackupError

__all__ = ["check_urls", "wait"]

_EVERY = 0.25
_ANSWER_SECONDS = 5.0
_MAX_ANSWER = 1024 * 1024


def check_urls(checks: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a health check that could never be asked. Raises BackupError."""
    for check in checks:
        url = str(check.get("url"))
        try:
            usable = urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).hostname) and url.isprintable()
        except ValueError:
            usable = False
        if not usable or " " in url:
            raise BackupError(f"stack_health_checks: {check.get('url')!r} is no http:// or https:// address")


def _matches(expected: Any, actual: Any) -> bool:
    """Whether ``actual`` says at least what ``expected`` says."""
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(
            key in actual and _matches(value, actual[key]) for key, value in expected.items()
        )
    return bool(expected == actual)


class _OwnRedirects(HTTPRedirectHandler):
    """Followed on the host that was asked alone: another's answer says nothing of it."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        here, there = urlsplit(req.full_url), urlsplit(urljoin(req.full_url, newurl))
        if there.scheme not in ("http", "https") or there.hostname != here.hostname:
            raise URLError(f"it answers {code}, a redirect to another host, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _get(url: str, seconds: float) -> tuple[int, bytes]:
    """Status and the first of the body. Raises OSError, ValueError or HTTPException."""
    try:
        with build_opener(_OwnRedirects).open(Request(url), timeout=seconds) as response:  # noqa: S310 - check_urls
            return int(response.status), bytes(response.read(_MAX_ANSWER))
    except HTTPError as error:
        with error:
            return error.code, error.read(_MAX_ANSWER)


def _answer(url: str, seconds: float) -> tuple[int, bytes, str]:
    """As ``_get``, or status 0 and why there is no answer, after ``seconds`` whatever the other side does.

    The time limit of a socket begins anew with each byte.
    """
    got: list[tuple[int, bytes, str]] = []

    def get() -> None:
        try:
            got.append((*_get(url, seconds), ""))
        except (OSError, ValueError, HTTPException) as error:
            got.append((0, b"", str(getattr(error, "reason", error)) or type(error).__name__))

    thread = threading.Thread(target=get, daemon=True)
    thread.start()
    thread.join(seconds + 0.5)
    return got[0] if got else (0, b"", f"no whole answer within {seconds:g} s")


def _ask(check: Mapping[str, Any], seconds: float) -> str:
    """What is wrong with one answer; nothing when it is as expected."""
    url, status = check["url"], check.get("status") or 200
    code, body, failed = _answer(url, seconds)
    if failed:
        return f"{url}: {failed}"
    said = body[:200].decode("utf-8", "replace").strip()
    if code != status:
        return f"{url} answers {code}: {said}"
    if check.get("json") is not None:
        try:
            answer = content.parse(body)
        except ValueError:
            return f"{url} answers no JSON: {said}"
        if not _matches(check["json"], answer):
            return f"{url} answers {said}, expected {json.dumps(check['json'])}"
    return ""


def _unwell(docker: Docker, ids: Sequence[str], new: Collection[str]) -> list[str]:
    """Containers that do not run, or whose own health check is not green; ``new`` ones may have been a task."""
    found = docker.inspect(ids)
    unwell = [
        f"{item.name} is {item.state}"
        for item in found
        if item.state != "running" and not (item.finished and item.id in new)
    ]
    unwell += [
        f"{item.name} is {item.health}"
        for item in found
        if item.state == "running" and item.health not in ("", "healthy")
    ]
    if len(found) < len(ids):
        unwell.append("a container is gone")
    return unwell


def wait(
    docker: Docker,
    ids: Sequence[str],
    checks: Sequence[Mapping[str, Any]],
    seconds: float,
    *,
    new: Collection[str] = (),
) -> None:
    """Wait until every container and every answer is well, at most ``seconds``. Raises BackupError with what is not.

    ``new``: those that were made just now, among which a task that came to its good end is well.
    """
    end = time.monotonic() + docker.deadline.left(seconds)
    while True:
        wrong = _unwell(docker, ids, new)
        if not wrong:
            answers = (_ask(check, min(_ANSWER_SECONDS, max(0.1, end - time.monotonic()))) for check in checks)
            wrong = [answer for answer in answers if answer]
        if not wrong:
            return
        if time.monotonic() > end:
            raise BackupError(
                f"not healthy after {seconds:g} s: {'; '.join(wrong)}: see docker logs, or raise restore_health_timeout"
            )
        time.sleep(_EVERY)
