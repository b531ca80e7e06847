"""What counts as a healthy answer."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from stack_backup import health
from stack_backup.containers import Docker
from stack_backup.errors import BackupError
from stack_backup.process import Deadline


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = self.server.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}/health"
    yield server
    server.shutdown()
    server.server_close()


def wait(server, seconds=0.3, **check):
    health.wait(Docker(Deadline(30)), [], [{"url": server.url, **check}], seconds)


@pytest.mark.parametrize(
    ("answer", "check"),
    [
        ((200, b"whatever"), {}),
        ((200, b'{"db": "ok", "more": 1}'), {"json": {"db": "ok"}}),
        ((200, b'{"a": {"b": [1], "c": 2}}'), {"json": {"a": {"b": [1]}}}),
        ((503, b"down"), {"status": 503}),
    ],
)
def test_an_answer_that_says_at_least_what_is_expected_is_healthy(server, answer, check):
    server.answer = answer
    wait(server, **check)


@pytest.mark.parametrize(
    ("answer", "check", "message"),
    [
        ((503, b'{"db": "error"}'), {}, "answers 503"),
        ((200, b'{"db": "error"}'), {"json": {"db": "ok"}}, 'answers .*error.*expected .*"db": "ok"'),
        ((200, b"{}"), {"json": {"db": None}}, "expected"),
        ((200, b"<html>"), {"json": {"db": "ok"}}, "answers no JSON"),
    ],
)
def test_a_red_answer_is_told(server, answer, check, message):
    server.answer = answer
    with pytest.raises(BackupError, match=message):
        wait(server, **check)


def test_an_answer_may_come_late(server):
    server.answer = (503, b"")
    threading.Timer(0.6, lambda: setattr(server, "answer", (200, b""))).start()
    wait(server, seconds=10)


def test_only_http_is_asked():
    with pytest.raises(BackupError, match="no http:// or https:// address"):
        health.check_urls([{"url": "file:///etc/passwd"}])
