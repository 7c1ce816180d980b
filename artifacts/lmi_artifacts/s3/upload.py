"""Sending bytes: parts in parallel while they are read, bounded memory, resumed after a crash."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Final

from lmi_artifacts.content import Checked
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.manifest import ManifestFile
from lmi_artifacts.s3.answers import Part
from lmi_artifacts.s3.client import Refused
from lmi_artifacts.s3.store import Conflict, Store, crc32

PART: Final = 8 * 2**20
IN_FLIGHT: Final = 64 * 2**20
_MOST_PARTS = 9_000  # S3 takes 10,000
_WORKERS = 6
Progress = Callable[[int], None]
"""Told how many bytes more have been sent (or found already there)."""


def part_size(size: int) -> int:
    """Give the part size for an object of `size` bytes: 8 MiB, or what 9,000 parts need."""
    return max(PART, -(-size // _MOST_PARTS) + 2**20 - 1 & -(2**20))


class PartWriter:
    """A file that is written from start to end and becomes the parts of one object.

    Used by one thread; parts are sent by others. Nothing is visible until `finish`. Bytes are
    sent from the memory that they were read or written into, which is used again.
    """

    def __init__(self, store: Store, key: str, size: int, progress: Progress) -> None:
        self._store = store
        self._key = key
        self._size = part_size(size)
        self._progress = progress
        self._pool = ThreadPoolExecutor(max(1, min(_WORKERS, IN_FLIGHT // self._size)))
        self._buffer = bytearray(min(size + 1, self._size))  # one more, to see the end
        self._filled = 0
        self._free: list[bytearray] = []
        self._pending: dict[Future[Part], bytearray] = {}
        self._done: list[Part] = []
        self._upload = ""
        self._there: dict[int, Part] = {}
        self._number = 0

    def room(self) -> memoryview:
        """Give the memory that the next bytes go to; waits while too many are on their way."""
        if self._filled == self._size:
            self._send(self._buffer)
            self._buffer, self._filled = self._fresh(), 0
        elif self._filled == len(self._buffer):  # noise, that grows when it is compressed
            self._buffer = self._buffer.ljust(self._size, b"\0")
        return memoryview(self._buffer)[self._filled :]

    def came(self, count: int) -> None:
        """Be told how many bytes were put into `room`."""
        self._filled += count

    def write(self, data: bytes | memoryview) -> int:
        """Take bytes; waits while too many are on their way."""
        left = memoryview(data)
        while left:
            room = self.room()
            count = min(len(room), len(left))
            room[:count] = left[:count]
            self.came(count)
            left = left[count:]
        return len(data)

    def _fresh(self) -> bytearray:
        return self._free.pop() if self._free else bytearray(self._size)

    def _send(self, piece: bytearray) -> None:
        if not self._upload:
            self._upload, self._there = resumable(self._store, self._key)
        self._number += 1
        number = self._number
        found = self._there.get(number)
        if found is not None and _is_part(found, piece):
            # completing asks for every part's checksum; not every server lists them
            self._done.append(replace(found, crc32=crc32(piece)))
            self._progress(len(piece))
            self._free.append(piece)
            return
        while len(self._pending) >= self._pool._max_workers:  # noqa: SLF001 - what it was made with
            self._collect()
        work = self._store.upload_part
        self._pending[self._pool.submit(work, self._key, self._upload, number, piece)] = piece

    def _collect(self) -> None:
        for future in wait(self._pending, return_when=FIRST_COMPLETED).done:
            self._free.append(self._pending.pop(future))
            part = future.result()
            self._done.append(part)
            self._progress(part.size)

    def finish(self) -> bool:
        """Make the object appear, unless one is there: then leave that one.

        Returns:
            Whether this call made it appear.

        Raises:
            ArtifactRefused: the upload went away meanwhile; publishing again begins anew.
            RegistryUnavailable: the server cannot be asked, or refuses.
        """
        rest = self._buffer[: self._filled]
        try:
            if not self._upload:
                self._store.put(self._key, rest, "absent")
                self._progress(len(rest))
                return True
            if rest:
                self._send(rest)
            while self._pending:
                self._collect()
            self._store.complete_upload(self._key, self._upload, self._done, "absent")
        except Conflict:
            if self._upload:
                self._store.abort_upload(self._key, self._upload)
            return False
        except Refused as error:
            if self._store.head(self._key) is not None:
                return False  # another publisher ended the upload that we shared
            cause = f"its upload went away ({error.code}); publish again"
            raise ArtifactRefused(self._key, [cause]) from None
        return True

    def close(self) -> None:
        """Let the threads end; what was not finished stays resumable."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def resumable(store: Store, key: str) -> tuple[str, dict[int, Part]]:
    """Find an upload to the same key that a crash left, with its parts, or begin one.

    Every publisher of a key sends the same bytes, so that sharing an upload harms nobody.
    """
    for found, upload, _ in store.uploads(key):
        if found == key:
            return upload, store.parts(key, upload)
    return store.create_upload(key), {}


def _is_part(part: Part, data: bytearray) -> bool:
    if part.size != len(data):
        return False
    if part.crc32:
        return part.crc32 == crc32(data)
    return part.etag.strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()


def upload_file(
    store: Store, key: str, source: Path, file: ManifestFile, progress: Progress
) -> None:
    """Send one file, read once: hashed in order while its parts are sent in parallel.

    The object appears only when the whole content was the manifest's.

    Raises:
        ArtifactRefused: the file is missing, a link, or not what the manifest says.
    """
    try:
        reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise ArtifactRefused(str(source), [f"cannot be read: {error.strerror}"]) from error
    checked = Checked(file)
    writer = PartWriter(store, key, file.size, progress)
    try:
        left = file.size
        while left >= 0 and (count := os.readv(reading, [room := writer.room()])):
            checked.update(room[:count])
            writer.came(count)
            left -= count
        wrong = checked.problem()
        if wrong is not None:
            raise ArtifactRefused(str(source), [wrong])
        writer.finish()
    finally:
        os.close(reading)
        writer.close()
