"""One way to send a request and read its answer as it comes, whatever the model is served by."""

import http.client
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Protocol
from urllib.parse import urlsplit

_BLOCK = 1 << 16
_ERROR_SHOWN = 2000


class Refused(Exception):
    """The server answered with an error.

    Attributes:
        status: HTTP's.
        said: the body, shortened.
        retry_after: seconds that the server asks to wait, or None.
    """

    def __init__(self, status: int, said: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status}: {said[:300]}")
        self.status = status
        self.said = said
        self.retry_after = retry_after


class Unreachable(Exception):
    """No answer, or half of one: the connection failed or timed out."""


class Transport(Protocol):
    """Sends requests one after the other; each thread has its own."""

    def ask(self, body: bytes) -> Iterator[bytes]:
        """Send one request; gives the answer's bytes as they arrive.

        Raises:
            Refused: the server answered with an error.
            Unreachable: the connection failed, also in the middle of the answer.
        """

    def close(self) -> None:
        """Give the connection back."""


class HttpTransport:
    """A kept connection to one URL.

    Args:
        url: where requests are posted, `http://host:port/invocations`.
        timeout_seconds: between two pieces of an answer.
        headers: sent with every request.
    """

    def __init__(
        self, url: str, *, timeout_seconds: float, headers: Mapping[str, str] | None = None
    ) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host = parts.netloc.rpartition("@")[2]
        self._path = (parts.path or "/invocations") + (f"?{parts.query}" if parts.query else "")
        self._timeout = timeout_seconds
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, body: bytes) -> Iterator[bytes]:
        """Post `body`; see `Transport`."""
        answer = None
        try:
            answer = self._answer(body)
            if answer.status >= http.client.MULTIPLE_CHOICES:
                said = answer.read(_ERROR_SHOWN).decode("utf-8", "replace").strip()
                raise Refused(answer.status, said, _seconds(answer.headers.get("Retry-After")))
            while block := answer.read1(_BLOCK):
                yield block
            if answer.length:
                raise Unreachable(f"the answer ended {answer.length} bytes early")
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error
        finally:
            if answer is None or not answer.isclosed() or answer.will_close:
                self.close()

    def _answer(self, body: bytes) -> http.client.HTTPResponse:
        kept = self._connection is not None
        try:
            return self._send(body)
        except (ConnectionError, http.client.RemoteDisconnected):
            if not kept:
                raise
            self.close()  # the server closed the kept connection between two requests
            return self._send(body)

    def _send(self, body: bytes) -> http.client.HTTPResponse:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            self._connection = kind(self._host, timeout=self._timeout)
            self._connection.connect()
            self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.request("POST", self._path, body, self._headers)
        return self._connection.getresponse()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None


def answers(url: str, *, within_seconds: float) -> bool:
    """Whether a URL answers a GET with 200 before so many seconds have passed."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    until = time.monotonic() + within_seconds
    while True:
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(parts.netloc, timeout=2)
        try:
            connection.request("GET", parts.path or "/")
            if connection.getresponse().status == http.client.OK:
                return True
        except (OSError, http.client.HTTPException, ssl.SSLError):
            pass
        finally:
            connection.close()
        if time.monotonic() >= until:
            return False
        time.sleep(0.05)
