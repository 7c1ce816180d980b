"""What a simulated engine carries: its rank's part of the weights, as a real one does.

A checkpoint's rank is a safetensors file. An engine's is a line of JSON about itself, and then such
a file. A part is every world-th tensor of the Hugging Face model, whole: what matters here is that
all ranks together hold everything, and that nothing outside them is read.
"""

import json
import struct
from pathlib import Path
from typing import Any

_LENGTH = struct.Struct("<Q")


def parts_of(model: Path, world: int) -> list[bytes]:
    """A safetensors file for each rank, of the tensors of the model in a directory."""
    entries = [entry for path in sorted(model.glob("*.safetensors")) for entry in _tensors(path)]
    return [_safetensors(entries[rank::world], rank) for rank in range(world)]


def parts_in(checkpoint: Path, world: int) -> list[bytes]:
    """The same of a checkpoint that has its ranks already."""
    return [(checkpoint / f"rank{rank}.safetensors").read_bytes() for rank in range(world)]


def write_rank(path: Path, about: dict[str, Any], part: bytes) -> None:
    """Write one rank's engine."""
    path.write_bytes(json.dumps(about).encode() + b"\n" + part)


def read_rank(path: Path) -> tuple[dict[str, Any], bytes]:
    """What one rank's engine says of itself, and its part of the weights."""
    about, _, part = path.read_bytes().partition(b"\n")
    return json.loads(about), part


def _tensors(path: Path) -> list[tuple[str, dict[str, Any], bytes]]:
    content = path.read_bytes()
    (length,) = _LENGTH.unpack_from(content)
    start = _LENGTH.size + length
    header: dict[str, Any] = json.loads(content[_LENGTH.size : start])
    header.pop("__metadata__", None)
    return [
        (name, entry, content[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]])
        for name, entry in sorted(header.items())
    ]


def _safetensors(entries: list[tuple[str, dict[str, Any], bytes]], rank: int) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"simulated_rank": str(rank)}}
    at = 0
    for name, entry, data in entries:
        header[name] = {**entry, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _LENGTH.size)  # its tensors are aligned, as everybody's are
    return _LENGTH.pack(len(text)) + text + b"".join(data for _, _, data in entries)
