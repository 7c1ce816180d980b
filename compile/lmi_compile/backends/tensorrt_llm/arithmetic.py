"""How many parameters a model has, and whether an engine of it fits a GPU. Light."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lmi_artifacts.digest import JSONValue
from lmi_compile.backends.tensorrt_llm.ask import Ask

_MIB = 1 << 20
_RUNTIME = 1536 * _MIB  # CUDA context, TensorRT and NCCL: an allowance, not a measurement
_WEIGHT_BITS = {
    "none": 16,
    "smoothquant": 8,
    "fp8": 8,
    "int8_wo": 8,
    "int4_wo": 4,
    "awq": 4.25,  # one float32 scale, which engines keep as 16 bits, for 64 or 128 columns
    "gptq": 4.25,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """A model's parameter count.

    Attributes:
        linears: in the layers' linears, which are what is quantised.
        embeddings: in the token and position embeddings and the head, tied ones once.
        rest: norms and biases.
    """

    linears: int
    embeddings: int
    rest: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.linears + self.embeddings + self.rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What one rank needs, in bytes.

    Attributes:
        weights: of this rank.
        sequence: the KV cache of one sequence of full length.
        reserve: logits and activations of one step, and the runtime.
        available: the GPU's memory.
    """

    weights: int
    sequence: int
    reserve: int
    available: int

    @property
    def needed(self) -> int:
        """Weights, one sequence and the reserve: paged KV grows into what is left."""
        return self.weights + self.sequence + self.reserve

    @property
    def fits(self) -> bool:
        """Whether one sequence of full length can be served."""
        return self.needed <= self.available


class _Config:
    """Reads integers of a config under any of their names."""

    def __init__(self, config: Mapping[str, JSONValue]) -> None:
        self._config = config

    def whole(self, *names: str, default: int | None = None) -> int:
        for name in names:
            value = self._config.get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        if default is None:
            raise KeyError(names[0])
        return default

    def truth(self, name: str, *, default: bool) -> bool:
        value = self._config.get(name)
        return value if isinstance(value, bool) else default


def parameters_of(config: Mapping[str, JSONValue]) -> Parameters | None:
    """The parameter count of a model's config.json; None for an unknown or incomplete one."""
    count = _COUNTS.get(str(config.get("model_type")))
    if count is None:
        return None
    try:
        return count(_Config(config))
    except KeyError:
        return None


