"""GET /health: 200 when every check passes, 503 with the reason when one does not."""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from runtime import one_line
from settings import HEALTH_PORT

Check = Callable[[], None]


def _ask(check: Check) -> str:
    try:
        check()
    except Exception as error:  # whatever goes wrong is the answer
        return f"error: {one_line(error)}"
    return "ok"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, checks: Mapping[str, Check]) -> None:
        super().__init__(("", HEALTH_PORT), _Handler)
        self.checks = checks


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        if self.path != "/health":
            self.send_error(404)
            return
        answers = {name: _ask(check) for name, check in self.server.checks.items()}
        body = json.dumps(answers).encode() + b"\n"
        self.send_response(200 if set(answers.values()) == {"ok"} else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a line every two seconds would bury the others."""


def serve(checks: Mapping[str, Check], stop: threading.Event) -> None:
    with _Server(checks) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stop.wait()
        server.shutdown()
