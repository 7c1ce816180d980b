"""Write `model.tar.gz`: the deterministic tar of `tarform`, compressed by igzip while streaming."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

from isal import isal_zlib  # noqa: TID253 - this module is imported only where a tar.gz is written

from lmi_artifacts.content import Checked, Data
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.files import aside, fsync_folder
from lmi_artifacts.manifest import Manifest, ManifestFile
from lmi_artifacts.tarform import END, manifest_header, members, padding

_CHUNK = 2**20
_LEVEL = 1  # weights hardly compress; the higher levels cost time and gain nothing
_GZIP = 31  # 15 window bits, +16 for a gzip wrapper; isal writes time 0 and no name into it


class _Compressor(Protocol):
    def compress(self, data: Data, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Out(Protocol):
    """What takes the archive's bytes, in order."""

    def write(self, data: bytes, /) -> object:
        """Take some."""


Content: TypeAlias = Callable[[ManifestFile, Callable[[Data], object]], None]
"""Gives one file's verified content, piece by piece, to the callable.

A piece is only good until the call that was given it returns.
"""


def write_tar_gz(tree: Path, manifest: Manifest, dest: Path) -> None:
    """Pack a tree as `dest`: the same tree gives the same bytes; memory stays bounded.

    Every file is checked against the manifest while it is read; `dest` is replaced whole.

    Raises:
        ArtifactRefused: a file of the tree is not what the manifest says.
        OSError: the tree cannot be read, or `dest` cannot be written.
    """
    temporary = aside(dest)
    try:
        with temporary.open("xb") as out:
            write_stream(manifest, lambda file, put: read_checked(tree / file.path, file, put), out)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(dest)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(dest.parent)


def write_stream(manifest: Manifest, content: Content, out: Out) -> None:
    """Write an archive to anything that takes bytes; raises what `content` and `out` raise."""
    gzip: _Compressor = isal_zlib.compressobj(_LEVEL, wbits=_GZIP)

    def put(data: Data) -> None:
        out.write(gzip.compress(data))

    data = manifest.to_bytes()
    put(manifest_header(len(data)) + data + padding(len(data)))
    for file, header in members(manifest):
        put(header)
        content(file, put)
        put(padding(file.size))
    put(END)
    out.write(gzip.flush())


def read_checked(source: Path, file: ManifestFile, put: Callable[[Data], object]) -> None:
    """Read one file and give its content away, checked.

    Raises:
        ArtifactRefused: it is not what the manifest says; what was given away must be dropped.
    """
    checked = Checked(file)
    try:
        reading = source.open("rb", buffering=0)
    except OSError as error:
        raise ArtifactRefused(str(source), [f"cannot be read: {error.strerror}"]) from error
    with reading as stream:
        while chunk := stream.read(_CHUNK):
            checked.update(chunk)
            put(chunk)
    wrong = checked.problem()
    if wrong is not None:
        raise ArtifactRefused(str(source), [wrong])
