"""Llama and the decoders that differ from it in biases, norms and windows."""

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
from lmi_compile.feasibility.fields import Fields
from lmi_compile.feasibility.shape import Shape, norm


def llama(fields: Fields) -> Shape:
    """Llama, Granite, and what shares their arithmetic: Baichuan, InternLM2, SmolLM3."""
    sizes = read_sizes(fields)
    bias = fields.flag("attention_bias", default=False)
    tied = fields.flag("tie_word_embeddings", default=False)
    tensors = (
        *vocabulary(sizes, tied=tied),
        *attention(sizes, bias=bias, out_bias=bias),
        *_gated(sizes, bias=fields.flag("mlp_bias", default=False)),
        *norms(sizes, 2),
    )
    return shape(fields, sizes, tensors, tied=tied)


def smollm3(fields: Fields) -> Shape:
    """SmolLM3: Llama, tied by default."""
    return _plain(fields, tied=True)


def internlm(fields: Fields) -> Shape:
    """InternLM 1: `bias` puts one on the four projections of attention."""
    bias = fields.flag("bias", default=True)
    return _plain(fields, tied=False, bias=bias, out_bias=bias)


def baichuan(fields: Fields) -> Shape:
    """Baichuan 1 and 2: W_pack is q, k and v in one; no biases."""
    return _plain(fields, tied=False)


def internlm2(fields: Fields) -> Shape:
    """InternLM 2: wqkv is q, k and v in one."""
    bias = fields.flag("bias", default=False)
    return _plain(fields, tied=False, bias=bias, out_bias=bias)


def mistral(fields: Fields) -> Shape:
    """Mistral: no biases, one window for every layer."""
    return _plain(fields, tied=False, windowed=True)


def qwen2(fields: Fields) -> Shape:
    """Qwen 2: biases on q, k and v only; the window counts only when it is switched on."""
    windowed = fields.flag("use_sliding_window", default=False)
    return _plain(fields, tied=False, bias=True, windowed=windowed)


def qwen3(fields: Fields) -> Shape:
    """Qwen 3: a norm of one head's width on q and on k."""
    sizes = read_sizes(fields)
    bias = fields.flag("attention_bias", default=False)
    tied = fields.flag("tie_word_embeddings", default=False)
    tensors = (
        *vocabulary(sizes, tied=tied),
        *attention(sizes, bias=bias, out_bias=bias),
        *_gated(sizes),
        *norms(sizes, 2),
        *norm(sizes.head_dim, 2 * sizes.layers),
    )
    windowed = fields.flag("use_sliding_window", default=False)
    return shape(fields, sizes, tensors, tied=tied,
                 windows=windows_of(fields, sizes.layers) if windowed else ())  # fmt: skip


def phi3(fields: Fields) -> Shape:
    """Phi 3: q, k, v and gate, up are fused; no biases."""
    return _plain(fields, tied=False, windowed=True)


def gemma(fields: Fields) -> Shape:
    """Gemma 1: tied."""
    return _plain(fields, tied=True)


def gemma2(fields: Fields) -> Shape:
    """Gemma 2: four norms a layer; every other layer has a window."""
    return _gemma(fields, head_norms=0, default_window=4096, every=2)


def gemma3(fields: Fields) -> Shape:
    """Gemma 3's text model: norms on q and k, and five windowed layers for each other one."""
    pattern = fields.number("sliding_window_pattern", default=6)
    return _gemma(fields, head_norms=2, default_window=4096, every=pattern)


def olmo2(fields: Fields) -> Shape:
    """OLMo 2: norms behind attention and MLP, and over all of q and all of k."""
    sizes = read_sizes(fields)
    bias = fields.flag("attention_bias", default=False)
    tied = fields.flag("tie_word_embeddings", default=False)
    tensors = (
        *vocabulary(sizes, tied=tied),
        *attention(sizes, bias=bias, out_bias=bias),
        *_gated(sizes),
        *norms(sizes, 2),
        *norm(sizes.queries, sizes.layers),
        *norm(sizes.keys, sizes.layers),
    )
    return shape(fields, sizes, tensors, tied=tied)


def stablelm(fields: Fields) -> Shape:
    """StableLM: classic norms with a bias; the parallel residual shares one a layer."""
    sizes = read_sizes(fields)
    tied = fields.flag("tie_word_embeddings", default=False)
    each = 1 if fields.flag("use_parallel_residual", default=False) else 2
    per_head = sizes.heads + sizes.kv_heads if fields.flag("qk_layernorm", default=False) else 0
    tensors = (
        *vocabulary(sizes, tied=tied),
        *attention(sizes, bias=fields.flag("use_qkv_bias", default=False)),
        *_gated(sizes),
        *norms(sizes, each, bias=True),
        *norm(sizes.head_dim, per_head * sizes.layers),
    )
    return shape(fields, sizes, tensors, tied=tied)


