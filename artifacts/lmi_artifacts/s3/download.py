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

from lmi_artifacts.content import Checked
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.manifest import ManifestFile
from lmi_artifacts.s3.client import Refused
from lmi_artifacts.s3.ranges import PART, Buffers, RangeFile
from lmi_artifacts.s3.store import Store
from lmi_artifacts.s3.upload import Progress

AHEAD: Final = 6
_CHUNK: Final = 2**20
Piece = tuple[memoryview, int]
"""A part's buffer, and how much of it is the part."""


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
        self._pool = ThreadPoolExecutor(AHEAD)
        self._partial: Path | None = None
        self._begun: dict[str, int] = {}
        self._files: dict[str, RangeFile] = {}
        self._lock = Lock()
        self._ranges: Iterator[tuple[ManifestFile, int, int]] = iter(())
        self._ahead: deque[Future[Piece]] = deque()
        self._buffers = Buffers()

    def close(self) -> None:
        """Give up what is still on its way."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for out in self._files.values():
            out.close()
        self._files.clear()

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

        Parts are written out of order, but never further ahead than `AHEAD` parts.
        """
        if self._partial is None:
            return 0
        path = self._beginning(file)
        try:
            size = path.stat().st_size
        except OSError:
            return 0
        kept = max(0, min(size, file.size) // PART - AHEAD) * PART
        os.truncate(path, kept)
        return kept

    def _cut(self, files: Sequence[ManifestFile]) -> Iterator[tuple[ManifestFile, int, int]]:
        for file in files:
            for start in range(self._begun[file.path], file.size, PART):
                yield file, start, min(PART, file.size - start)

    def _beginning(self, file: ManifestFile) -> Path:
        name = hashlib.sha256(f"{file.path}\n{file.sha256}".encode()).hexdigest()
        return (self._partial or Path()) / f"{name}.beginning"

    def _fill(self) -> None:
        while len(self._ahead) < AHEAD:
            following = next(self._ranges, None)
            if following is None:
                return
            file, start, length = following
            work = (file, start, length, self._buffers.take())
            self._ahead.append(self._pool.submit(self._read, *work))

    def _read(self, file: ManifestFile, start: int, length: int, buffer: memoryview) -> Piece:
        try:
            self._store.read_into(self._folder + file.path, start, buffer[:length])
        except Refused as error:
            words = {404: "is missing", 416: "has another size than the manifest says"}
            why = words.get(error.status, error.code)
            raise ArtifactRefused(self._folder + file.path, [why]) from None
        if self._partial is not None:
            self._open(file).write(buffer, length, start)
        return buffer, length

    def _open(self, file: ManifestFile) -> RangeFile:
        with self._lock:
            out = self._files.get(file.path)
            if out is None:
                out = self._files[file.path] = RangeFile(self._beginning(file), file.size)
            return out

    def pieces(self, file: ManifestFile, begun: int = 0) -> Iterator[memoryview]:
        """Give an announced file's bytes from `begun` on, in order, unverified.

        A piece is only good until the next one is asked for.
        """
        position = begun
        while position < file.size:
            self._fill()
            buffer, length = self._ahead.popleft().result()
            self._fill()
            self._progress(length)
            position += length
            yield buffer[:length]
            self._buffers.give_back(buffer)

    def read(
        self, file: ManifestFile, put: Callable[[memoryview], object], *, fully: bool = False
    ) -> None:
        """Give an announced file to `put`, piece by piece, verified at its end.

        Args:
            file: that.
            put: takes a piece.
            fully: hold it against every digest that the manifest has.

        Raises:
            ArtifactRefused: what is stored is not the manifest's.
        """
        checked = Checked(file, fully=fully)
        for piece in self.pieces(file):
            checked.update(piece)
            put(piece)
        wrong = checked.problem()
        if wrong is not None:
            raise ArtifactRefused(self._folder + file.path, [wrong])

    def fetch(self, file: ManifestFile, target: Path) -> None:
        """Write one announced file, verified and fsynced; a `Fetch` for `pull_tree`.

        Raises:
            ArtifactRefused: what is stored is not the manifest's.
        """
        begun = self._begun[file.path]
        out = self._open(file)
        checked = Checked(file)
        if begun:
            _take_beginning(self._beginning(file), begun, checked)
        for piece in self.pieces(file, begun):
            checked.update(piece)
        wrong = checked.problem()
        if wrong is not None:
            os.truncate(self._beginning(file), 0)
            if begun:
                wrong += "; the beginning that an earlier pull left was removed: pull again"
            raise ArtifactRefused(self._folder + file.path, [wrong])
        out.finish(0o755 if file.executable else 0o644)
        with self._lock:
            self._files.pop(file.path).close()
        self._beginning(file).rename(target)


def _take_beginning(path: Path, size: int, checked: Checked) -> None:
    with path.open("rb") as stream:
        for start in range(0, size, _CHUNK):
            checked.update(stream.read(min(_CHUNK, size - start)))
