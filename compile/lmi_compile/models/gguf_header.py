"""The header of a GGUF file, parsed and checked against the file's size.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3. Scalars and
texts are kept, arrays are skipped over; no tensor is read.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lmi_compile.errors import ModelFault

MAX_HEADER_BYTES = 128 << 20
_MAX_TENSORS = 1 << 18
_MAX_ENTRIES = 1 << 16
_MAX_TEXT_BYTES = 16 << 20
_MAX_DIMS = 4
_MAX_ELEMENTS = 1 << 48
_MAX_ARRAY_DEPTH = 4
_VERSIONS = (2, 3)
_SWAPPED_VERSIONS = tuple(version << 24 for version in _VERSIONS)
_DEFAULT_ALIGNMENT = 32
_MAX_ALIGNMENT = 1 << 20
_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
# ggml type -> name, elements and bytes of one block (ggml-common.h)
_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2),
    26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip

GgufScalar = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """One tensor: `nbytes` bytes at `offset` from the header's `data_start`.

    Attributes:
        name: its name in the file.
        shape: as GGUF says it, the fastest dimension first.
        type_name: such as Q4_1.
        offset: where its bytes begin.
        nbytes: how many they are.
    """

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """What the file says of itself.

    Attributes:
        version: of the format.
        scalars: metadata that are numbers, booleans or text.
        array_lengths: number of items of the metadata that are arrays.
        tensors: all tensors, in the file's order.
        data_start: where in the file the tensors' bytes begin.
    """

    version: int
    scalars: dict[str, GgufScalar]
    array_lengths: dict[str, int]
    tensors: tuple[GgufTensor, ...]
    data_start: int

    def text(self, key: str) -> str | None:
        """The metadata `key` if it is text."""
        value = self.scalars.get(key)
        return value if isinstance(value, str) else None

    def integer(self, key: str) -> int | None:
        """The metadata `key` if it is a whole number."""
        value = self.scalars.get(key)
        return value if type(value) is int else None

    def flag(self, key: str) -> bool | None:
        """The metadata `key` if it is a boolean."""
        value = self.scalars.get(key)
        return value if isinstance(value, bool) else None


def read_gguf_header(path: Path) -> GgufHeader:
    """Parses the header of `path` and checks every tensor's place against the file's size.

    Raises:
        ModelFault: the file is missing, truncated, one part of several, or malformed.
    """
    try:
        with path.open("rb") as stream:
            return _Parser(path, stream, path.stat().st_size).header()
    except OSError as error:
        raise _fault(path, str(error.strerror)) from error


class _Parser:
    def __init__(self, path: Path, stream: BinaryIO, size: int) -> None:
        self._path = path
        self._stream = stream
        self._size = size
        self._position = 0
        self._scalars: dict[str, GgufScalar] = {}
        self._arrays: dict[str, int] = {}

    def header(self) -> GgufHeader:
        version, tensor_count, entry_count = self._preamble()
        for _ in range(entry_count):
            self._entry()
        if self._scalars.get("split.count", 1) not in {0, 1}:
            raise _fault(
                self._path, "it is one part of several: join them with llama.cpp's gguf-split"
            )
        tensors = [self._tensor() for _ in range(tensor_count)]
        alignment = self._scalars.get("general.alignment", _DEFAULT_ALIGNMENT)
        if type(alignment) is not int or not 0 < alignment <= _MAX_ALIGNMENT:
            raise _fault(self._path, f"its alignment is {str(alignment)[:40]!r}")
        data_start = -(-self._position // alignment) * alignment
        self._check_layout(tensors, data_start, alignment)
        return GgufHeader(
            version=version,
            scalars=self._scalars,
            array_lengths=self._arrays,
            tensors=tuple(tensors),
            data_start=data_start,
        )

    def _preamble(self) -> tuple[int, int, int]:
        magic = self._take(4)
        if magic != b"GGUF":
            raise _fault(self._path, f"it starts with {magic!r}, not with b'GGUF'")
        version = self._unsigned(4)
        if version in _SWAPPED_VERSIONS:
            raise _fault(self._path, "it is big-endian")
        if version not in _VERSIONS:
            raise _fault(self._path, f"its version is {version}; versions 2 and 3 can be read")
        tensors, entries = self._unsigned(8), self._unsigned(8)
        if tensors > _MAX_TENSORS or entries > _MAX_ENTRIES:
            raise _fault(self._path, f"it would have {tensors} tensors, {entries} metadata")
        return version, tensors, entries

    def _entry(self) -> None:
        key = self._text(65535)
        if key in self._scalars or key in self._arrays:
            raise _fault(self._path, f"the metadata {key[:80]!r} is there twice")
        kind = self._unsigned(4)
        if kind == _ARRAY:
            self._arrays[key] = self._skip_array(1)
        elif kind == _STRING:
            self._scalars[key] = self._text(_MAX_TEXT_BYTES)
        else:
            self._scalars[key] = self._scalar(kind)

    def _scalar(self, kind: int) -> GgufScalar:
        value: int | float = struct.unpack(f"<{self._code(kind)}", self._take(self._width(kind)))[0]
        return bool(value) if kind == _BOOL else value

    def _code(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise _fault(self._path, f"the metadata before byte {self._position} have type {kind}")
        return _SCALARS[kind]

    def _width(self, kind: int) -> int:
        return struct.calcsize(f"<{self._code(kind)}")

    def _skip_array(self, depth: int) -> int:
        if depth > _MAX_ARRAY_DEPTH:
            raise _fault(self._path, "its metadata are nested too deeply")
        kind = self._unsigned(4)
        count = self._unsigned(8)
        match kind:
            case 8:
                for _ in range(count):
                    self._skip(self._unsigned(8))
            case 9:
                for _ in range(count):
                    self._skip_array(depth + 1)
            case _:
                self._skip(count * self._width(kind))
        return count

    def _tensor(self) -> GgufTensor:
        name = self._text(65535)
        dims = self._unsigned(4)
        if dims > _MAX_DIMS:
            raise _fault(self._path, f"tensor {name[:80]!r} has {dims} dimensions")
        shape = tuple(self._unsigned(8) for _ in range(dims))
        kind, offset = self._unsigned(4), self._unsigned(8)
        if kind not in _TYPES:
            raise _fault(self._path, f"tensor {name[:80]!r} has the unknown type {kind}")
        type_name, block, block_bytes = _TYPES[kind]
        elements = math.prod(shape)
        if elements > _MAX_ELEMENTS or (shape or (1,))[0] % block:
            raise _fault(
                self._path, f"tensor {name[:80]!r} of {type_name} has the shape {list(shape)}"
            )
        nbytes = elements // block * block_bytes
        return GgufTensor(name=name, shape=shape, type_name=type_name, offset=offset, nbytes=nbytes)

    def _check_layout(self, tensors: list[GgufTensor], data_start: int, alignment: int) -> None:
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise _fault(self._path, "two of its tensors have the same name")
        position = 0
        for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.nbytes)):
            if tensor.offset < position:
                why = f"tensor {tensor.name[:80]!r} overlaps the one before it"
                raise _fault(self._path, why)
            if tensor.offset % alignment:
                raise _fault(
                    self._path, f"tensor {tensor.name[:80]!r} is not aligned to {alignment}"
                )
            position = tensor.offset + tensor.nbytes
        if data_start + position > self._size:
            why = f"its tensors end at byte {data_start + position}, the file has {self._size}"
            raise _fault(self._path, f"{why} bytes: it is truncated")

    def _text(self, limit: int) -> str:
        length = self._unsigned(8)
        if length > limit:
            raise _fault(
                self._path, f"a text before byte {self._position} would have {length} bytes"
            )
        return self._take(length).decode("utf-8", "replace")

    def _unsigned(self, width: int) -> int:
        return int.from_bytes(self._take(width), "little")

    def _take(self, count: int) -> bytes:
        self._advance(count)
        taken = self._stream.read(count)
        if len(taken) != count:
            raise _fault(self._path, "it became shorter while it was read")
        return taken

    def _skip(self, count: int) -> None:
        self._advance(count)
        self._stream.seek(count, 1)

    def _advance(self, count: int) -> None:
        self._position += count
        if self._position > self._size:
            why = f"its header needs byte {self._position}, the file has {self._size} bytes"
            raise _fault(self._path, f"{why}: it is truncated")
        if self._position > MAX_HEADER_BYTES:
            raise _fault(self._path, f"its header would have more than {MAX_HEADER_BYTES} bytes")


def _fault(path: Path, why: str) -> ModelFault:
    return ModelFault(
        what=f"{path.name} is not a sound GGUF file",
        why=f"{path}: {why}",
        fix="copy or download the file again",
    )
