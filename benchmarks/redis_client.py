"""A client of Redis whose requests are due at a steady rate, until its standard input ends: then it prints each one's
``TIME SECONDS``. ``python -m benchmarks.redis_client HOST RATE KEYS``.

Half of them write: the first byte of an order, by the same byte, so that the data stays as it is and a page that a fork
shares must be copied all the same.
"""

from __future__ import annotations

import random
import socket
import sys
import threading
import time

__all__: list[str] = []


def _command(*words: str) -> bytes:
    return "".join([f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]).encode()


def _ask(to: socket.socket, *words: str) -> None:
    to.sendall(_command(*words))
    answer = b""
    while not _whole(answer):
        block = to.recv(65536)
        if not block:
            raise ConnectionError("Redis closed the connection")
        answer += block
    if answer.startswith(b"-"):
        raise RuntimeError(answer.decode())


def _whole(answer: bytes) -> bool:
    """Whether it is all of a number, an error or a string."""
    head, found, rest = answer.partition(b"\r\n")
    return bool(found) and (head[:1] != b"$" or head == b"$-1" or len(rest) == int(head[1:]) + 2)


def _wait(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


def main(host: str, rate: float, keys: int) -> None:
    """Ask until the input ends."""
    ended = threading.Event()
    threading.Thread(target=_wait, args=(ended,), daemon=True).start()
    lines: list[str] = []
    with socket.create_connection((host, 6379), timeout=600) as server:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        due = time.time()
        while not ended.is_set():
            time.sleep(max(0.0, due - time.time()))
            key = f"order:{random.randint(1, keys)}"  # noqa: S311 - no secret
            words = ("SETRANGE", key, "0", "{") if len(lines) % 2 else ("GET", key)
            _ask(server, *words)
            now = time.time()
            lines.append(f"{now:.6f} {now - due:.6f}\n")
            due += 1 / rate
    sys.stdout.write("".join(lines))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
