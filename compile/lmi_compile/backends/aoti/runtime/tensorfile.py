"""Writes a safetensors file tensor by tensor, so that memory holds one at a time.

Format: 8 bytes little-endian length of the header, the JSON header, the tensors' bytes. The header
is padded with spaces so that the data starts on a cache line.
Source: https://github.com/huggingface/safetensors, "Format".
"""

import ctypes
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch

_NAMES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.bool: "BOOL",
}
_ALIGNMENT = 64


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes tensors of any shape that are all in memory, in the order of their names."""
    names = sorted(tensors)
    layout = [(name, tensors[name].dtype, list(tensors[name].shape)) for name in names]
    stream_tensors(path, layout, lambda name: tensors[name])


def stream_tensors(
    path: Path,
    layout: Iterable[tuple[str, torch.dtype, list[int]]],
    get: Callable[[str], torch.Tensor],
    said: Mapping[str, str] | None = None,
) -> None:
    """Writes the tensors of `layout`, in its order, asking for each when its turn comes.

    Args:
        path: The file to write.
        layout: Name, type and shape of each.
        get: Gives a tensor of exactly that type and shape.
        said: Words about the file, for its header.
    """
    header: dict[str, object] = {}
    offset = 0
    for name, dtype, shape in layout:
        size = torch.Size(shape).numel() * dtype.itemsize
        header[name] = {
            "dtype": _NAMES[dtype],
            "shape": shape,
            "data_offsets": [offset, offset + size],
        }
        offset += size
    names = list(header)
    if said:
        header["__metadata__"] = dict(said)
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-(len(encoded) + 8) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for name in names:
            held = get(name).detach().cpu().contiguous()
            if held.numel():
                file.write(raw(held))


def raw(tensor: torch.Tensor) -> "ctypes.Array[ctypes.c_char]":
    """The bytes of a contiguous tensor of any shape but empty, where they lie; it outlives them."""
    return (ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr())
