"""Memory arithmetic of a decoder on NeuronCores: weights, KV cache and the padding of heads."""

from collections.abc import Mapping
from dataclasses import dataclass

from lmi_artifacts.digest import JSONValue

DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_ONE_BYTE_METHODS = frozenset({"int8_wo", "fp8"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """What decides the size of a decoder.

    Attributes:
        hidden: width of the residual stream.
        intermediate: width of one MLP.
        layers: number of layers.
        heads: query heads.
        kv_heads: key and value heads.
        head_dim: width of one head.
        vocab: tokens in the vocabulary.
        mlp_matrices: 3 for a gated MLP, else 2.
        experts: MLPs in each layer.
        tied: one matrix is both embedding and head.
        positions: longest sequence, where the configuration says.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    mlp_matrices: int
    experts: int
    tied: bool
    positions: int | None


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


def decoder_of(config: Mapping[str, JSONValue]) -> Decoder | None:
    """The decoder that a config.json describes; None for one whose size is not known here."""
    match config.get("model_type"):
        case "llama" | "mistral" | "mixtral" | "qwen2" | "qwen3" | "granite" | "smollm3":
            return _llama_like(config)
        case "falcon":
            return _falcon(config)
        case _:
            return None


def footprint(
    decoder: Decoder, *, degree: int, batch: int, length: int, dtype: str, method: str
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
    matrices = _layer_weights(decoder, heads, kv_heads) * decoder.layers
    ends = decoder.vocab * decoder.hidden * (1 if decoder.tied else 2)
    weights = matrices * weight_size + ends * size
    cache = 2 * decoder.layers * kv_heads * decoder.head_dim * batch * length * size
    parameters = parameter_count(decoder)
    return Footprint(
        parameters=parameters,
        heads=heads,
        kv_heads=kv_heads,
        weights_bytes=weights,
        weights_per_core=-(-weights // degree),
        kv_per_core=-(-cache // degree),
        checkpoint_bytes=parameters * size,
    )


def parameter_count(decoder: Decoder) -> int:
    """Parameters of the unpadded model, norms included, biases left out."""
    layer = _layer_weights(decoder, decoder.heads, decoder.kv_heads) + 2 * decoder.hidden
    router = decoder.hidden * decoder.experts if decoder.experts > 1 else 0
    ends = decoder.vocab * decoder.hidden * (1 if decoder.tied else 2)
    return decoder.layers * (layer + router) + ends + decoder.hidden


def padded_heads(decoder: Decoder, degree: int) -> tuple[int, int]:
    """Query heads after padding, and key and value heads after replication, at `degree`."""
    heads = -(-decoder.heads // degree) * degree
    if decoder.heads == decoder.kv_heads:
        return heads, heads
    if decoder.kv_heads >= degree and decoder.kv_heads % degree == 0:
        return heads, decoder.kv_heads
    return heads, degree if degree % decoder.kv_heads == 0 else heads


def _layer_weights(decoder: Decoder, heads: int, kv_heads: int) -> int:
    attention = 2 * decoder.hidden * decoder.head_dim * (heads + kv_heads)
    mlp = decoder.mlp_matrices * decoder.hidden * decoder.intermediate * decoder.experts
    return attention + mlp


def _llama_like(config: Mapping[str, JSONValue]) -> Decoder:
    heads, hidden = _whole(config, "num_attention_heads"), _whole(config, "hidden_size")
    return Decoder(
        hidden=hidden,
        intermediate=_whole(config, "intermediate_size"),
        layers=_whole(config, "num_hidden_layers"),
        heads=heads,
        kv_heads=_whole(config, "num_key_value_heads", heads),
        head_dim=_whole(config, "head_dim", hidden // heads),
        vocab=_whole(config, "vocab_size"),
        mlp_matrices=3,
        experts=_whole(config, "num_local_experts", 1),
        tied=config.get("tie_word_embeddings") is True,
        positions=_whole(config, "max_position_embeddings", 0) or None,
    )


def _falcon(config: Mapping[str, JSONValue]) -> Decoder:
    heads, hidden = _whole(config, "num_attention_heads"), _whole(config, "hidden_size")
    multi_query = config.get("multi_query") is True
    return Decoder(
        hidden=hidden,
        intermediate=4 * hidden,
        layers=_whole(config, "num_hidden_layers"),
        heads=heads,
        kv_heads=_whole(config, "num_kv_heads", 1 if multi_query else heads),
        head_dim=hidden // heads,
        vocab=_whole(config, "vocab_size"),
        mlp_matrices=2,
        experts=1,
        tied=config.get("tie_word_embeddings", True) is True,
        positions=_whole(config, "max_position_embeddings", 0) or None,
    )


def _whole(config: Mapping[str, JSONValue], name: str, default: int | None = None) -> int:
    found = config.get(name)
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    if default is None:
        what = f"config.json has no whole number {name}"
        raise ValueError(what)
    return default
