"""What runs in this process's threads, so that one thread can end all of it."""

import contextlib
from collections.abc import Callable, Iterator
from threading import Lock

from lmi_compile.errors import Interrupted


class Running:
    """Ways to end what runs; after `cancel` nothing new stays alive."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._ends: dict[int, Callable[[], None]] = {}
        self._cancelled = False
        self._next = 0

    @contextlib.contextmanager
    def held(self, step: str, end: Callable[[], None]) -> Iterator[None]:
        """Let `cancel` call `end` while the block runs; at once where it was called before.

        Args:
            step: the name of the step that the block runs.
            end: ends it; the block may see that as a kill, a crash, a lost container.

        Raises:
            Interrupted: the block failed, and `cancel` was called.
        """
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._ends[number] = end
            late = self._cancelled
        try:
            if late:
                end()
            yield
        except Exception as error:
            if self._cancelled:
                raise Interrupted(f"step {step} was ended") from error
            raise
        finally:
            with self._lock:
                del self._ends[number]

    def cancel(self) -> None:
        """End everything that runs."""
        with self._lock:
            self._cancelled = True
            ends = list(self._ends.values())
        for end in ends:
            end()
