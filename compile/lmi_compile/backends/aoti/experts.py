"""Mixtures of experts as graphs can hold them, registered with transformers under one name.

transformers' own ways either loop over the experts that a text happens to need, which no graph can,
or need bfloat16. Here a single token reads the weights of its own experts only, and a text goes
through every expert, those that it was not sent to with weight 0: more arithmetic, no copies of
weights, the same sums.
"""

from typing import Any

import torch  # noqa: TID253 - imported by the compile worker only
from transformers.integrations.moe import (  # noqa: TID253 - the same
    ExpertsInterface,
    batched_mm_experts_forward,
)

NAME = "lmi_experts"


def register() -> None:
    """Makes the name known; a model uses it when its configuration names it."""
    ExpertsInterface.register(NAME, mixed)


def mixed(
    experts: Any,  # noqa: ANN401 - a module of transformers, which carries no types
    hidden: torch.Tensor,
    chosen: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """The weighted sum of each token's experts.

    Args:
        experts: Holds `gate_up_proj` (or `up_proj`) and `down_proj`, a slice for each expert.
        hidden: `[T, in]`.
        chosen: int64 `[T, K]`, the numbers of each token's experts.
        weights: `[T, K]`.

    Returns:
        `[T, in]`.
    """
    tokens = hidden.shape[0]  # in prefill a symbol and not an int
    if type(tokens) is int and tokens == 1:
        one: torch.Tensor = batched_mm_experts_forward(experts, hidden, chosen, weights)
        return one
    shares = weights.new_zeros(hidden.shape[0], experts.num_experts).scatter(1, chosen, weights)
    first = "gate_up_proj" if experts.has_gate else "up_proj"
    total = torch.zeros_like(hidden)
    for expert in range(experts.num_experts):
        inner = _linear(experts, first, expert, hidden)
        inner = experts._apply_gate(inner) if experts.has_gate else experts.act_fn(inner)  # noqa: SLF001 - where transformers keeps the activation
        out = _linear(experts, "down_proj", expert, inner)
        if experts.has_post_expert_norm:
            out = experts.post_expert_norm(out)
        total = total + out * shares[:, expert : expert + 1]
    return total.to(hidden.dtype)


def _linear(experts: Any, name: str, expert: int, x: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - as above
    weight = getattr(experts, name)[expert]
    bias = getattr(experts, f"{name}_bias")[expert] if experts.has_bias else None
    out: torch.Tensor = x @ weight if experts.is_transposed else x @ weight.t()
    return out if bias is None else out + bias