def _gated(config: _Config) -> Parameters:
    """Llama and its kin: grouped attention, gated MLP, RMS norms."""
    hidden, layers = config.whole("hidden_size"), config.whole("num_hidden_layers")
    inner, vocab = config.whole("intermediate_size"), config.whole("vocab_size")
    heads = config.whole("num_attention_heads")
    kv_heads = config.whole("num_key_value_heads", default=heads)
    size = config.whole("head_dim", default=hidden // heads)
    experts = config.whole("num_local_experts", default=0)
    attention = hidden * size * (2 * heads + 2 * kv_heads)
    mlp = 3 * hidden * inner * max(1, experts) + hidden * experts
    bias = 0
    kind = str(config._config.get("model_type"))  # noqa: SLF001 - the same module
    if kind == "qwen2":
        bias = size * (heads + 2 * kv_heads)
    elif kind == "internlm" and config.truth("bias", default=True):
        bias = size * (heads + 2 * kv_heads) + hidden
    elif kind == "qwen3":
        bias = 2 * size
    tied = config.truth("tie_word_embeddings", default=kind == "gemma")
    return Parameters(
        linears=layers * (attention + mlp),
        embeddings=vocab * hidden * (1 if tied else 2),
        rest=layers * (2 * hidden + bias) + hidden,
    )


def _qwen(config: _Config) -> Parameters:
    hidden, layers = config.whole("hidden_size"), config.whole("num_hidden_layers")
    inner = config.whole("intermediate_size") // 2
    return Parameters(
        linears=layers * (4 * hidden * hidden + 3 * hidden * inner),
        embeddings=2 * config.whole("vocab_size") * hidden,
        rest=layers * (2 * hidden + 3 * hidden) + hidden,
    )


def _falcon(config: _Config) -> Parameters:
    hidden = config.whole("hidden_size")
    layers = config.whole("num_hidden_layers", "n_layer")
    heads = config.whole("num_attention_heads", "n_head")
    size = hidden // heads
    newer = config.truth("new_decoder_architecture", default=False)
    kv_heads = config.whole("num_kv_heads", "n_head_kv", default=heads) if newer else 1
    attention = hidden * size * (heads + 2 * kv_heads) + hidden * hidden
    return Parameters(
        linears=layers * (attention + 8 * hidden * hidden),
        embeddings=config.whole("vocab_size") * hidden,
        rest=layers * (4 if newer else 2) * hidden + 2 * hidden,
    )


def _chatglm(config: _Config) -> Parameters:
    hidden, layers = config.whole("hidden_size"), config.whole("num_layers")
    inner = config.whole("ffn_hidden_size")
    shared = config.whole("kv_channels") * config.whole("multi_query_group_num")
    qkv = hidden + 2 * shared
    return Parameters(
        linears=layers * (hidden * qkv + hidden * hidden + 3 * hidden * inner),
        embeddings=2 * config.whole("padded_vocab_size", "vocab_size") * hidden,
        rest=layers * (2 * hidden + qkv) + hidden,
    )


def _gpt2(config: _Config) -> Parameters:
    hidden, layers = config.whole("n_embd"), config.whole("n_layer")
    inner = config.whole("n_inner", default=4 * hidden)
    shared = hidden
    if str(config._config.get("model_type")) == "gpt_bigcode":  # noqa: SLF001 - the same module
        shared = hidden // config.whole("n_head")
    qkv = hidden + 2 * shared
    return Parameters(
        linears=layers * (hidden * qkv + hidden * hidden + 2 * hidden * inner),
        embeddings=(config.whole("vocab_size") + config.whole("n_positions")) * hidden,
        rest=layers * (qkv + 2 * hidden + inner + 4 * hidden) + 2 * hidden,
    )


def _gptj(config: _Config) -> Parameters:
    hidden, layers, vocab = (config.whole(name) for name in ("n_embd", "n_layer", "vocab_size"))
    return Parameters(
        linears=layers * 12 * hidden * hidden,
        embeddings=2 * vocab * hidden,
        rest=layers * (5 * hidden + 2 * hidden) + 2 * hidden + vocab,
    )


def _phi(config: _Config) -> Parameters:
    hidden, layers = config.whole("hidden_size"), config.whole("num_hidden_layers")
    inner, vocab = config.whole("intermediate_size"), config.whole("vocab_size")
    return Parameters(
        linears=layers * (4 * hidden * hidden + 2 * hidden * inner),
        embeddings=2 * vocab * hidden,
        rest=layers * (5 * hidden + inner + 2 * hidden) + 2 * hidden + vocab,
    )


def _t5(config: _Config) -> Parameters:
    hidden, layers, inner = (
        config.whole("d_model"),
        config.whole("num_layers"),
        config.whole("d_ff"),
    )
    heads = config.whole("num_heads")
    attention = 4 * hidden * config.whole("d_kv") * heads
    decoder = config.whole("num_decoder_layers", default=layers)
    return Parameters(
        linears=layers * (attention + 2 * hidden * inner)
        + decoder * (2 * attention + 2 * hidden * inner),
        embeddings=config.whole("vocab_size") * hidden,
        rest=(2 * layers + 3 * decoder + 2) * hidden
        + 2 * heads * config.whole("relative_attention_num_buckets"),
    )


_COUNTS: Mapping[str, Callable[[_Config], Parameters]] = {
    **dict.fromkeys(
        ("llama", "mistral", "mixtral", "qwen2", "qwen3", "internlm", "baichuan", "gemma"), _gated
    ),
    "qwen": _qwen,
    "falcon": _falcon,
    "chatglm": _chatglm,
    "gpt2": _gpt2,
    "gpt_bigcode": _gpt2,
    "gptj": _gptj,
    "phi": _phi,
    "t5": _t5,
}


def kv_values_per_token(config: Mapping[str, JSONValue]) -> int:
    """Keys and values that one token leaves in the cache, over all layers and heads."""
    read = _Config(config)
    hidden = read.whole("hidden_size", "n_embd", "d_model")
    layers = read.whole("num_hidden_layers", "n_layer", "num_layers")
    heads = read.whole("num_attention_heads", "n_head", "num_heads")
    size = read.whole("head_dim", "kv_channels", "d_kv", default=hidden // heads)
    kind = str(config.get("model_type"))
    one = kind == "gpt_bigcode" or (kind == "falcon" and not config.get("new_decoder_architecture"))
    names = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
    return 2 * layers * size * (1 if one else read.whole(*names, default=heads))


def memory_of(ask: Ask) -> Memory | None:
    """What one rank of an ask needs; None where the model's size is not known."""
    parameters = parameters_of(ask.config)
    if parameters is None:
        return None
    plain = 4 if ask.recipe.dtype == "float32" else 2
    bits = _WEIGHT_BITS[ask.quantization.method]
    linear_bytes = plain if ask.quantization.method == "none" else bits / 8
    weights = parameters.linears * linear_bytes + (parameters.embeddings + parameters.rest) * plain
    kv_bytes = plain if ask.kv_cache_quant_algo is None else 1
    shared = max(1, min(ask.tp, kv_values_per_token(ask.config)))
    sequence = kv_values_per_token(ask.config) * kv_bytes * ask.limits.max_seq_len / shared
    read = _Config(ask.config)
    hidden = read.whole("hidden_size", "n_embd", "d_model")
    inner = read.whole(
        "intermediate_size", "n_inner", "ffn_hidden_size", "d_ff", default=4 * hidden
    )
    vocab = read.whole("vocab_size", "padded_vocab_size")
    step = ask.limits.max_num_tokens * (2 * inner // ask.tp + 6 * hidden) * plain
    step += ask.limits.max_batch_size * vocab * 4
    return Memory(
        weights=int(weights / ask.world),
        sequence=int(sequence / ask.pp),
        reserve=_RUNTIME + step,
        available=ask.gpus.memory_mib * _MIB,
    )
