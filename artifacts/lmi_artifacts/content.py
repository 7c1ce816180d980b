"""Whether bytes are a file's: by BLAKE3 where manifest and machine have it, else by sha256.

BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs) is a cryptographic hash of 256 bits like
sha256; being a tree of blocks it uses the widest vectors a processor has, and takes a quarter of
the time of sha256's own instructions. Sealing needs its library, reading does not.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol, TypeAlias

from lmi_artifacts.errors import PackageInvalid
from lmi_artifacts.files import Progress
from lmi_artifacts.manifest import ManifestFile

_CHUNK = 2**20
Data: TypeAlias = bytes | memoryview


class _Hash(Protocol):
    def update(self, data: Data, /) -> object: ...
    def hexdigest(self) -> str: ...


@cache
def blake3_hash() -> Callable[[], _Hash] | None:
    """Give the library's hash, or None where it is not installed."""
    try:
        from blake3 import blake3
    except ModuleNotFoundError:
        return None
    return blake3


class Checked:
    """Takes a file's bytes in order, and says whether they were the manifest's.

    Args:
        file: whose bytes come.
        fully: hold them against every digest that can be computed here, not the fastest alone.
    """

    def __init__(self, file: ManifestFile, *, fully: bool = False) -> None:
        self._size = file.size
        self._came = 0
        self._hashes: dict[str, tuple[_Hash, str]] = {}
        library = None if file.blake3 is None else blake3_hash()
        if library is not None and file.blake3 is not None:
            self._hashes["blake3"] = (library(), file.blake3)
        if fully or library is None:
            self._hashes["sha256"] = (hashlib.sha256(), file.sha256)

    def update(self, data: Data) -> None:
        """Take the next bytes."""
        self._came += len(data)
        for found, _ in self._hashes.values():
            found.update(data)

    def problem(self) -> str | None:
        """Say what is wrong with what came, or None where it is the file."""
        if self._came != self._size:
            return f"does not have the manifest's {self._size} bytes"
        for name, (found, wanted) in self._hashes.items():
            if found.hexdigest() != wanted:
                return f"has another content than the manifest says ({name} differs)"
        return None


def check_file(
    path: Path, file: ManifestFile, *, fully: bool = False, progress: Progress | None = None
) -> str | None:
    """Read a file and say what is wrong with it, or None; raises OSError when it cannot be read.

    `progress` is told how many bytes more have been read.
    """
    checked = Checked(file, fully=fully)
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            checked.update(chunk)
            if progress is not None:
                progress(len(chunk))
    return checked.problem()


def describe_file(path: Path, name: str, *, executable: bool) -> ManifestFile:
    """Say what a manifest says of a file, reading it once.

    Raises:
        PackageInvalid: the library of BLAKE3 is missing: without it the same tree would get
            another manifest, and so another digest, than elsewhere.
        OSError: it cannot be read.
    """
    library = blake3_hash()
    if library is None:
        raise PackageInvalid(name, ["a manifest needs the package blake3: pip install blake3"])
    sha256, blake3 = hashlib.sha256(), library()
    size = 0
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            sha256.update(chunk)
            blake3.update(chunk)
    return ManifestFile(
        path=name,
        size=size,
        sha256=sha256.hexdigest(),
        blake3=blake3.hexdigest(),
        executable=executable,
    )
