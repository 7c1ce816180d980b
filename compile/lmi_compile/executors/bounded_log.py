"""A log that cannot fill a disk: its beginning and its end, with what was between them counted."""

from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

HEAD_BYTES = 16 << 20
TAIL_BYTES = 16 << 20


class BoundedLog:
    """Writes lines as they come; beyond `HEAD_BYTES` only the last ones are kept.

    Args:
        path: the file; its end is written when the log is closed.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._room = HEAD_BYTES
        self._tail: deque[bytes] = deque()
        self._held = 0
        self._dropped = 0

    def write(self, line: bytes) -> None:
        """Add a line."""
        if self._room >= len(line) and not self._held:
            self._room -= len(line)
            self._file.write(line)
            self._file.flush()
            return
        self._tail.append(line[-TAIL_BYTES:])
        self._held += len(self._tail[-1])
        self._dropped += len(line) - len(self._tail[-1])
        while self._held > TAIL_BYTES:
            gone = self._tail.popleft()
            self._held -= len(gone)
            self._dropped += len(gone)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        with self._file as file:
            if self._dropped:
                file.write(f"[{self._dropped} bytes left out]\n".encode())
            file.writelines(self._tail)
