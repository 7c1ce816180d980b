"""Attention over key/value slots, registered with transformers under one name.

Modelling code asks two registries by `config._attn_implementation`: one for the mask, one for the
attention. Both functions here refuse what they do not know, because a mask that is silently left
out, or a keyword that is silently ignored, gives wrong logits without an error.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch  # noqa: TID253 - imported by the compile worker only
from transformers.masking_utils import AttentionMaskInterface  # noqa: TID253 - the same
from transformers.modeling_utils import AttentionInterface  # noqa: TID253 - the same

from lmi_compile.errors import Unsupported

NAME = "lmi_slots"
# Model types that ask no registry for attention, only for the mask, and the implementation among
# their own that is traced: BLOOM and GPT-J add the mask to the scores, Falcon hands it to torch.
OWN = {"bloom": "eager", "falcon": "sdpa", "gptj": "eager"}
# What modelling code passes along and the mask or the cache already carries.
_HARMLESS = frozenset(
    {
        "cache_position",
        "is_causal",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "position_ids",
        "sliding_window",
        "use_cache",
    }
)


@dataclass(slots=True)
class Ledger:
    """Which layers came through here while a graph was traced.

    Attributes:
        attended: layer numbers in the order of their attention calls.
        masks: how many masks were made.
        positions: where the queries stand `[B]`, for models whose cache must tell a length instead.
    """

    attended: list[int] = field(default_factory=list)
    masks: int = 0
    positions: torch.Tensor | None = None


_ledger = Ledger()


@contextmanager
def recording() -> Iterator[Ledger]:
    """Registers the functions and yields the ledger of what calls them from now on.

    The masks under transformers' own names, which `OWN` needs, are as before afterwards.
    """
    masks = AttentionMaskInterface()
    before = {name: masks[name] for name in ("eager", "sdpa")}
    AttentionInterface.register(NAME, attend)
    for name, mask in ((NAME, slot_mask), ("sdpa", slot_mask), ("eager", added_mask)):
        AttentionMaskInterface.register(name, mask)
    _ledger.attended = []
    _ledger.masks = 0
    _ledger.positions = None
    try:
        yield _ledger
    finally:
        for name, mask in before.items():
            AttentionMaskInterface.register(name, mask)


def stand_at(positions: torch.Tensor) -> None:
    """Says where the queries of the masks to come stand: `[B]`, one per sequence."""
    _ledger.positions = positions[:, None, None, None]


def slot_mask(  # noqa: PLR0913 - transformers' signature for mask functions
    *,
    batch_size: int,
    q_length: int,
    kv_length: int,
    mask_function: Callable[..., torch.Tensor],
    q_offset: int | torch.Tensor = 0,
    kv_offset: int = 0,
    attention_mask: torch.Tensor | None = None,
    use_vmap: bool = False,
    allow_is_bidirectional_skip: bool | None = None,
    device: torch.device | str = "cpu",
    **_unused: object,
) -> torch.Tensor:
    """The mask as booleans `[batch, 1, queries, slots]`; True where a query may look.

    Args:
        batch_size: B.
        q_length: T, the queries of this call.
        kv_length: L, the slots they may look at.
        mask_function: transformers' pattern over (batch, head, query position, slot).
        q_offset: Position of the first query, or per sequence as `[B, 1, 1, 1]`.
        kv_offset: Position of the first slot.
        attention_mask: Padding; none exists here.
        use_vmap: True when the model adds a pattern of its own.
        allow_is_bidirectional_skip: Present only when the model attends in both directions.
        device: Where the mask is made.

    Raises:
        Unsupported: The model asks for a pattern that these graphs cannot carry.
    """
    if use_vmap or attention_mask is not None or allow_is_bidirectional_skip is not None:
        raise _refused("its attention mask is not a function of positions alone")
    _ledger.masks += 1
    start = q_offset if _ledger.positions is None else _ledger.positions
    queries = torch.arange(q_length, device=device)[None, None, :, None] + start
    slots = torch.arange(kv_length, device=device)[None, None, None, :] + kv_offset
    batch = torch.arange(batch_size, device=device)[:, None, None, None]
    head = torch.zeros(1, 1, 1, 1, dtype=torch.int64, device=device)
    allowed = mask_function(batch, head, queries, slots)
    return allowed.expand(batch_size, 1, q_length, kv_length)


def added_mask(*, dtype: torch.dtype = torch.float32, **asked: Any) -> torch.Tensor:  # noqa: ANN401 - passed on
    """The same as numbers to add to scores: 0 where a query may look, else the type's lowest.

    Raises:
        Unsupported: As `slot_mask`.
    """
    allowed = slot_mask(**asked)
    lowest = torch.finfo(dtype).min
    return torch.zeros((), dtype=dtype, device=allowed.device).masked_fill(~allowed, lowest)


def attend(  # noqa: PLR0913 - transformers' signature for attention functions
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **others: object,
) -> tuple[torch.Tensor, None]:
    """Attention with grouped heads.

    Args:
        module: The attention layer; its `layer_idx` is recorded.
        query: `[B, H, T, D]`.
        key: `[B, G, L, D]`, H a multiple of G.
        value: `[B, G, L, E]`.
        attention_mask: Booleans from `slot_mask`.
        dropout: Must be 0.
        scaling: Factor on the scores; 1/sqrt(D) when None.
        softcap: Gemma 2's cap on the scores, `cap * tanh(score / cap)`.
        s_aux: gpt-oss's sinks `[H]`: a score per head that takes part in the softmax and no value.
        others: Known to be harmless, or refused.

    Returns:
        `[B, T, H, E]`, and no attention weights.

    Raises:
        Unsupported: The model needs something this attention does not do.
    """
    mask = _checked(module, attention_mask, dropout, others)
    batch, heads, length, _ = query.shape  # in prefill, length is a symbol and not an int
    single = bool(type(length) is int and length == 1)
    groups = heads // key.shape[1]
    if single:
        # One query per head: the heads of a group become the queries of one head, no K/V copies.
        query = query.reshape(batch, key.shape[1], groups, query.shape[-1])
    else:
        key, value = _repeat(key, groups), _repeat(value, groups)
    sinks = None if s_aux is None else s_aux.reshape(1, key.shape[1], -1, 1)
    out = _scores_and_sum(query, key, value, mask, scaling=scaling, softcap=softcap, sinks=sinks)
    if single:
        return out.reshape(batch, 1, heads, out.shape[-1]), None
    return out.transpose(1, 2).contiguous(), None


def _scores_and_sum(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    *,
    scaling: float | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    if softcap is None and sinks is None:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scaling
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query, key.transpose(2, 3)) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask, float("-inf"))
    if sinks is not None:
        scores = torch.cat([scores, sinks.expand(*scores.shape[:-1], 1)], -1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights if sinks is None else weights[..., :-1], value)


def _repeat(tensor: torch.Tensor, times: int) -> torch.Tensor:
    if times == 1:
        return tensor
    batch, groups, length, width = tensor.shape
    wide = tensor[:, :, None].expand(batch, groups, times, length, width)
    return wide.reshape(batch, groups * times, length, width)


def _checked(
    module: torch.nn.Module,
    mask: torch.Tensor | None,
    dropout: float,
    others: dict[str, object],
) -> torch.Tensor:
    """The mask, once it is known that nothing is asked for that is not done."""
    if mask is None:
        raise _refused("an attention layer was reached without a mask")
    if dropout:
        raise _refused(f"an attention layer asks for dropout {dropout}")
    if others.get("is_causal") is False or getattr(module, "is_causal", True) is False:
        raise _refused("an attention layer looks ahead")
    strange = sorted(
        name for name, given in others.items() if given is not None and name not in _HARMLESS
    )
    if strange:
        raise _refused(f"its attention takes {', '.join(strange)}, which these graphs leave out")
    index = getattr(module, "layer_idx", None)
    if not isinstance(index, int):
        raise _refused("an attention layer does not know its number")
    _ledger.attended.append(index)
    return mask


def _refused(why: str) -> Unsupported:
    return Unsupported(
        "the aoti backend cannot compile this model's attention",
        why,
        "use a Llama-like decoder, or another backend",
    )
