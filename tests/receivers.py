"""Whom alerts reach: a mail server and a web server, small, real, and remembering all that they are told.

``receivers.py SMTP_PORT HTTP_PORT FILE`` is both until it is killed; FILE gets what comes, a line of JSON each.
"""

import base64
import json
import socketserver
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def certificate(folder):
    """A self-made certificate for localhost, one file with its key."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    argv += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(argv, check=True, capture_output=True)
    cert.write_text(cert.read_text() + key.read_text())
    return cert


def _context(cert):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert)
    return context


class _Smtp(socketserver.StreamRequestHandler):
    timeout = 10

    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def secure(self):
        self.request = _context(self.server.cert).wrap_socket(self.request, server_side=True)
        self.connection, self.tls = self.request, True
        self.rfile, self.wfile = self.request.makefile("rb"), self.request.makefile("wb", 0)

    def handle(self):
        self.tls = False
        if self.server.implicit:
            self.secure()
        user, rcpt = None, []
        self.say("220 test")
        while line := self.rfile.readline().decode().strip():
            verb = line.split()[0].upper()
            if verb == "EHLO":
                offers = ["test"] + ["STARTTLS"] * (bool(self.server.cert) and not self.tls) + ["AUTH PLAIN"]
                self.wfile.write(
                    b"".join(f"250{' ' if item == offers[-1] else '-'}{item}\r\n".encode() for item in offers)
                )
            elif verb == "STARTTLS":
                self.say("220 go")
                self.secure()
            elif verb == "AUTH":
                user, password = base64.b64decode(line.split()[2]).decode().split("\0")[1:]
                if (user, password) != self.server.login:
                    return self.say("535 5.7.8 wrong password")
                self.say("235 in")
            elif verb == "RCPT":
                rcpt.append(line.partition(":")[2].strip("<> "))
                self.say("250 ok")
            elif verb == "DATA":
                if self.server.login and not user:
                    return self.say("530 log in first")
                self.say("354 go")
                lines = []
                while (data := self.rfile.readline()) != b".\r\n":
                    lines.append(data[1:] if data.startswith(b"..") else data)
                mail = message_from_bytes(b"".join(lines), policy=policy.default)
                self.server.mails.append({"mail": mail, "to": rcpt, "tls": self.tls, "user": user})
                self.say("250 ok")
            elif verb == "QUIT":
                return self.say("221 bye")
            else:
                self.say("250 ok")
        return None


class _Http(BaseHTTPRequestHandler):
    def _any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.command, self.path, body.decode()))
        status, headers = self.server.answers.get(self.path, (200, {}))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    do_GET = do_POST = _any

    def log_message(self, *_):
        pass


@contextmanager
def serving(server):
    """The server, in a thread, for as long as the block lasts."""
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _SmtpServer(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True

    def handle_error(self, *_):  # a client that does not trust the certificate hangs up
        pass


@contextmanager
def smtp(cert=None, implicit=False, login=None, port=0):
    """A mail server: ``mails`` has what came, ``port`` where it is."""
    server = _SmtpServer(("127.0.0.1", port), _Smtp)
    server.mails, server.cert, server.implicit, server.login = [], cert, implicit, login
    server.port = server.server_address[1]
    with serving(server):
        yield server


@contextmanager
def http(cert=None, port=0):
    """A web server: ``requests`` has what came, ``answers`` what it says by path, ``url`` where it is."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Http)
    server.requests, server.answers = [], {}
    if cert:
        server.socket = _context(cert).wrap_socket(server.socket, server_side=True)
    server.url = f"{'https' if cert else 'http'}://localhost:{server.server_port}"
    with serving(server):
        yield server


class _Written:
    """Takes the place of a server's list of what came."""

    def __init__(self, file):
        self._file = file

    def append(self, item):
        print(json.dumps(item, default=_mail), file=self._file, flush=True)


def _mail(message):
    return {"from": message["from"], "subject": message["subject"], "text": message.get_content()}


def _main(smtp_port, http_port, path):
    with (
        Path(path).open("w", encoding="utf-8") as file,
        smtp(port=int(smtp_port), login=("backup", "secret")) as mail,
        http(port=int(http_port)) as hook,
    ):
        mail.mails = hook.requests = _Written(file)
        threading.Event().wait()


if __name__ == "__main__":
    _main(*sys.argv[1:])
