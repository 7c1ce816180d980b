"""The header of a safetensors file, parsed and checked against the file's size.

Format: https://github.com/huggingface/safetensors#format - eight bytes of little-endian header
length, a JSON object, then the tensors' bytes without gaps. Only the header is read.
"""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import ModelFault
from lmi_compile.models.strict_json import parse_object

MAX_HEADER_BYTES = 100_000_000  # the safetensors library's own limit
_PREFIX = struct.Struct("<Q")
_MAX_DIMS = 32
_MAX_DIM = 1 << 48
_OFFSETS = 2
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor: its bytes are `start` to `end`, counted from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetensorsHeader:
    """All tensors in the order of their bytes; `data_start` is where in the file these begin."""

    tensors: tuple[TensorInfo, ...]
    metadata: dict[str, str]
    data_start: int


def read_safetensors_header(path: Path) -> SafetensorsHeader:
    """Parses the header of `path` and checks it against the file.

    Raises:
        ModelFault: the file is missing, truncated, longer than its header says, or malformed.
    """
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            prefix = stream.read(_PREFIX.size)
            if len(prefix) < _PREFIX.size:
                raise _fault(path, f"it has {size} bytes; the length of the header alone takes 8")
            length = int(_PREFIX.unpack(prefix)[0])
            if length > MAX_HEADER_BYTES:
                raise _fault(path, f"its header would have {length} bytes: not safetensors")
            if length > size - _PREFIX.size:
                why = f"its header needs {length} bytes, {size - _PREFIX.size} are there"
                raise _fault(path, f"{why}: the file is truncated")
            raw = stream.read(length)
    except OSError as error:
        raise _fault(path, str(error.strerror)) from error
    return _parse(path, raw, size - _PREFIX.size - length)


def _parse(path: Path, raw: bytes, data_bytes: int) -> SafetensorsHeader:
    if not raw.startswith(b"{"):
        raise _fault(path, "its header is not a JSON object")
    try:
        header = parse_object(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _fault(path, f"byte {error.start} of its header is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise _fault(path, f"its header is not JSON at byte {error.pos}: {error.msg}") from error
    except ValueError as error:
        raise _fault(path, f"its header: {error}") from error
    metadata = _metadata(path, header.pop("__metadata__", {}))
    tensors = sorted(
        (_tensor(path, name, entry) for name, entry in header.items()),
        key=lambda tensor: (tensor.start, tensor.end),
    )
    _check_layout(path, tensors, data_bytes)
    return SafetensorsHeader(
        tensors=tuple(tensors), metadata=metadata, data_start=_PREFIX.size + len(raw)
    )


def _metadata(path: Path, value: JSONValue) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _fault(path, "its __metadata__ is not an object")
    result: dict[str, str] = {}
    for name, text in value.items():
        if not isinstance(text, str):
            raise _fault(path, f"its __metadata__ holds something other than text: {name[:80]!r}")
        result[name] = text
    return result


def _tensor(path: Path, name: str, entry: JSONValue) -> TensorInfo:
    shown = f"tensor {name[:80]!r}"
    if not isinstance(entry, dict):
        raise _fault(path, f"{shown} is not described by an object")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _fault(path, f"{shown} has the unknown dtype {str(dtype)[:40]!r}")
    dims = _naturals(shape)
    if dims is None or len(dims) > _MAX_DIMS:
        raise _fault(path, f"{shown} has no proper shape")
    bounds = _naturals(offsets)
    if bounds is None or len(bounds) != _OFFSETS:
        raise _fault(path, f"{shown} has no proper data_offsets")
    start, end = bounds
    bits = math.prod(dims) * _BITS[dtype]
    if bits % 8 or end - start != bits // 8:
        why = f"{shown} of {dtype} {list(dims)} needs {bits // 8} bytes, its offsets span"
        raise _fault(path, f"{why} {end - start}")
    return TensorInfo(name=name, dtype=dtype, shape=dims, start=start, end=end)


def _naturals(value: JSONValue) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return None
    numbers = tuple(
        item
        for item in value
        if type(item) is int and 0 <= item <= _MAX_DIM  # no bool
    )
    return numbers if len(numbers) == len(value) else None


def _check_layout(path: Path, tensors: list[TensorInfo], data_bytes: int) -> None:
    position = 0
    for tensor in tensors:
        if tensor.start != position:
            kind = "overlaps the one before it" if tensor.start < position else "follows a gap"
            why = f"tensor {tensor.name[:80]!r} starts at byte {tensor.start}, expected {position}"
            raise _fault(path, f"{why}: it {kind}")
        position = tensor.end
    if position > data_bytes:
        why = f"its tensors need {position} bytes, {data_bytes} are there"
        raise _fault(path, f"{why}: the file is truncated")
    if position < data_bytes:
        raise _fault(path, f"{data_bytes - position} bytes follow its last tensor")


def _fault(path: Path, why: str) -> ModelFault:
    return ModelFault(
        what=f"{path.name} is not a sound safetensors file",
        why=f"{path}: {why}",
        fix="copy or download the file again",
    )
