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
from typing import Final

from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.files import write_all
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
        self._ranges: Iterator[tuple[ManifestFile, int, int]] = iter(())
        self._ahead: deque[Future[bytes]] = deque()

    def close(self) -> None:
        """Give up what is still on its way."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def announce(self, files: Sequence[ManifestFile], partial: Path | None) -> None:
        """Say which files will be fetched, in this order.

        Args:
            files: those.
            partial: folder with the beginnings that a killed pull left; None: only `read`.
        """
        self._partial = partial
        self._ranges = self._cut(files)

    def _cut(self, files: Sequence[ManifestFile]) -> Iterator[tuple[ManifestFile, int, int]]:
        for file in files:
            for start in range(self._begun(file), file.size, _PART):
                yield file, start, min(_PART, file.size - start)

    def _begun(self, file: ManifestFile) -> int:
        """Give how much of a file is here: whole parts only, so that ranges stay aligned."""
        if self._partial is None:
            return 0
        try:
            size = self._beginning(file).stat().st_size
        except OSError:
            return 0
        return min(size, file.size) // _PART * _PART

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
            return self._store.read_range(self._folder + file.path, start, length)
        except Refused as error:
            words = {404: "is missing", 416: "has another size than the manifest says"}
            why = words.get(error.status, error.code)
            raise ArtifactRefused(self._folder + file.path, [why]) from None

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
        beginning = self._beginning(file)
        begun = self._begun(file)
        hashed = hashlib.sha256()
        with beginning.open("r+b" if begun else "wb", buffering=0) as out:
            out.truncate(begun)
            while out.tell() < begun:
                data = out.read(min(_CHUNK, begun - out.tell()))
                hashed.update(data)
            for piece in self.pieces(file, begun):
                hashed.update(piece)
                write_all(out.fileno(), piece)
            os.fchmod(out.fileno(), 0o755 if file.executable else 0o644)
            os.fsync(out.fileno())
        if hashed.hexdigest() != file.sha256:
            beginning.unlink()
            why = "its sha256 is not the manifest's"
            if begun:
                why += "; the beginning that an earlier pull left was removed: pull again"
            raise ArtifactRefused(self._folder + file.path, [why])
        beginning.rename(target)
