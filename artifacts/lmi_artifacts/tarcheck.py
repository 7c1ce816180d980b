"""Read `model.tar.gz` without trusting it: every byte has one right value, given the manifest.

The manifest is the first member, so that each later header is known before it is read and each
content has a known size and digest: there is nothing a path, link, device, duplicate or bomb
could hide in.
"""

import zlib
from pathlib import Path
from typing import BinaryIO

from lmi_artifacts.content import Checked
from lmi_artifacts.digest import Digest
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.manifest import MANIFEST_BYTES, Manifest, ManifestFile
from lmi_artifacts.paths import MANIFEST_NAME
from lmi_artifacts.tarform import BLOCK, END, manifest_header, members, padding

_CHUNK = 2**20
_SIZE_FIELD = slice(124, 135)


class _Inflater:
    """Gives the uncompressed bytes of one gzip stream, never more at a time than asked for."""

    def __init__(self, stream: BinaryIO, what: str) -> None:
        self._stream = stream
        self._what = what
        self._zlib = zlib.decompressobj(wbits=31)
        self._compressed = b""

    def some(self, most: int) -> bytes:
        """Give 1 to `most` bytes, or none at the stream's end."""
        while not self._zlib.eof:
            if not self._compressed:
                self._compressed = self._stream.read(_CHUNK)
            at_end = not self._compressed
            try:
                data = self._zlib.decompress(self._compressed, most)
            except zlib.error as error:
                raise ArtifactRefused(self._what, [f"is damaged: {error}"]) from None
            self._compressed = self._zlib.unconsumed_tail
            if data:
                return data
            if at_end and not self._zlib.eof:
                raise ArtifactRefused(self._what, ["ends too early"])
        return b""

    def exactly(self, count: int) -> bytes:
        """Give `count` bytes, a small number, or refuse."""
        data = b""
        while len(data) < count:
            piece = self.some(count - len(data))
            if not piece:
                raise ArtifactRefused(self._what, ["ends too early"])
            data += piece
        return data

    def expect(self, wanted: bytes, where: str) -> None:
        """Read as many bytes as `wanted` has, and refuse others."""
        found = self.exactly(len(wanted))
        if found != wanted:
            name = ascii(found[:100].rstrip(b"\0").decode("utf-8", "replace"))
            problem = f"expected {where}, found something else (as a tar header it names {name})"
            raise ArtifactRefused(self._what, [problem])

    def expect_end(self) -> None:
        """Refuse anything after the end of the tar and of the gzip stream."""
        if self.some(1) or self._zlib.unused_data or self._stream.read(1):
            raise ArtifactRefused(self._what, ["has bytes after its end"])


def _read_manifest(archive: _Inflater, what: str, expected: Digest | None) -> Manifest:
    header = archive.exactly(BLOCK)
    digits = header[_SIZE_FIELD]
    size = int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else 0
    if header != manifest_header(size) or size > MANIFEST_BYTES:
        raise ArtifactRefused(what, [f"its first member is not {MANIFEST_NAME}"])
    data = archive.exactly(size)
    archive.expect(padding(size), "zeros")
    manifest = Manifest.parse(data)
    if expected is not None and manifest.digest != expected:
        raise ArtifactRefused(what, [f"holds {manifest.digest}, not {expected}"])
    return manifest


def _check_member(archive: _Inflater, file: ManifestFile, what: str) -> None:
    checked = Checked(file)
    left = file.size
    while left:
        data = archive.some(min(left, _CHUNK))
        if not data:
            raise ArtifactRefused(what, ["ends too early"])
        left -= len(data)
        checked.update(data)
    wrong = checked.problem()
    if wrong is not None:
        raise ArtifactRefused(what, [f"{file.path!r}: {wrong}"])


def verify_tar_gz(path: Path, expected: Digest | None = None) -> Manifest:
    """Read a whole tar.gz, check every byte, and write nothing.

    Args:
        path: the archive.
        expected: the artifact's digest; None trusts the archive's own manifest.

    Raises:
        ArtifactRefused: it is not exactly the tar that its manifest describes, or the manifest's
            digest is not `expected`.
        OSError: it cannot be read.
    """
    what = str(path)
    with path.open("rb") as stream:
        archive = _Inflater(stream, what)
        manifest = _read_manifest(archive, what, expected)
        for file, header in members(manifest):
            archive.expect(header, f"the file {file.path!r}")
            _check_member(archive, file, what)
            archive.expect(padding(file.size), "zeros")
        archive.expect(END, "the end of the archive")
        archive.expect_end()
    return manifest
