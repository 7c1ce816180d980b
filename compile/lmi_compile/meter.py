"""How far a transfer is: bytes, rate and time left, for people."""

import shutil
import time
from collections.abc import Callable
from threading import Lock
from typing import Protocol, TextIO

_LIVE_SECONDS = 0.2
_PLAIN_SECONDS = 10.0
_MB = 1e6


class Voice(Protocol):
    """What a meter speaks through: the console.

    Attributes:
        live: a terminal, whose line can be written again.
        err: where people read.
    """

    live: bool
    err: TextIO

    def line(self, text: str) -> None:
        """Print one line."""


class Meter:
    """Counts bytes and says so now and then; safe to call from several threads.

    Args:
        console: through which it speaks.
        label: what is being done.
        total: how many bytes there will be, where it is known.
        clock: seconds, from any beginning.
    """

    def __init__(
        self,
        console: Voice,
        label: str,
        total: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._console = console
        self._label = label
        self._total = total
        self._done = 0
        self._started = self._said = clock()
        self._lock = Lock()

    def __call__(self, count: int) -> None:
        """Note that `count` bytes more are there."""
        with self._lock:
            self._done += count
            now = self._clock()
            every = _LIVE_SECONDS if self._console.live else _PLAIN_SECONDS
            if now - self._said >= every:
                self._said = now
                self._say(now)

    def _say(self, now: float) -> None:
        rate = self._done / max(now - self._started, 1e-3)
        text = f"{self._label}: {self._done / _MB:,.0f} MB"
        if self._total and self._done <= self._total:  # an archive beside the tree moves more
            left = max(0, self._total - self._done)
            text += f" of {self._total / _MB:,.0f} MB"
            text += f", {left / max(rate, 1.0):.0f} s left"
        text += f", {rate / _MB:,.0f} MB/s"
        if self._console.live:
            width = shutil.get_terminal_size().columns
            self._console.err.write(f"\r\x1b[K{text[: width - 1]}")
            self._console.err.flush()
        else:
            self._console.line(text)

    def end(self) -> None:
        """Clear the live line."""
        if self._console.live:
            self._console.err.write("\r\x1b[K")
            self._console.err.flush()
