"""GPT-2 and its relatives: learned positions, classic norms, plain MLPs."""

from dataclasses import replace

from lmi_compile.feasibility.families.parts import (
    Sizes,
    attention,
    mlp,
    norms,
    read_sizes,
    shape,
    vocabulary,
)
from lmi_compile.feasibility.fields import Fields
from lmi_compile.feasibility.shape import Shape, Tensor, linear, norm


def gpt2(fields: Fields) -> Shape:
    """GPT-2."""
    return _gpt2(fields, kv_heads=None)


def gpt_bigcode(fields: Fields) -> Shape:
    """StarCoder and SantaCoder: GPT-2 with one KV head."""
    one = fields.flag("multi_query", default=True)
    return _gpt2(fields, kv_heads=1 if one else None)


def gptj(fields: Fields) -> Shape:
    """GPT-J: one norm for attention and MLP, biases on the MLP and the head only."""
    sizes = _gpt_sizes(fields, None)
    tied = fields.flag("tie_word_embeddings", default=False)
    tensors = (
        *vocabulary(sizes, tied=tied, bias=True),
        *attention(sizes),
        *mlp(sizes.hidden, sizes.intermediate, sizes.layers, gated=False, bias=True),
        *norms(sizes, 1, bias=True),
    )
    return shape(fields, sizes, tensors, tied=tied)


def gpt_neox(fields: Fields) -> Shape:
    """GPT-NeoX and Pythia."""
    sizes = read_sizes(fields)
    tied = fields.flag("tie_word_embeddings", default=False)
    bias = fields.flag("attention_bias", default=True)
    tensors = (
        *vocabulary(sizes, tied=tied),
        *attention(sizes, bias=bias, out_bias=bias),
        *mlp(sizes.hidden, sizes.intermediate, sizes.layers, gated=False, bias=True),
        *norms(sizes, 2, bias=True),
    )
    return shape(fields, sizes, tensors, tied=tied)


def bloom(fields: Fields) -> Shape:
    """BLOOM: a norm behind the embedding, ALiBi instead of positions."""
    hidden = fields.number("hidden_size", "n_embed")
    heads = fields.heads("n_head", "num_attention_heads")
    sizes = Sizes(
        hidden=hidden,
        layers=fields.layers("n_layer", "num_hidden_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=fields.head_dim(hidden, heads),
        intermediate=4 * hidden,
        vocabulary=fields.rows(),
        max_positions=fields.number("seq_length", default=0, least=0) or None,
    )
    tied = fields.flag("tie_word_embeddings", default=True)
    tensors = (
        *vocabulary(sizes, tied=tied),
        *attention(sizes, bias=True, out_bias=True),
        *mlp(hidden, 4 * hidden, sizes.layers, gated=False, bias=True),
        *norms(sizes, 2, bias=True, final=2),
    )
    return shape(fields, sizes, tensors, tied=tied)


def falcon(fields: Fields) -> Shape:
    """Falcon, all three kinds: 7B (one KV head), 40B and 180B (groups), RW (classic, ALiBi)."""
    hidden = fields.number("hidden_size", "n_embed")
    heads = fields.heads("num_attention_heads", "n_head")
    grouped = fields.flag("new_decoder_architecture", default=False)
    parallel = fields.flag("parallel_attn", default=True)
    if grouped:
        kv_heads = fields.heads("num_kv_heads", "n_head_kv", default=heads)
    else:
        kv_heads = 1 if fields.flag("multi_query", default=True) else heads
    layers = fields.layers("num_hidden_layers", "n_layer")
    sizes = Sizes(
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=fields.head_dim(hidden, heads),
        intermediate=fields.number("ffn_hidden_size", default=4 * hidden),
        vocabulary=fields.rows(),
        max_positions=fields.number("max_position_embeddings", default=2048),
    )
    bias = fields.flag("bias", default=False)
    tied = fields.flag("tie_word_embeddings", default=True)
    each = 1 if parallel and not (
        grouped and fields.number("num_ln_in_parallel_attn", default=2) == 2  # noqa: PLR2004
    ) else 2  # fmt: skip
    tensors = (
        *vocabulary(sizes, tied=tied),
        *attention(sizes, bias=bias, out_bias=bias),
        *mlp(hidden, sizes.intermediate, layers, gated=False, bias=bias),
        *norms(sizes, each, bias=True),
    )
    return shape(fields, sizes, tensors, tied=tied)


def opt(fields: Fields) -> Shape:
    """OPT: two extra rows of positions, and projections where the embedding is narrower."""
    sizes = read_sizes(_renamed(fields, {"intermediate_size": "ffn_dim"}))
    width = fields.number("word_embed_proj_dim", default=sizes.hidden)
    tied = fields.flag("tie_word_embeddings", default=True)
    bias = fields.flag("enable_bias", default=True)
    affine = fields.flag("layer_norm_elementwise_affine", default=True)
    before = fields.flag("do_layer_norm_before", default=True)
    final = before and not fields.flag("_remove_final_layer_norm", default=False)
    count = 2 * sizes.layers + final if affine else 0
    tensors = (
        *vocabulary(replace(sizes, hidden=width), tied=tied),
        Tensor("other", (sizes.max_positions or 0) + 2, sizes.hidden),
        *(linear("other", sizes.hidden, width, split="none", copies=2)
          if width != sizes.hidden else ()),
        *attention(sizes, bias=bias, out_bias=bias),
        *mlp(sizes.hidden, sizes.intermediate, sizes.layers, gated=False, bias=bias),
        *norm(sizes.hidden, count, bias=True),
    )  # fmt: skip
    return shape(fields, sizes, tensors, tied=tied)


def _gpt2(fields: Fields, *, kv_heads: int | None) -> Shape:
    sizes = _gpt_sizes(fields, kv_heads)
    tied = fields.flag("tie_word_embeddings", default=True)
    tensors = (
        *vocabulary(sizes, tied=tied),
        # Cut by rows, as modelopt exports it.
        Tensor("other", sizes.max_positions or 0, sizes.hidden, split="rows"),
        *attention(sizes, bias=True, out_bias=True),
        *mlp(sizes.hidden, sizes.intermediate, sizes.layers, gated=False, bias=True),
        *norms(sizes, 2, bias=True),
    )
    return shape(fields, sizes, tensors, tied=tied)


def _gpt_sizes(fields: Fields, kv_heads: int | None) -> Sizes:
    hidden = fields.number("n_embd", "hidden_size")
    heads = fields.heads("n_head", "num_attention_heads")
    return Sizes(
        hidden=hidden,
        layers=fields.layers("n_layer", "num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads or heads,
        head_dim=fields.head_dim(hidden, heads),
        intermediate=fields.number("n_inner", default=4 * hidden),
        vocabulary=fields.rows(),
        max_positions=fields.number("n_positions", "max_position_embeddings"),
    )


def _renamed(fields: Fields, names: dict[str, str]) -> Fields:
    """The same reading, with its problems, where a family has a word of its own."""
    renamed = Fields({**fields.config, **{to: fields.config.get(of) for to, of in names.items()}})
    renamed.problems = fields.problems
    return renamed
