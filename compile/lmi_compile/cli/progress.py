"""How far a transfer is: bytes, rate and time left, for people."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from lmi_artifacts.registry import Registry
from lmi_compile.console import Console

_LIVE_SECONDS = 0.2
_PLAIN_SECONDS = 10.0
_MB = 1e6


class Meter:
    """Counts bytes and says so now and then; safe to call from several threads."""

    def __init__(self, console: Console, label: str, total: int | None) -> None:
        self._console = console
        self._label = label
        self._total = total
        self._done = 0
        self._started = self._said = time.monotonic()
        self._lock = Lock()

    def __call__(self, count: int) -> None:
        """Note that `count` bytes more are there."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            every = _LIVE_SECONDS if self._console.live else _PLAIN_SECONDS
            if now - self._said >= every:
                self._said = now
                self._say(now)

    def _say(self, now: float) -> None:
        rate = self._done / max(now - self._started, 1e-3)
        text = f"{self._label}: {self._done / _MB:,.0f} MB"
        if self._total:
            left = max(0, self._total - self._done)
            text += f" of {self._total / _MB:,.0f} MB"
            text += f", {left / max(rate, 1.0):.0f} s left"
        text += f", {rate / _MB:,.0f} MB/s"
        if self._console.live:
            self._console.err.write(f"\r\x1b[K{text}")
            self._console.err.flush()
        else:
            self._console.line(text)

    def end(self) -> None:
        """Clear the live line."""
        if self._console.live:
            self._console.err.write("\r\x1b[K")
            self._console.err.flush()


@contextmanager
def meter(
    console: Console, registry: Registry, label: str, total: int | None = None
) -> Iterator[None]:
    """Show the progress of a registry that reports it."""
    if console.quiet or not hasattr(registry, "progress"):
        yield
        return
    shown = Meter(console, label, total)
    before = registry.progress
    registry.progress = shown
    try:
        yield
    finally:
        registry.progress = before
        shown.end()
