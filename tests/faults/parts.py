"""What a build is made of, and how its weights are stored: the right way, or with a fault."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from engine import E4M3_MOST, Engine, Weights, Wiring

Encode = Callable[[str], list[int]]
_INT8_MOST = 127.0


@dataclass(frozen=True, kw_only=True)
class Form:
    """How weights are stored and computed with.

    Attributes:
        dtype: What is computed in.
        stored: `float` (in `dtype`), `int8` or `e4m3`; norms and biases always stay floats.
        per_channel: A scale for each output row; else one for the matrix.
        scale_error: Factor on every scale after the weights were rounded with the right one.
        clip: Share of the largest weight that the scale covers; what is larger saturates.
    """

    dtype: torch.dtype = torch.float32
    stored: Literal["float", "int8", "e4m3"] = "float"
    per_channel: bool = True
    scale_error: float = 1.0
    clip: float = 1.0

    def store(self, weights: Weights) -> Weights:
        """The weights as an engine reads them back."""
        if self.stored == "float":
            return {name: tensor.to(self.dtype) for name, tensor in weights.items()}
        head = "lm_head.weight", "model.embed_tokens.weight"
        return {
            name: self._rounded(tensor)
            if tensor.dim() == 2 and (self.stored == "int8" or name not in head)
            else tensor
            for name, tensor in weights.items()
        }

    def _rounded(self, tensor: torch.Tensor) -> torch.Tensor:
        largest = tensor.abs().amax(1, keepdim=True) if self.per_channel else tensor.abs().amax()
        most = _INT8_MOST if self.stored == "int8" else E4M3_MOST
        scale = (largest * self.clip / most).clamp(min=1e-12)
        scaled = (tensor / scale).clamp(-most, most)
        whole = scaled.round() if self.stored == "int8" else scaled.to(torch.float8_e4m3fn)
        return whole.to(tensor.dtype) * (scale * self.scale_error)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A build: float32 weights, how they are stored, the engine's wiring, and what serves it.

    Attributes:
        weights: By Hugging Face name.
        form: How they are stored.
        wiring: The engine's.
        encode: The tokenizer.
        piece: The text of one token.
        eos_token_ids: Where a continuation ends.
        temperature_times: How often the sampler divides by the temperature.
    """

    weights: Weights
    form: Form
    wiring: Wiring
    encode: Encode
    piece: Callable[[int], str]
    eos_token_ids: tuple[int, ...]
    temperature_times: int = 1

    def changed(
        self,
        *,
        wiring: Mapping[str, object] | None = None,
        form: Form | None = None,
        **others: object,
    ) -> "Parts":
        """The same build with other parts; `wiring` names the fields that change."""
        return replace(
            self,
            wiring=replace(self.wiring, **(wiring or {})),
            form=form or self.form,
            **others,
        )

    def engine(self) -> Engine:
        """The engine that serves it."""
        return Engine(self.form.store(self.weights), self.wiring)


def edited(
    weights: Weights, change: Callable[[str, torch.Tensor], torch.Tensor], *names: str
) -> Weights:
    """The weights with `change` made to those that end as one of `names`."""
    ends = tuple(f"{name}.weight" for name in names)
    return {
        name: change(name, tensor) if name.endswith(ends) else tensor
        for name, tensor in weights.items()
    }


def shuffled(tensor: torch.Tensor, order: Sequence[int], dim: int) -> torch.Tensor:
    """The tensor with its equal parts along `dim` (the shards of ranks) in another order."""
    shards = tensor.chunk(len(order), dim)
    return torch.cat([shards[rank] for rank in order], dim)
