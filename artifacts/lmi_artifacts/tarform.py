"""The one tar that a manifest describes: which bytes stand around the files' own.

POSIX.1-2001 ustar headers, with a pax header before a member whose path or size ustar cannot
hold: https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html. Sorted as in the
manifest, the manifest first, no folders, owner and time 0, modes 644 and 755. Since nothing is
left to choose, a reader compares headers instead of interpreting them.
"""

from collections.abc import Iterator
from typing import Final

from lmi_artifacts.manifest import Manifest, ManifestFile
from lmi_artifacts.paths import MANIFEST_NAME

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)
TAR_NAME: Final = "model.tar.gz"
_USTAR_SIZE = 8**11
_USTAR_NAME = 100
_PAX_NAME = "././@PaxHeader"


def _ustar(name: bytes, size: int, mode: int, kind: bytes) -> bytes:
    zero = b"0000000\0"
    before = name.ljust(100, b"\0") + b"%07o\0" % mode + zero + zero + b"%011o\0" % size
    before += b"00000000000\0"
    after = kind + bytes(100) + b"ustar\x0000" + bytes(64) + zero + zero + bytes(155 + 12)
    checksum = sum(before) + sum(after) + 8 * ord(" ")
    return before + b"%06o\0 " % checksum + after


def _record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body) + 1
    while len(b"%d" % length) + len(body) != length:
        length += 1
    return b"%d" % length + body


def padding(size: int) -> bytes:
    """Give the zeros that follow `size` bytes of content."""
    return bytes(-size % BLOCK)


def member_header(path: str, size: int, *, executable: bool) -> bytes:
    """Give every byte that stands before one member's content."""
    name = path.encode()
    mode = 0o755 if executable else 0o644
    records = b""
    if len(name) > _USTAR_NAME or not path.isascii():
        records += _record("path", path)
        name = path.encode("ascii", "replace")[:_USTAR_NAME]
    if size >= _USTAR_SIZE:
        records += _record("size", str(size))
    plain = _ustar(name, size if size < _USTAR_SIZE else 0, mode, b"0")
    if not records:
        return plain
    pax = _ustar(_PAX_NAME.encode(), len(records), 0o644, b"x")
    return pax + records + padding(len(records)) + plain


def manifest_header(size: int) -> bytes:
    """Give the bytes before the first member, the manifest of `size` bytes."""
    return member_header(MANIFEST_NAME, size, executable=False)


def members(manifest: Manifest) -> Iterator[tuple[ManifestFile, bytes]]:
    """Give every file after the manifest, each with the bytes before its content."""
    for file in manifest.files:
        yield file, member_header(file.path, file.size, executable=file.executable)


def tar_size(manifest: Manifest) -> int:
    """Give the uncompressed size of the whole tar, in bytes."""
    first = len(manifest.to_bytes())
    total = len(manifest_header(first)) + first + len(padding(first)) + len(END)
    for file, header in members(manifest):
        total += len(header) + file.size + len(padding(file.size))
    return total
