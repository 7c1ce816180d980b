"""Mixtures of experts."""

from lmi_compile.feasibility.families.parts import (
    Sizes,
    Tensors,
    attention,
    mlp,
    norms,
    read_sizes,
    shape,
    vocabulary,
    windows_of,
)
from lmi_compile.feasibility.fields import MOST_EXPERTS, Fields
from lmi_compile.feasibility.shape import Shape, Tensor, linear, norm


def mixtral(fields: Fields) -> Shape:
    """Mixtral: every layer is sparse."""
    sizes = read_sizes(fields)
    experts, used = _experts(fields, "num_local_experts", default=8)
    tied = fields.flag("tie_word_embeddings", default=False)
    tensors = (
        *vocabulary(sizes, tied=tied),
        *attention(sizes),
        *_sparse(sizes, sizes.layers, sizes.intermediate, experts, used),
        *norms(sizes, 2),
    )
    windows = windows_of(fields, sizes.layers)
    return shape(fields, sizes, tensors, tied=tied, windows=windows, experts=(experts, used))


def qwen2_moe(fields: Fields) -> Shape:
    """Qwen 2 MoE: a shared expert with a gate beside the routed ones."""
    sizes = read_sizes(fields)
    experts, used = _experts(fields, "num_experts", default=60)
    sparse = _sparse_layers(fields, sizes.layers, experts)
    inner = fields.number("moe_intermediate_size")
    tied = fields.flag("tie_word_embeddings", default=False)
    shared = fields.number("shared_expert_intermediate_size")
    tensors = (
        *vocabulary(sizes, tied=tied),
        *attention(sizes, bias=fields.flag("qkv_bias", default=True)),
        *_sparse(sizes, sparse, inner, experts, used),
        *mlp(sizes.hidden, shared, sparse),
        Tensor("router", 1, sizes.hidden, sparse),
        *mlp(sizes.hidden, sizes.intermediate, sizes.layers - sparse),
        *norms(sizes, 2),
    )
    return shape(fields, sizes, tensors, tied=tied, experts=(experts, used))


def qwen3_moe(fields: Fields) -> Shape:
    """Qwen 3 MoE: Qwen 3's norms on q and k, no shared expert."""
    sizes = read_sizes(fields)
    experts, used = _experts(fields, "num_experts", default=128)
    sparse = _sparse_layers(fields, sizes.layers, experts)
    inner = fields.number("moe_intermediate_size")
    bias = fields.flag("attention_bias", default=False)
    tied = fields.flag("tie_word_embeddings", default=False)
    tensors = (
        *vocabulary(sizes, tied=tied),
        *attention(sizes, bias=bias, out_bias=bias),
        *_sparse(sizes, sparse, inner, experts, used),
        *mlp(sizes.hidden, sizes.intermediate, sizes.layers - sparse),
        *norms(sizes, 2),
        *norm(sizes.head_dim, 2 * sizes.layers),
    )
    return shape(fields, sizes, tensors, tied=tied, experts=(experts, used))


def gpt_oss(fields: Fields) -> Shape:
    """gpt-oss: biases everywhere, one learned sink a head, every other layer windowed."""
    sizes = read_sizes(fields)
    experts, used = _experts(fields, "num_local_experts", default=128)
    bias = fields.flag("attention_bias", default=True)
    tied = fields.flag("tie_word_embeddings", default=False)
    tensors = (
        *vocabulary(sizes, tied=tied),
        *attention(sizes, bias=bias, out_bias=bias),
        Tensor("attention", sizes.heads, 1, sizes.layers, "rows"),
        *_sparse(sizes, sizes.layers, sizes.intermediate, experts, used, bias=True),
        *norms(sizes, 2),
    )
    windows = windows_of(fields, sizes.layers, default=128)
    if windows and not fields.words("layer_types"):
        half = sizes.layers // 2
        windows = ((sizes.layers - half, windows[0][1]), (half, None))
    return shape(fields, sizes, tensors, tied=tied, windows=windows, experts=(experts, used))


def _experts(fields: Fields, name: str, *, default: int) -> tuple[int, int]:
    experts = fields.number(name, "num_experts", default=default, most=MOST_EXPERTS)
    used = fields.number("num_experts_per_tok", "experts_per_token", default=2, most=MOST_EXPERTS)
    fields.require(used <= experts, f"num_experts_per_tok {used} is above {experts} experts")
    return experts, min(used, experts)


def _sparse_layers(fields: Fields, layers: int, experts: int) -> int:
    """How many layers have experts (`decoder_sparse_step` and `mlp_only_layers`)."""
    step = fields.number("decoder_sparse_step", default=1)
    dense = set(fields.numbers("mlp_only_layers", ()))
    if not experts:
        return 0
    return sum(layer not in dense and (layer + 1) % step == 0 for layer in range(layers))


def _sparse(
    sizes: Sizes, layers: int, inner: int, experts: int, used: int, *, bias: bool = False
) -> Tensors:
    router = linear("router", experts, sizes.hidden, bias=bias, split="none", copies=layers)
    return (
        *(Tensor("router", one.rows, one.columns, one.copies) for one in router),
        *mlp(
            sizes.hidden,
            inner,
            layers * experts,
            bias=bias,
            kind="experts",
            active=layers * used,
        ),
    )
