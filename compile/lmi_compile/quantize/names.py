"""Which layer of a Hugging Face model is which of a TensorRT-LLM checkpoint, by family."""

from dataclasses import dataclass

_LLAMA = "llama"
_GPT = "gpt"
FAMILIES = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "Qwen2ForCausalLM": _LLAMA,
    "Qwen3ForCausalLM": _LLAMA,
    "GPT2LMHeadModel": _GPT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names of one family.

    Attributes:
        plain: checkpoint tensor to model tensor, `{i}` for a layer's number; both weights and,
            where they exist, biases.
        linears: checkpoint layer to the model's layers whose rows it holds, in order.
        transposed: the model keeps its linears [in, out] (Conv1D).
    """

    plain: dict[str, str]
    linears: dict[str, tuple[str, ...]]
    transposed: bool = False


_LAYER = "transformer.layers.{i}"
NAMES = {
    _LLAMA: Names(
        plain={
            "transformer.vocab_embedding": "model.embed_tokens",
            "transformer.ln_f": "model.norm",
            f"{_LAYER}.input_layernorm": "model.layers.{i}.input_layernorm",
            f"{_LAYER}.post_layernorm": "model.layers.{i}.post_attention_layernorm",
            f"{_LAYER}.attention.q_layernorm": "model.layers.{i}.self_attn.q_norm",
            f"{_LAYER}.attention.k_layernorm": "model.layers.{i}.self_attn.k_norm",
        },
        linears={
            f"{_LAYER}.attention.qkv": (
                "model.layers.{i}.self_attn.q_proj",
                "model.layers.{i}.self_attn.k_proj",
                "model.layers.{i}.self_attn.v_proj",
            ),
            f"{_LAYER}.attention.dense": ("model.layers.{i}.self_attn.o_proj",),
            f"{_LAYER}.mlp.fc": ("model.layers.{i}.mlp.gate_proj",),
            f"{_LAYER}.mlp.gate": ("model.layers.{i}.mlp.up_proj",),
            f"{_LAYER}.mlp.proj": ("model.layers.{i}.mlp.down_proj",),
            "lm_head": ("lm_head",),
        },
    ),
    _GPT: Names(
        plain={
            "transformer.vocab_embedding": "transformer.wte",
            "transformer.position_embedding": "transformer.wpe",
            "transformer.ln_f": "transformer.ln_f",
            f"{_LAYER}.input_layernorm": "transformer.h.{i}.ln_1",
            f"{_LAYER}.post_layernorm": "transformer.h.{i}.ln_2",
        },
        linears={
            f"{_LAYER}.attention.qkv": ("transformer.h.{i}.attn.c_attn",),
            f"{_LAYER}.attention.dense": ("transformer.h.{i}.attn.c_proj",),
            f"{_LAYER}.mlp.fc": ("transformer.h.{i}.mlp.c_fc",),
            f"{_LAYER}.mlp.proj": ("transformer.h.{i}.mlp.c_proj",),
            "lm_head": ("lm_head",),
        },
        transposed=True,
    ),
}


def names_of(architecture: str) -> Names:
    """The names of a checkpoint's `architecture`.

    Raises:
        KeyError: no checkpoint of it can be read back here.
    """
    return NAMES[FAMILIES[architecture]]


def spread(names: dict[str, str], layers: int) -> dict[str, str]:
    """`names` with `{i}` filled in for every layer."""
    filled: dict[str, str] = {}
    for ours, theirs in names.items():
        numbers = range(layers) if "{i}" in ours else range(1)
        filled |= {ours.format(i=number): theirs.format(i=number) for number in numbers}
    return filled


def spread_linears(names: Names, layers: int) -> dict[str, tuple[str, ...]]:
    """`names.linears` with `{i}` filled in for every layer."""
    filled: dict[str, tuple[str, ...]] = {}
    for ours, theirs in names.linears.items():
        numbers = range(layers) if "{i}" in ours else range(1)
        for number in numbers:
            filled[ours.format(i=number)] = tuple(each.format(i=number) for each in theirs)
    return filled
