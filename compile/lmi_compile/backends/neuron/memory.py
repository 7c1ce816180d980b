"""Memory arithmetic of a decoder on NeuronCores: its shape, with the padding of heads."""

from collections.abc import Mapping
from dataclasses import dataclass

from lmi_artifacts.digest import JSONValue
from lmi_compile.feasibility.families.find import shape_of
from lmi_compile.feasibility.shape import Shape
from lmi_compile.feasibility.tables import DTYPE_BYTES
from lmi_recipes.model import Dtype

_ONE_BYTE_METHODS = frozenset({"int8_wo", "fp8"})
# Whose attention is padded and replicated as `padded_heads` says.
_PADDED = frozenset(
    {"falcon", "granite", "llama", "mistral", "mixtral", "qwen2", "qwen3", "smollm3"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a build takes, in bytes; `heads` and `kv_heads` are those after padding."""

    parameters: int
    heads: int
    kv_heads: int
    weights_bytes: int
    weights_per_core: int
    kv_per_core: int
    checkpoint_bytes: int

    @property
    def per_core(self) -> int:
        """Weights and KV cache of one core."""
        return self.weights_per_core + self.kv_per_core

    def to_json(self) -> dict[str, JSONValue]:
        """Every term of the arithmetic."""
        return {
            "parameters": self.parameters,
            "query_heads_after_padding": self.heads,
            "kv_heads_after_replication": self.kv_heads,
            "weights_bytes": self.weights_bytes,
            "weights_bytes_per_core": self.weights_per_core,
            "kv_cache_bytes_per_core": self.kv_per_core,
            "bytes_per_core": self.per_core,
            "checkpoint_bytes": self.checkpoint_bytes,
        }


def decoder_of(config: Mapping[str, JSONValue]) -> Shape | None:
    """The decoder that a config.json describes; None for one whose padding is not known here.

    Raises:
        ModelFault: its fields are missing or absurd: every one of them.
    """
    return shape_of(config) if config.get("model_type") in _PADDED else None


def footprint(
    decoder: Shape, *, degree: int, batch: int, length: int, dtype: Dtype, method: str
) -> Footprint:
    """What a build of `decoder` takes.

    Heads are padded and replicated as NxD Inference does it (modules/attention/gqa.py @ cd3abf3,
    `get_shardable_head_counts`); norms and biases, below a thousandth, are in `parameters` only.

    Args:
        decoder: the model.
        degree: tensor-parallel degree.
        batch: sequences in the KV cache.
        length: tokens of each.
        dtype: of the activations and the KV cache.
        method: of quantisation; int8 and fp8 store a weight in one byte.
    """
    heads, kv_heads = padded_heads(decoder, degree)
    size = DTYPE_BYTES[dtype]
    weight_size = 1 if method in _ONE_BYTE_METHODS else size
    attention = 2 * decoder.layers * decoder.hidden * decoder.head_dim * (heads + kv_heads)
    mlps = sum(
        tensor.parameters
        for tensor in decoder.tensors
        if tensor.linear and tensor.kind in {"mlp", "experts"}
    )
    ends = decoder.vocabulary * decoder.hidden * (1 if decoder.tied else 2)
    weights = (attention + mlps) * weight_size + ends * size
    cache = 2 * decoder.layers * kv_heads * decoder.head_dim * batch * length * size
    return Footprint(
        parameters=decoder.parameters,
        heads=heads,
        kv_heads=kv_heads,
        weights_bytes=weights,
        weights_per_core=-(-weights // degree),
        kv_per_core=-(-cache // degree),
        checkpoint_bytes=decoder.parameters * size,
    )


def padded_heads(decoder: Shape, degree: int) -> tuple[int, int]:
    """Query heads after padding, and key and value heads after replication, at `degree`."""
    heads = -(-decoder.heads // degree) * degree
    if decoder.heads == decoder.kv_heads:
        return heads, heads
    if decoder.kv_heads >= degree and decoder.kv_heads % degree == 0:
        return heads, decoder.kv_heads
    return heads, degree if degree % decoder.kv_heads == 0 else heads
