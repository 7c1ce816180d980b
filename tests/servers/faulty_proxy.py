"""An HTTP proxy that fails on purpose: errors, resets, truncated, stalled and flipped answers.

Deterministic for a seed and an order of requests. It speaks plain HTTP/1.1 to one S3 server.
"""

import http.client
import random
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

KINDS = ("500", "503", "reset", "truncate", "stall", "lost answer", "flip answer", "flip request")
_STALL_SECONDS = 0.5
_HOPS = {"connection", "transfer-encoding", "keep-alive"}


class FaultyProxy:
    """A proxy in this process; `rate` is the part of requests that fail."""

    def __init__(self, endpoint: str, rate: float = 0.2, seed: int = 1) -> None:
        self.rate = rate
        self.target = urlsplit(endpoint).netloc
        self.faults: Counter[str] = Counter()
        self.requests = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
                del format, args

            def handle(self) -> None:
                try:
                    super().handle()
                except (OSError, http.client.HTTPException):
                    self.close_connection = True

            def do_any(self) -> None:
                proxy.serve(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_any  # noqa: N815 - its names there

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: Any) -> None:
                return

        self._server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _fault(self) -> tuple[str, float]:
        with self._lock:
            self.requests += 1
            if self._random.random() >= self.rate:
                return "", 0.0
            kind = self._random.choice(KINDS)
            self.faults[kind] += 1
            return kind, self._random.random()

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        kind, where = self._fault()
        if kind in {"500", "503"}:
            _answer_error(handler, int(kind))
            return
        if kind == "reset":
            _reset(handler)
            return
        if kind == "flip request" and body:
            body = _flipped(body, where)
        if kind == "stall":
            time.sleep(_STALL_SECONDS)
        status, headers, data = self._forward(handler, body)
        if kind == "lost answer":
            _reset(handler)
            return
        if kind == "flip answer" and data:
            data = _flipped(data, where)
        handler.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOPS:
                handler.send_header(name, value)
        handler.end_headers()
        if kind == "truncate" and data:
            handler.wfile.write(data[: int(len(data) * where)])
            handler.wfile.flush()
            _reset(handler)
            return
        handler.wfile.write(data)

    def _forward(
        self, handler: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.target, timeout=60)
        try:
            connection.putrequest(
                handler.command, handler.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in handler.headers.items():
                if name.lower() not in _HOPS | {"expect"}:
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            data = answer.read()
            headers = answer.getheaders()
            if answer.getheader("Content-Length") is None and handler.command != "HEAD":
                headers.append(("Content-Length", str(len(data))))
            return answer.status, headers, data
        finally:
            connection.close()


def _answer_error(handler: BaseHTTPRequestHandler, status: int) -> None:
    code = "SlowDown" if status == 503 else "InternalError"
    data = f"<Error><Code>{code}</Code><Message>on purpose</Message></Error>".encode()
    handler.send_response_only(status)
    handler.send_header("Content-Length", str(len(data)))
    handler.send_header("Content-Type", "application/xml")
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(data)


def _reset(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
    )
    handler.connection.close()


def _flipped(data: bytes, where: float) -> bytes:
    changed = bytearray(data)
    place = int(len(changed) * where)
    changed[place] ^= 1 << (place % 8)
    return bytes(changed)
