"""One way to write JSON, one kind of digest, and a cache so that a big file is hashed once."""

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from lmi_artifacts.errors import ReferenceInvalid
from lmi_artifacts.files import replace_file

JSONValue: TypeAlias = (
    "bool | int | float | str | Sequence[JSONValue] | Mapping[str, JSONValue] | None"
)

HEX64 = re.compile(r"[0-9a-f]{64}")
_RACY_NS = 2_000_000_000
_CACHE_ENTRIES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Digest:
    """A sha256, written `sha256:<64 lower-case hex digits>`.

    Raises:
        ReferenceInvalid: the digits are not 64 lower-case hex digits.
    """

    hex: str

    def __post_init__(self) -> None:
        if HEX64.fullmatch(self.hex) is None:
            raise ReferenceInvalid(self.hex, "is not 64 lower-case hex digits")

    def __str__(self) -> str:
        return f"sha256:{self.hex}"

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """Read `sha256:<64 hex>` and nothing else.

        Raises:
            ReferenceInvalid: any other text.
        """
        head, colon, digits = text.partition(":")
        if head != "sha256" or not colon or HEX64.fullmatch(digits) is None:
            raise ReferenceInvalid(text, "is not a digest; one looks like sha256:<64 hex digits>")
        return cls(hex=digits)


def _plain(value: object) -> JSONValue:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if not math.isfinite(value):
                message = f"JSON has no {value}"
                raise ValueError(message)
            return value
        case Mapping():
            for key in value:
                if not isinstance(key, str):
                    message = f"a JSON object's key must be text, not {key!r}"
                    raise TypeError(message)
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            message = f"JSON cannot hold a {type(value).__name__}"
            raise TypeError(message)


def canonical_json(value: JSONValue) -> bytes:
    """Write a value in its only form: sorted keys, no blanks, UTF-8.

    Raises:
        TypeError: something that JSON cannot hold, or a key that is not text.
        ValueError: NaN, an infinity, or text with a lone surrogate.
    """
    text = json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")


def _unique(pairs: list[tuple[str, JSONValue]]) -> dict[str, JSONValue]:
    found = dict(pairs)
    if len(found) != len(pairs):
        message = "an object names one key twice"
        raise ValueError(message)
    return found


def _no_constant(text: str) -> JSONValue:
    message = f"JSON has no {text}"
    raise ValueError(message)


def read_canonical_json(data: bytes) -> JSONValue:
    """Read what `canonical_json` wrote, and refuse every other spelling of it.

    Raises:
        ValueError: not UTF-8, not JSON, a repeated key, too deep, or not the canonical form.
    """
    try:
        value: JSONValue = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
        canonical = canonical_json(value)
    except RecursionError:
        message = "nested too deeply"
        raise ValueError(message) from None
    if canonical != data:
        message = "not in canonical form (sorted keys, no blanks, UTF-8)"
        raise ValueError(message)
    return value


def digest_bytes(data: bytes) -> Digest:
    """Digest bytes in memory."""
    return Digest(hex=hashlib.sha256(data).hexdigest())


def digest_json(value: JSONValue) -> Digest:
    """Digest a value's canonical JSON; raises what `canonical_json` raises."""
    return digest_bytes(canonical_json(value))


def digest_file(path: Path) -> Digest:
    """Digest a file while streaming it; raises OSError when it cannot be read."""
    with path.open("rb") as stream:
        return Digest(hex=hashlib.file_digest(stream, "sha256").hexdigest())


class HashCache:
    """Remembers file digests by (device, inode, size, mtime, ctime), in one small JSON file.

    A file that changed less than two seconds before it was hashed is not remembered: a second
    write in the same tick of the file system's clock would not show (git's racy rule). Writers
    replace the file atomically, and one that loses the race costs a later re-hash, nothing else;
    so does a cache file that is missing, damaged, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = self._stored()
        self._fresh: dict[str, str] = {}

    def digest(self, file: Path) -> Digest:
        """Digest a file, or recall its digest; raises OSError when it cannot be read."""
        with file.open("rb") as stream:
            before = _identity(os.fstat(stream.fileno()))
            recalled = self._known.get(before)
            if recalled is not None:
                return Digest(hex=recalled)
            started = time.time_ns()
            found = hashlib.file_digest(stream, "sha256").hexdigest()
            after = os.fstat(stream.fileno())
        if _identity(after) == before and started - after.st_ctime_ns > _RACY_NS:
            self._known[before] = self._fresh[before] = found
        return Digest(hex=found)

    def save(self) -> None:
        """Add what was hashed since the last save to the file."""
        if not self._fresh:
            return
        merged = {**self._stored(), **self._fresh}
        kept = dict(list(merged.items())[-_CACHE_ENTRIES:])
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, json.dumps({"format": 1, "files": kept}).encode())
        self._fresh.clear()

    def _stored(self) -> dict[str, str]:
        try:
            content: JSONValue = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(content, dict) or content.get("format") != 1:
            return {}
        files = content.get("files")
        if not isinstance(files, dict):
            return {}
        return {
            key: value
            for key, value in files.items()
            if isinstance(value, str) and HEX64.fullmatch(value) is not None
        }


def _identity(found: os.stat_result) -> str:
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"
