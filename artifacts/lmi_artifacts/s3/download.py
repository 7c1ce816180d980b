"""Fetching files: ranges in parallel, ahead of the reader; hashed in order while they are written.

Small files and the parts of large ones form one sequence, so that a tree of many small files and
one large file are equally fast. Memory is bounded by what is ahead.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Final

from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.manifest import ManifestFile
from lmi_artifacts.s3.client import Refused
from lmi_artifacts.s3.store import Store
from lmi_artifacts.s3.upload import Progress

_PART: Final = 8 * 2**20
_AHEAD: Final = 8
_WORKERS: Final = 6
_CHUNK: Final = 2**20


class Downloader:
    """Fetches files in the order they were announced.

    Args:
        store: where they are.
        folder: key of the tree, ending in `/`.
        progress: told of bytes that arrived.
    """

    def __init__(self, store: Store, folder: str, progress: Progress) -> None:
        self._store = store
        self._folder = folder
        self._progress = progress
        self._pool = ThreadPoolExecutor(_WORKERS)
        self._partial: Path | None = None
        self._begun: dict[str, int] = {}
        self._descriptors: dict[str, int] = {}
        self._lock = Lock()
        self._ranges: Iterator[tuple[ManifestFile, int, int]] = iter(())
        self._ahead: deque[Future[bytes]] = deque()

    def close(self) -> None:
        """Give up what is still on its way."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def announce(self, files: Sequence[ManifestFile], partial: Path | None) -> None:
        """Say which files will be fetched, in this order.

        Args:
            files: those.
            partial: folder with the beginnings that a killed pull left; None: only `read`.
        """
        self._partial = partial
        self._begun = {file.path: self._keep_beginning(file) for file in files}
        self._ranges = self._cut(files)

    def _keep_beginning(self, file: ManifestFile) -> int:
        """Cut what a killed pull left of a file to what is surely whole; give its size.

        Parts are written out of order, but never further ahead than `_AHEAD` parts.
        """
        if self._partial is None:
            return 0
        path = self._beginning(file)
        try:
            size = path.stat().st_size
        except OSError:
            return 0
        kept = max(0, min(size, file.size) // _PART - _AHEAD) * _PART
        os.truncate(path, kept)
        return kept

    def _cut(self, files: Sequence[ManifestFile]) -> Iterator[tuple[ManifestFile, int, int]]:
        for file in files:
            for start in range(self._begun[file.path], file.size, _PART):
                yield file, start, min(_PART, file.size - start)

    def _beginning(self, file: ManifestFile) -> Path:
        name = hashlib.sha256(f"{file.path}\n{file.sha256}".encode()).hexdigest()
        return (self._partial or Path()) / f"{name}.beginning"

    def _fill(self) -> None:
        while len(self._ahead) < _AHEAD:
            following = next(self._ranges, None)
            if following is None:
                return
            file, start, length = following
            self._ahead.append(self._pool.submit(self._read, file, start, length))

    def _read(self, file: ManifestFile, start: int, length: int) -> bytes:
        try:
            data = self._store.read_range(self._folder + file.path, start, length)
        except Refused as error:
            words = {404: "is missing", 416: "has another size than the manifest says"}
            why = words.get(error.status, error.code)
            raise ArtifactRefused(self._folder + file.path, [why]) from None
        if self._partial is not None:
            _write_at(self._open(file), data, start)
        return data

    def _open(self, file: ManifestFile) -> int:
        with self._lock:
            descriptor = self._descriptors.get(file.path)
            if descriptor is None:
                descriptor = os.open(self._beginning(file), os.O_RDWR | os.O_CREAT, 0o644)
                self._descriptors[file.path] = descriptor
            return descriptor

    def pieces(self, file: ManifestFile, begun: int = 0) -> Iterator[bytes]:
        """Give an announced file's bytes from `begun` on, in order, unverified."""
        position = begun
        while position < file.size:
            self._fill()
            piece = self._ahead.popleft().result()
            self._fill()
            self._progress(len(piece))
            position += len(piece)
            yield piece

    def read(self, file: ManifestFile, put: Callable[[bytes], object]) -> None:
        """Give an announced file to `put`, piece by piece, verified at its end.

        Raises:
            ArtifactRefused: what is stored is not the manifest's.
        """
        hashed = hashlib.sha256()
        for piece in self.pieces(file):
            hashed.update(piece)
            put(piece)
        if hashed.hexdigest() != file.sha256:
            why = "its sha256 is not the manifest's"
            raise ArtifactRefused(self._folder + file.path, [why])

    def fetch(self, file: ManifestFile, target: Path) -> None:
        """Write one announced file, verified and fsynced; a `Fetch` for `pull_tree`.

        Raises:
            ArtifactRefused: what is stored is not the manifest's.
        """
        begun = self._begun[file.path]
        out = self._open(file)
        hashed = hashlib.sha256()
        for start in range(0, begun, _CHUNK):
            hashed.update(os.pread(out, _CHUNK, start))
        for piece in self.pieces(file, begun):
            hashed.update(piece)
        if hashed.hexdigest() != file.sha256:
            os.truncate(out, 0)
            why = "its sha256 is not the manifest's"
            if begun:
                why += "; the beginning that an earlier pull left was removed: pull again"
            raise ArtifactRefused(self._folder + file.path, [why])
        os.fchmod(out, 0o755 if file.executable else 0o644)
        os.fsync(out)
        with self._lock:
            os.close(self._descriptors.pop(file.path))
        self._beginning(file).rename(target)


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
