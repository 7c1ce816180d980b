"""Reads a TensorRT-LLM checkpoint and merges its ranks back into whole tensors.

The layout is TensorRT-LLM's (docs/source/architecture/checkpoint.md): per rank `[q; k; v]` rows,
column-parallel layers split on their rows, row-parallel ones on their columns, norms replicated.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - nobody imports this module before it is named
from safetensors import SafetensorError, safe_open  # noqa: TID253 - as above

from lmi_compile.errors import VerificationFailed

_COLUMN = (".qkv", ".fc", ".gate")  # by output rows
_ROW = (".dense", ".proj")  # by input columns
_BY_ROWS = ("vocab_embedding.weight", "lm_head.weight", "position_embedding.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A whole checkpoint, as one rank would have it.

    Attributes:
        config: its config.json.
        tensors: by name; quantised weights as they are stored.
    """

    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    @property
    def heads(self) -> tuple[int, int, int]:
        """Attention heads, KV heads, head size."""
        config = self.config
        return (
            config["num_attention_heads"],
            config["num_key_value_heads"],
            config["head_size"],
        )


def read_merged(directory: Path) -> Checkpoint:
    """The checkpoint in `directory`, its ranks merged.

    Raises:
        VerificationFailed: a rank is missing, unreadable, or not of the same checkpoint.
    """
    config: dict[str, Any] = json.loads((directory / "config.json").read_bytes())
    world = config["mapping"]["world_size"]
    ranks = [_read_rank(directory / f"rank{rank}.safetensors") for rank in range(world)]
    extra = {path.name for path in directory.glob("rank*.safetensors")} - {
        f"rank{rank}.safetensors" for rank in range(world)
    }
    if extra:
        raise _broken(directory, f"{sorted(extra)} are more ranks than its config.json names")
    names = set(ranks[0])
    for number, rank in enumerate(ranks):
        if set(rank) != names:
            odd = sorted(set(rank) ^ names)
            raise _broken(directory, f"rank {number} has other tensors than rank 0: {odd[:4]}")
    merged = {
        name: _merge(name, [rank[name] for rank in ranks], config, directory)
        for name in sorted(names)
    }
    return Checkpoint(config=config, tensors=merged)


def _read_rank(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise _broken(path.parent, f"{path.name} cannot be read: {error}") from error


def _merge(  # noqa: PLR0911 - one kind of tensor, one return
    name: str, parts: list[torch.Tensor], config: dict[str, Any], directory: Path
) -> torch.Tensor:
    if len(parts) == 1:
        return parts[0]
    layer, _, kind = name.rpartition(".")
    if name.endswith(_BY_ROWS):
        return torch.cat(parts)
    if layer.endswith(".qkv") and _is_per_row(kind, parts[0]):
        return _merge_qkv(parts, config, packed=parts[0].dtype == torch.int8 and kind == "weight")
    if layer.endswith(_COLUMN) and _is_per_row(kind, parts[0]):
        return torch.cat(parts)
    if layer.endswith(_ROW):
        if kind in {"weight", "weights_scaling_factor"} and parts[0].dim() > 1:
            return torch.cat(parts, dim=1)
        if kind == "prequant_scaling_factor":
            return torch.cat(parts)
    if not all(torch.equal(parts[0], part) for part in parts[1:]):
        raise _broken(directory, f"{name} is replicated and differs between ranks")
    return parts[0]


def _is_per_row(kind: str, part: torch.Tensor) -> bool:
    return kind in {"weight", "bias"} or (kind == "weights_scaling_factor" and part.numel() > 1)


def _merge_qkv(parts: list[torch.Tensor], config: dict[str, Any], *, packed: bool) -> torch.Tensor:
    """`[q; k; v]` of all ranks; KV heads that several ranks hold are taken once.

    Args:
        parts: each rank's rows.
        config: the checkpoint's.
        packed: two int4 rows are one row of bytes.
    """
    quantization = config["quantization"]["quant_algo"]
    per_byte = 2 if packed and quantization == "W4A16_AWQ" else 1
    degree = len(parts)
    size = config["head_size"]
    queries = config["num_attention_heads"] // degree * size // per_byte
    keys = max(1, config["num_key_value_heads"] // degree) * size // per_byte
    copies = max(1, degree // config["num_key_value_heads"])
    split = [torch.split(part, [queries, keys, keys]) for part in parts]
    once = split[::copies]
    return torch.cat([*(each[0] for each in split), *(each[1] for each in once)] +
                     [each[2] for each in once])  # fmt: skip


def _broken(directory: Path, why: str) -> VerificationFailed:
    return VerificationFailed(
        what=f"the checkpoint {directory.name} is not whole",
        why=why,
        fix="make it anew; no engine should be built of it",
    )
