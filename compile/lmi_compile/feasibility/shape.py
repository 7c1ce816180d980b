"""The shape of a model: every tensor that has parameters, and what the KV cache is made of."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "embedding", "attention", "mlp", "experts", "router", "norm", "head", "convolution", "other"
]
Split = Literal["rows", "columns", "heads", "vocabulary", "none"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """Equal tensors of a model.

    Attributes:
        kind: what they are for.
        rows: output features, or the length of a vector.
        columns: input features; 1 for a vector.
        copies: how many there are.
        split: how tensor parallelism cuts them: by rows (column-parallel), by columns
            (row-parallel), by KV heads (kept whole below one head), by vocabulary, or not at all.
        linear: whether it multiplies activations, so that weight quantisation replaces it.
        heads: for `heads`: how many heads the rows are.
        active: copies that one token uses; None means all of them.
    """

    kind: Kind
    rows: int
    columns: int = 1
    copies: int = 1
    split: Split = "none"
    linear: bool = False
    heads: int = 0
    active: int | None = None

    @property
    def parameters(self) -> int:
        """Parameters of all copies."""
        return self.rows * self.columns * self.copies

    @property
    def active_parameters(self) -> int:
        """Parameters that one token meets."""
        return self.rows * self.columns * (self.copies if self.active is None else self.active)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model as far as memory and time depend on it.

    Attributes:
        model_type: the family, as config.json names it.
        tensors: every parameter of the model, tied ones once.
        layers: layers that keep keys and values; all layers for a model without a cache.
        hidden: width of the residual stream.
        heads: query heads.
        kv_heads: key and value heads.
        head_dim: width of one head.
        intermediate: widest activation of an MLP.
        vocabulary: rows of the output head; 0 without one.
        max_positions: longest sequence the model was made for; None when nothing bounds it.
        windows: attention windows by number of layers, `(layers, window or None)`.
        tied: the output head is the embedding, so it is read though it is stored once.
        experts: experts of a sparse layer; 0 for a dense model.
        experts_per_token: how many of them a token meets.
        generates: keeps a KV cache and answers token by token.
        exact: every parameter is known; False for an estimate from file headers.
    """

    model_type: str
    tensors: tuple[Tensor, ...]
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    max_positions: int | None
    windows: tuple[tuple[int, int | None], ...] = ()
    tied: bool = False
    experts: int = 0
    experts_per_token: int = 0
    generates: bool = True
    exact: bool = True

    @property
    def parameters(self) -> int:
        """Parameters of the whole model, as `sum(p.numel() for p in model.parameters())`."""
        return sum(tensor.parameters for tensor in self.tensors)

    @property
    def active_parameters(self) -> int:
        """Parameters that multiply activations for one token, with the output head.

        The embedding is a table that is looked up, so it counts only where it is the head too.
        """
        tied_head = self.vocabulary * self.hidden if self.tied else 0
        return tied_head + sum(
            tensor.active_parameters for tensor in self.tensors if tensor.kind != "embedding"
        )

    @property
    def mlp_widths(self) -> tuple[int, ...]:
        """The widths of its MLPs and of its experts, as tensor parallelism cuts them."""
        widths = {
            tensor.rows
            for tensor in self.tensors
            if tensor.split == "rows" and tensor.kind in {"mlp", "experts"}
        }
        return tuple(sorted(widths))

    def cached_tokens(self, length: int) -> int:
        """Tokens times layers that a sequence of `length` tokens keeps in a windowed cache."""
        if not self.windows:
            return self.layers * length
        return sum(
            layers * (length if window is None else min(length, window))
            for layers, window in self.windows
        )


def linear(  # noqa: PLR0913 - what linear layers differ in
    kind: Kind,
    rows: int,
    columns: int,
    *,
    bias: bool = False,
    split: Split = "rows",
    copies: int = 1,
    heads: int = 0,
    active: int | None = None,
) -> tuple[Tensor, ...]:
    """Linear layers; the bias of a row-parallel one is kept whole on every rank."""
    weight = Tensor(kind, rows, columns, copies, split, True, heads, active)  # noqa: FBT003 - by position, for speed
    if not bias:
        return (weight,)
    whole = "none" if split == "columns" else split
    return (weight, Tensor(kind, rows, 1, copies, whole, heads=heads, active=active))


def norm(width: int, count: int, *, bias: bool = False) -> tuple[Tensor, ...]:
    """Norms: a weight each, and a bias for the classic kind."""
    return (Tensor("norm", width, 1, count * (2 if bias else 1)),) if count else ()


def table(rows: int, columns: int) -> tuple[Tensor, ...]:
    """An embedding over the vocabulary."""
    return (Tensor("embedding", rows, columns, 1, "vocabulary"),)
