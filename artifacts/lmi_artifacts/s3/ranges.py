"""Memory that ranges arrive in, and files that are written range by range, past the page cache.

A pull is bound by requests, copying and hashing: ranges are large, memory is mapped once, in huge
pages, and used again, and large files are written with O_DIRECT where the file system has it, so
that the kernel neither copies every byte into its cache nor writes it back at the fsync.
"""

import fcntl
import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

PART: Final = 32 * 2**20
_BLOCK: Final = 4096
_DIRECT: Final[int] = getattr(os, "O_DIRECT", 0)
_HUGE: Final[int] = getattr(mmap, "MADV_HUGEPAGE", mmap.MADV_NORMAL)


class Buffers:
    """Page-aligned memory of one part each, given out and taken back by one thread."""

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        """Give one that is free, or a new one."""
        return self._free.pop() if self._free else memoryview(_mapped(PART))

    def give_back(self, buffer: memoryview) -> None:
        """Let it be used again."""
        self._free.append(buffer)


def _mapped(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without huge pages
        memory.madvise(_HUGE)
    return memory


class RangeFile:
    """A file that threads write at offsets; a part's worth past its end may be padding."""

    def __init__(self, path: Path, size: int) -> None:
        self._size = size
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if size >= PART and _DIRECT:
            self._set(_DIRECT)

    def _set(self, direct: int) -> None:
        flags = fcntl.fcntl(self.descriptor, fcntl.F_GETFL) & ~_DIRECT
        with suppress(OSError):  # not every file system has it
            fcntl.fcntl(self.descriptor, fcntl.F_SETFL, flags | direct)

    def write(self, buffer: memoryview, length: int, offset: int) -> None:
        """Write the first `length` bytes of a part's buffer at a multiple of a part."""
        padded = -(-length // _BLOCK) * _BLOCK if self._size >= PART else length
        done = 0
        while done < padded:
            try:
                done += os.pwrite(self.descriptor, buffer[done:padded], offset + done)
            except OSError:
                if not self._is_direct():
                    raise
                self._set(0)  # larger blocks than ours, or a piece that ended between two

    def _is_direct(self) -> bool:
        return bool(fcntl.fcntl(self.descriptor, fcntl.F_GETFL) & _DIRECT)

    def finish(self, mode: int) -> None:
        """Cut the padding, and make everything durable."""
        os.ftruncate(self.descriptor, self._size)
        os.fchmod(self.descriptor, mode)
        os.fsync(self.descriptor)

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)
