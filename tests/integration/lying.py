"""A proxy before an S3 endpoint that drops, changes, cuts, refuses and dawdles as a remote may.

``with lying.proxy(remote) as liar``: ``liar.remote`` goes through it; ``liar.fault`` is one of the functions below,
for the requests of which ``liar.when(method, path)`` is true; ``liar.seen`` has what was asked.
"""

import contextlib
import hashlib
import http.client
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.receivers import serving


def honest(exchange):
    exchange.pass_on()


def drop(exchange):
    """Thanks for an object that is thrown away, also when asked for it once more: only a listing tells."""
    headers = exchange.server.dropped.get(exchange.path.partition("?")[0])
    if exchange.command == "PUT":
        etag = hashlib.md5(exchange.rfile.read(exchange.size)).hexdigest()
        kept = [(name, value) for name, value in exchange.headers.items() if name.lower().startswith("x-amz-meta-")]
        headers = [("ETag", f'"{etag}"'), ("Content-Length", str(exchange.size)), *kept]
        exchange.server.dropped[exchange.path.partition("?")[0]] = headers
        exchange.answer(200, [("ETag", f'"{etag}"')])
    elif exchange.command == "HEAD" and headers:
        exchange.answer(200, headers)
    else:
        exchange.pass_on()


def alter(exchange):
    """One bit of what is read is another."""
    exchange.pass_on(lambda data: data[:-1] + bytes([data[-1] ^ 1]) if data else data)


def truncate(exchange):
    """What is read ends early, and says so of itself."""
    exchange.pass_on(lambda data: data[: len(data) // 2])


def cut(exchange):
    """The connection ends in mid-transfer, whichever way the data goes."""
    half = exchange.size // 2
    if half:
        with exchange.behind() as connection:
            connection.send(exchange.rfile.read(half))
    else:
        exchange.pass_on(lambda data: data[: len(data) // 2], announced=True)
    exchange.close_connection = True
    with contextlib.suppress(OSError):
        exchange.connection.shutdown(socket.SHUT_RDWR)


def refuse(status, code):
    """A fault: S3's error of that code, such as 403 AccessDenied, 507 QuotaExceeded, 503 SlowDown."""

    def refusal(exchange):
        exchange.rfile.read(exchange.size)
        error = f"<Error><Code>{code}</Code><Message>{code}: the test says so</Message></Error>".encode()
        exchange.answer(status, [("Content-Type", "application/xml")], error)

    return refusal


def slow(seconds):
    """A fault: each answer is that late."""

    def slowly(exchange):
        time.sleep(seconds)
        exchange.pass_on()

    return slowly


class _Exchange(BaseHTTPRequestHandler):
    """One request and its answer."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece: a client that is told no may stop to read

    def _any(self):
        self.size = int(self.headers.get("Content-Length") or 0)
        self.server.seen.append((self.command, self.path))
        fault = self.server.fault if self.server.when(self.command, self.path) else honest
        fault(self)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any

    @contextlib.contextmanager
    def behind(self):
        """The server behind, told the request's head as it came: the signature is over it, its Host too."""
        with contextlib.closing(http.client.HTTPConnection(self.server.behind, timeout=60)) as connection:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            yield connection

    def pass_on(self, change=lambda data: data, announced=False):
        """Ask the server behind, and answer with its data changed; announced: as long as they were before."""
        with self.behind() as connection:
            connection.send(self.rfile.read(self.size))
            response = connection.getresponse()
            data = response.read()
            headers = [(name, value) for name, value in response.getheaders() if name.lower() != "transfer-encoding"]
            if not announced and self.command != "HEAD":
                headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
            self.answer(response.status, headers, change(data))

    def answer(self, status, headers, data=b""):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if "content-length" not in (name.lower() for name, _ in headers):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def handle_expect_100(self):
        goes_on = super().handle_expect_100()
        self.wfile.flush()
        return goes_on

    def log_message(self, *_):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):  # a client that was cut off
        pass


@contextlib.contextmanager
def proxy(remote):
    server = _Server(("127.0.0.1", 0), _Exchange)
    server.behind = urlsplit(remote.options["endpoint"]).netloc
    server.remote = remote.having(endpoint=f"http://127.0.0.1:{server.server_port}")
    server.fault, server.when, server.seen, server.dropped = honest, lambda _method, _path: True, [], {}
    with serving(server):
        yield server
