"""Which checkpoints can be made and checked on a CPU, and why the others cannot. Light."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, assert_never

from lmi_artifacts.digest import JSONValue
from lmi_recipes.model import Quantization, Recipe

_FILE = Path(__file__).parent / "data" / "cells.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A checkpoint that can be made here.

    Attributes:
        decoder: modelopt's word for the family.
        format: a name under `formats` in `data/cells.json`.
        quant_algo: what the checkpoint's config.json says, None when unquantised.
        kv_cache_quant_algo: the same for the KV cache.
        method: the gates' name for it.
        group_size: columns that share an AWQ scale; None for other formats.
    """

    decoder: str
    format: str
    quant_algo: str | None
    kv_cache_quant_algo: str | None
    method: str
    group_size: int | None = None

    def to_json(self) -> dict[str, JSONValue]:
        """The cell as step parameters."""
        return {
            "decoder": self.decoder,
            "format": self.format,
            "quant_algo": self.quant_algo,
            "kv_cache_quant_algo": self.kv_cache_quant_algo,
            "group_size": self.group_size,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCell:
    """Why a checkpoint cannot be made and checked on a CPU."""

    reason: str


@cache
def table() -> dict[str, Any]:
    """`data/cells.json`."""
    loaded: dict[str, Any] = json.loads(_FILE.read_bytes())
    return loaded


def cell_for(  # noqa: PLR0911 - one reason, one return
    recipe: Recipe, architecture: Mapping[str, JSONValue] | None
) -> Cell | NoCell:
    """The checkpoint that the recipe's model and quantisation can be given on a CPU.

    Args:
        recipe: the recipe.
        architecture: the model's config, where it is known.
    """
    if architecture is None:
        return NoCell(reason="the model's config.json is not known before its weights are here")
    family = str(architecture.get("model_type"))
    if family not in table()["families"]:
        refused = table()["refused_families"]
        return NoCell(reason=f"{family}: {refused.get(family, 'modelopt was not tried on it')}")
    if recipe.pipeline_parallel_degree > 1:
        return NoCell(reason="pipeline stages are not merged back here")
    if recipe.dtype == "float32":
        return NoCell(reason="modelopt writes float16 and bfloat16 only")
    found = _format_of(recipe.quantization)
    if isinstance(found, NoCell):
        return found
    duplicated = _duplicates_kv_heads(recipe, architecture)
    if duplicated and found.startswith("int8_sq"):
        return NoCell(reason=duplicated)
    group = None
    if found == "int4_awq":
        group = _awq_group(recipe.tensor_parallel_degree, architecture)
        if group is None:
            groups = " nor ".join(map(str, table()["awq_group_sizes"]))
            return NoCell(reason=f"neither {groups} divides the columns of every linear per rank")
    return Cell(
        decoder=table()["families"][family]["decoder"],
        format=found,
        group_size=group,
        **table()["formats"][found],
    )


def _format_of(quantization: Quantization) -> str | NoCell:
    kv = quantization.kv_cache_dtype
    match quantization.method:
        case "none":
            found = "none"
        case "smoothquant":
            smooth = quantization.smoothquant
            if smooth is None or smooth.per_token or not smooth.per_channel:
                return NoCell(
                    reason="modelopt writes W8A8_SQ_PER_CHANNEL (per_token: false, per_channel:"
                    " true) only; this one is a TensorRT-LLM plugin layout, which only"
                    " TensorRT-LLM's own convert script or LMI's partition script writes"
                )
            found = "int8_sq"
        case "fp8":
            found = "fp8"
        case "awq":
            found = "int4_awq"
        case "int8_wo" | "int4_wo" | "gptq":
            return NoCell(
                reason=f"{quantization.method} is written by TensorRT-LLM's own tools; it was not"
                " tried with modelopt on a CPU"
            )
        case _:
            assert_never(quantization.method)
    if kv == "auto":
        return found
    joined = f"{found}_kv_{kv}"
    if joined in table()["formats"]:
        return joined
    return NoCell(reason=f"{found} with a KV cache of {kv} was not tried with modelopt on a CPU")


def _duplicates_kv_heads(recipe: Recipe, architecture: Mapping[str, JSONValue]) -> str | None:
    heads = architecture.get("num_key_value_heads")
    if isinstance(heads, int) and heads < recipe.tensor_parallel_degree:
        return (
            f"{heads} KV heads on {recipe.tensor_parallel_degree} ranks: modelopt refuses it"
            ' ("Duplicating KV heads per-channel scales is not supported")'
        )
    return None


def _awq_group(degree: int, architecture: Mapping[str, JSONValue]) -> int | None:
    hidden = architecture.get("hidden_size", architecture.get("n_embd"))
    inner = architecture.get("intermediate_size")
    if not isinstance(hidden, int):
        return None
    inner = inner if isinstance(inner, int) else 4 * hidden
    columns = (hidden, hidden // degree, inner // degree)
    sizes: list[int] = table()["awq_group_sizes"]
    return next((size for size in sizes if all(each % size == 0 for each in columns)), None)
