"""A family that nobody taught us: a bounded estimate from the headers of its weight files."""

import math
import re
from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import ModelFault
from lmi_compile.feasibility.fields import Fields
from lmi_compile.feasibility.shape import Shape, Tensor
from lmi_compile.models.safetensors_header import TensorInfo, read_safetensors_header

_LAYER = re.compile(r"(?:^|\.)(\d+)\.")
_VOCABULARY = re.compile(r"embed|wte|lm_head|output_layer", re.IGNORECASE)


def estimate(config: Mapping[str, JSONValue], folder: Path | None) -> Shape:
    """The shape of a model whose family is not known.

    The parameters are exact: they are in the headers. How they are split is not, so every tensor
    counts as whole on every rank, which bounds the memory of a rank from above. The cache takes
    what config.json says of heads and layers, and one head for each query head where it is silent.

    Args:
        config: its config.json.
        folder: where its safetensors are; None when no file is here.

    Raises:
        ModelFault: there are no headers to read.
    """
    name = config.get("model_type")
    what = f"the family {name!r} is not known" if name else "config.json has no model_type"
    files = sorted(folder.glob("*.safetensors")) if folder is not None else []
    if not files:
        fix = "plan with a directory that holds its safetensors: they give a bounded estimate"
        raise ModelFault(what, "and there are no safetensors headers to estimate from", fix)
    tensors = [tensor for file in files for tensor in read_safetensors_header(file).tensors]
    fields = Fields(config)
    hidden = fields.number("hidden_size", "n_embd", "d_model", default=_width(tensors))
    heads = fields.heads("num_attention_heads", "n_head", "num_heads", default=1)
    kv_heads = fields.heads("num_key_value_heads", "num_kv_heads", default=heads)
    found = Shape(
        model_type=str(name or "unknown"),
        tensors=tuple(Tensor("other", math.prod(tensor.shape)) for tensor in tensors),
        layers=fields.number("num_hidden_layers", "n_layer", "num_layers",
                             default=_layers(tensors)),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=fields.number("head_dim", default=max(1, hidden // heads)),
        intermediate=fields.number("intermediate_size", default=4 * hidden),
        vocabulary=fields.rows("vocab_size", default=_rows(tensors)),
        max_positions=fields.number("max_position_embeddings", default=0, least=0) or None,
        exact=False,
    )  # fmt: skip
    fields.check()
    return found


def _layers(tensors: list[TensorInfo]) -> int:
    numbers = {int(found[1]) for one in tensors if (found := _LAYER.search(one.name))}
    return max(numbers, default=0) + 1


def _width(tensors: list[TensorInfo]) -> int:
    vectors = [tensor.shape[0] for tensor in tensors if len(tensor.shape) == 1]
    return max(set(vectors), key=vectors.count, default=1)


def _rows(tensors: list[TensorInfo]) -> int:
    tables = (one.shape[0] for one in tensors if one.shape and _VOCABULARY.search(one.name))
    return max(tables, default=1)
