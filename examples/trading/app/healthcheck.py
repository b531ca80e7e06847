"""The container's health check: exits 0 when /health says 200. Light, for it runs all the time."""

import socket
import sys

with socket.create_connection(("127.0.0.1", 8080), timeout=5) as connection:
    connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
    answer = b""
    while part := connection.recv(4096):
        answer += part
head, _, body = answer.partition(b"\r\n\r\n")
sys.stdout.write(body.decode())
sys.exit(0 if head.split()[1:2] == [b"200"] else 1)
