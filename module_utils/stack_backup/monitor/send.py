"""The ways out: SMTP, the local sendmail, HTTP. Each call is bounded in time and raises BackupError in words."""

from __future__ import annotations

import json
import smtplib
import ssl
import threading
import time
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from http.client import HTTPException
from pathlib import Path
from typing import Any, Callable, Mapping, Optional
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit, urlunsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from ..errors import BackupError
from ..process import Deadline, run

__all__ = ["email", "ping", "post", "secret", "side_by_side"]

_SECONDS = 10.0  # for each wait on the other side
_IN_ALL = 30.0  # for everything that goes out at one time
_PORTS = {"none": 25, "starttls": 587, "tls": 465}
_SENDMAIL = "/usr/sbin/sendmail"
_JSON = "application/json"


def secret(value: Optional[str], file: Optional[str]) -> str:
    """A secret as given, or the content of its file; empty when there is neither."""
    if value or not file:
        return value or ""
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise BackupError(f"the secret's file {file} can't be read: {getattr(error, 'strerror', error)}") from None


def side_by_side(sends: Mapping[str, Callable[[], None]]) -> dict[str, str]:
    """Call all at one time, for ``_IN_ALL`` seconds at most; what failed and why, by name."""
    failed = dict.fromkeys(sends, f"no end within {_IN_ALL:g} s")

    def call(name: str, send: Callable[[], None]) -> None:
        try:
            send()
            failed.pop(name, None)
        except BackupError as error:
            failed[name] = str(error)
        except Exception as error:  # an odd answer of one must not keep the others from going out
            failed[name] = f"{type(error).__name__}: {error}"

    # Daemons: a name server that never answers can't be interrupted, and must not hold the job.
    threads = [threading.Thread(target=call, args=item, daemon=True) for item in sends.items()]
    for thread in threads:
        thread.start()
    end = time.monotonic() + _IN_ALL
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(failed)


def email(settings: Mapping[str, Any], subject: str, text: str) -> None:
    """Send a mail by SMTP, or hand it to the local sendmail."""
    message = EmailMessage()
    message["From"] = settings.get("from") or settings["to"][0]
    message["To"] = ", ".join(settings["to"])
    message["Subject"] = " ".join(subject.split())  # one line, whatever an error said
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain="stack-backup.invalid")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    if settings.get("sendmail"):
        result = run([_SENDMAIL, "-t", "-i"], deadline=Deadline(_SECONDS), stdin=message.as_string())
        if result.code != 0:
            raise BackupError(f"sendmail: {result.reason()}")
        return
    if not settings.get("host"):
        raise BackupError("e-mail: give a host (monitor_alert_email.host), or sendmail: true")
    password = secret(None, settings.get("password_file"))
    security = settings.get("security") or "starttls"
    where = (settings["host"], settings.get("port") or _PORTS[security])
    try:
        context = ssl.create_default_context()
        server = (
            smtplib.SMTP_SSL(*where, timeout=_SECONDS, context=context)
            if security == "tls"
            else smtplib.SMTP(*where, timeout=_SECONDS)
        )
        with server:
            if security == "starttls":
                server.starttls(context=context)
            if settings.get("user"):
                server.login(settings["user"], password)
            refused = server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        raise BackupError(f"e-mail by {where[0]}:{where[1]}: {_words(error)}") from None
    if refused:
        raise BackupError(f"e-mail by {where[0]}:{where[1]}: refused for {', '.join(refused)}")


def _words(error: BaseException) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"refused for {', '.join(error.recipients)}"
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        return f"{error.smtp_code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"
    return str(error.reason if isinstance(error, URLError) else error) or type(error).__name__


class _Redirects(HTTPRedirectHandler):
    """Followed for GET, to http and https, never from https to http: an address is a secret."""

    max_redirections = 3

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if req.get_method() != "GET":
            raise BackupError(f"it answers {code}, a redirect, which loses the message: give the address it leads to")
        if new not in ("http", "https") or (old == "https" and new == "http"):
            raise BackupError(f"it answers {code}, a redirect to {new}, which is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    # Without these the base class refuses other schemes by itself, and quotes the address as it does.
    def http_error_302(self, req: Request, fp: Any, code: int, msg: str, headers: Any) -> Any:
        scheme = urlsplit(headers.get("location") or "").scheme
        if scheme not in ("", "http", "https"):
            raise BackupError(f"it answers {code}, a redirect to {scheme}, which is refused")
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _open(request: Request) -> int:
    """The status of the answer."""
    parts = urlsplit(request.full_url)
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPHandler(),
        HTTPSHandler(context=ssl.create_default_context()),
        HTTPDefaultErrorHandler(),
        _Redirects(),
        HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code
    except BackupError as error:
        raise BackupError(f"{parts.scheme}://{parts.hostname}: {error}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise BackupError(f"{parts.scheme}://{parts.hostname}: {_words(error)}") from None


def _request(url: str, body: Optional[bytes], kind: str) -> Request:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url
    except ValueError:
        usable = False
    if not usable:
        raise BackupError("the address is no http:// or https:// one")
    headers = {"User-Agent": "stack-backup"}
    if body is not None:
        headers["Content-Type"] = kind
    return Request(url, body, headers)  # noqa: S310 - http and https only


def post(url: str, data: Mapping[str, Any]) -> None:
    """POST JSON; whatever is no 2xx is an error."""
    _expect(url, _open(_request(url, json.dumps(data).encode(), _JSON)))


def ping(url: str, event: str, text: str = "") -> None:
    """Tell a dead-man's switch: ``event`` is "start", "success" or "fail", the latter with ``text`` as its body.

    As healthchecks.io has it: success is the address itself, the others are below it. A service that knows the
    address only answers 404 to the others; that is no error.
    """
    parts = urlsplit(url)
    if event != "success":
        url = urlunsplit(
            SplitResult(parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{event}", parts.query, parts.fragment)
        )
    body = text.encode("utf-8", "replace") if event == "fail" else None
    status = _open(_request(url, body, "text/plain; charset=utf-8"))
    if event == "success" or status not in (404, 405):
        _expect(url, status)


def _expect(url: str, status: int) -> None:
    if not 200 <= status < 300:
        parts = urlsplit(url)
        raise BackupError(f"{parts.scheme}://{parts.hostname} answers {status}")
