"""What a worker tells while it works: lines on its standard output."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_HEARTBEAT_SECONDS = 5.0


def say(line: str) -> None:
    """Prints one line of progress at once."""
    print(line, flush=True)  # noqa: T201 - a worker's progress is its stdout


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Says that a stage begins, its seconds while it lasts, and its end.

    For work that says nothing itself, such as a compiler.
    """
    start = time.monotonic()
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(_HEARTBEAT_SECONDS):
            say(f"{name}: {time.monotonic() - start:.0f} s")

    say(name)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    say(f"{name}: done in {time.monotonic() - start:.1f} s")
