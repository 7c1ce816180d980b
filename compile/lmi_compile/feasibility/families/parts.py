"""What decoders are built of."""

from dataclasses import dataclass
from typing import TypeAlias

from lmi_compile.feasibility.fields import Fields
from lmi_compile.feasibility.shape import Kind, Shape, Tensor, linear, norm, table

Tensors: TypeAlias = tuple[Tensor, ...]
Windows: TypeAlias = tuple[tuple[int, int | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The numbers that every decoder's config gives, under whichever names."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    max_positions: int | None

    @property
    def queries(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all key heads."""
        return self.kv_heads * self.head_dim


def read_sizes(fields: Fields) -> Sizes:
    """The numbers under the names that Llama's config uses."""
    hidden = fields.number("hidden_size")
    heads = fields.heads()
    kv_heads = fields.heads("num_key_value_heads", default=heads)
    fields.require(
        heads % kv_heads == 0, f"{heads} heads are not a multiple of {kv_heads} KV heads"
    )
    return Sizes(
        hidden=hidden,
        layers=fields.layers(),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=fields.head_dim(hidden, heads),
        intermediate=fields.number("intermediate_size"),
        vocabulary=fields.rows(),
        max_positions=fields.number("max_position_embeddings", default=0, least=0) or None,
    )


def attention(sizes: Sizes, *, bias: bool = False, out_bias: bool = False) -> Tensors:
    """Query, key, value and output projections of all layers."""
    return (
        *linear("attention", sizes.queries, sizes.hidden, bias=bias, copies=sizes.layers),
        *linear(
            "attention",
            sizes.keys,
            sizes.hidden,
            bias=bias,
            split="heads",
            copies=2 * sizes.layers,
            heads=sizes.kv_heads,
        ),
        *linear(
            "attention",
            sizes.hidden,
            sizes.queries,
            bias=out_bias,
            split="columns",
            copies=sizes.layers,
        ),
    )


def mlp(
    hidden: int,
    inner: int,
    copies: int,
    *,
    gated: bool = True,
    bias: bool = False,
    kind: Kind = "mlp",
    active: int | None = None,
) -> Tensors:
    """MLPs: one or two matrices up, one down."""
    up = 2 if gated else 1
    double = None if active is None else up * active
    return (
        *linear(kind, inner, hidden, bias=bias, copies=up * copies, active=double),
        *linear(kind, hidden, inner, bias=bias, split="columns", copies=copies, active=active),
    )


def vocabulary(sizes: Sizes, *, tied: bool, bias: bool = False) -> Tensors:
    """The embedding, and the output head unless it is tied to it."""
    head = linear("head", sizes.vocabulary, sizes.hidden, bias=bias, split="vocabulary")
    return table(sizes.vocabulary, sizes.hidden) + (head[1:] if tied else head)


def norms(sizes: Sizes, each: int, *, bias: bool = False, final: int = 1) -> Tensors:
    """`each` norms a layer and `final` after the last one."""
    return norm(sizes.hidden, each * sizes.layers + final, bias=bias)


def shape(
    fields: Fields,
    sizes: Sizes,
    tensors: Tensors,
    *,
    tied: bool,
    windows: Windows = (),
    experts: tuple[int, int] = (0, 0),
) -> Shape:
    """The finished shape of a decoder."""
    return Shape(
        model_type=fields.text("model_type", ""),
        tensors=tensors,
        layers=sizes.layers,
        hidden=sizes.hidden,
        heads=sizes.heads,
        kv_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        intermediate=sizes.intermediate,
        vocabulary=sizes.vocabulary,
        max_positions=sizes.max_positions,
        windows=windows,
        tied=tied,
        experts=experts[0],
        experts_per_token=experts[1],
    )


def windows_of(fields: Fields, layers: int, *, default: int | None = None) -> Windows:
    """Attention windows from `layer_types`, or the one window of every layer.

    Args:
        fields: the config.
        layers: how many layers there are.
        default: the family's own window where the config is silent.
    """
    window = fields.number("sliding_window", default=default or 0, least=0, most=1 << 24)
    if not window:
        return ()
    kinds = fields.words("layer_types")
    if not kinds:
        return ((layers, window),)
    sliding = sum(kind == "sliding_attention" for kind in kinds[:layers])
    return ((sliding, window), (layers - sliding, None))