def starcoder2(fields: Fields) -> Shape:
    """StarCoder 2: a plain MLP, classic norms, `use_bias` everywhere."""
    sizes = read_sizes(fields)
    bias = fields.flag("use_bias", default=True)
    tied = fields.flag("tie_word_embeddings", default=True)
    tensors = (
        *vocabulary(sizes, tied=tied),
        *attention(sizes, bias=bias, out_bias=bias),
        *mlp(sizes.hidden, sizes.intermediate, sizes.layers, gated=False, bias=bias),
        *norms(sizes, 2, bias=True),
    )
    return shape(fields, sizes, tensors, tied=tied, windows=windows_of(fields, sizes.layers))


def phi(fields: Fields) -> Shape:
    """Phi 1 and 2: one norm a layer, biases everywhere, the head too."""
    sizes = read_sizes(fields)
    tied = fields.flag("tie_word_embeddings", default=False)
    each = 2 * sizes.layers if fields.flag("qk_layernorm", default=False) else 0
    tensors = (
        *vocabulary(sizes, tied=tied, bias=True),
        *attention(sizes, bias=True, out_bias=True),
        *mlp(sizes.hidden, sizes.intermediate, sizes.layers, gated=False, bias=True),
        *norms(sizes, 1, bias=True),
        *norm(sizes.head_dim, each, bias=True),
    )
    return shape(fields, sizes, tensors, tied=tied)


def chatglm(fields: Fields) -> Shape:
    """ChatGLM 2 and 3: multi-query groups, biases on q, k and v only."""
    hidden = fields.number("hidden_size")
    heads = fields.heads()
    grouped = fields.flag("multi_query_attention", default=False)
    sizes = Sizes(
        hidden=hidden,
        layers=fields.layers("num_layers"),
        heads=heads,
        kv_heads=fields.heads("multi_query_group_num", default=1) if grouped else heads,
        head_dim=fields.number("kv_channels", default=max(1, hidden // heads)),
        intermediate=fields.number("ffn_hidden_size"),
        vocabulary=fields.rows("padded_vocab_size"),
        max_positions=fields.number("seq_length", default=0, least=0) or None,
    )
    linear_bias = fields.flag("add_bias_linear", default=False)
    bias = linear_bias or fields.flag("add_qkv_bias", default=False)
    tensors = (
        *vocabulary(sizes, tied=False),
        *attention(sizes, bias=bias, out_bias=linear_bias),
        *_gated(sizes, bias=linear_bias),
        *norms(sizes, 2, bias=not fields.flag("rmsnorm", default=True)),
    )
    return shape(fields, sizes, tensors, tied=False)


def _plain(
    fields: Fields,
    *,
    tied: bool,
    bias: bool = False,
    out_bias: bool = False,
    windowed: bool = False,
) -> Shape:
    sizes = read_sizes(fields)
    tied = fields.flag("tie_word_embeddings", default=tied)
    bias = fields.flag("attention_bias", default=bias)
    tensors = (
        *vocabulary(sizes, tied=tied),
        *attention(sizes, bias=bias, out_bias=fields.flag("attention_bias", default=out_bias)),
        *_gated(sizes),
        *norms(sizes, 2),
    )
    windows = windows_of(fields, sizes.layers) if windowed else ()
    return shape(fields, sizes, tensors, tied=tied, windows=windows)


def _gemma(fields: Fields, *, head_norms: int, default_window: int, every: int) -> Shape:
    sizes = read_sizes(fields)
    tied = fields.flag("tie_word_embeddings", default=True)
    bias = fields.flag("attention_bias", default=False)
    tensors = (
        *vocabulary(sizes, tied=tied),
        *attention(sizes, bias=bias, out_bias=bias),
        *_gated(sizes),
        *norms(sizes, 4),
        *norm(sizes.head_dim, head_norms * sizes.layers),
    )
    windows = windows_of(fields, sizes.layers, default=default_window)
    if windows and not fields.words("layer_types"):
        whole = sizes.layers // every
        windows = ((sizes.layers - whole, windows[0][1]), (whole, None))
    return shape(fields, sizes, tensors, tied=tied, windows=windows)


def _gated(sizes: Sizes, *, bias: bool = False) -> Tensors:
    return mlp(sizes.hidden, sizes.intermediate, sizes.layers, bias=bias)
