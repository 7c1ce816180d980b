"""The key/value cache as tensors that the caller owns and the graph writes in place.

Every layer has two tensors `[B, G, S, D]`: G key/value heads, S slots, one per position. Prefill
writes slots 0..T-1 and attends to what it has just computed; decode writes the slot at each
sequence's position and attends to the slots up to the largest position, which also holds the
cost of attention to the text that exists instead of to the longest text allowed.
"""

from collections.abc import Sequence
from typing import Any

import torch  # noqa: TID253 - imported by the compile worker only
from transformers.cache_utils import Cache, CacheLayerMixin  # noqa: TID253 - the same

from lmi_compile.errors import Unsupported


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers carries no types
    """One layer's slots; subclasses know where a call writes."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys = keys
        self.values = values
        self.is_initialized = True
        self.updates = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing: the slots exist from the start."""

    def get_max_length(self) -> int:
        """S."""
        return int(self.keys.shape[2])

    def _count(self, key: torch.Tensor, value: torch.Tensor) -> None:
        self.updates += 1
        for slots, states in ((self.keys, key), (self.values, value)):
            if slots.shape[1] != states.shape[1] or slots.shape[3] != states.shape[3]:
                raise Unsupported(
                    "the aoti backend cannot compile this model's cache",
                    f"a layer stores {list(states.shape)} where {list(slots.shape)} was laid out",
                    "report the model's configuration",
                )


class PrefillLayer(_SlotLayer):
    """Writes slots 0..T-1; attention sees the T new keys and values."""

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *_args: Any,  # noqa: ANN401 - transformers' signature
        **_kwargs: Any,  # noqa: ANN401 - the same
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores `[B, G, T, D]` and returns it."""
        self._count(key_states, value_states)
        length = key_states.shape[2]
        self.keys[:, :, :length].copy_(key_states)
        self.values[:, :, :length].copy_(value_states)
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """T slots, from position 0."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Nothing was there before."""
        return 0


class DecodeLayer(_SlotLayer):
    """Writes one slot per sequence; attention sees the first `live` slots."""

    def __init__(
        self, keys: torch.Tensor, values: torch.Tensor, positions: torch.Tensor, live: int
    ) -> None:
        super().__init__(keys, values)
        self.positions = positions
        self.live = live

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *_args: Any,  # noqa: ANN401 - transformers' signature
        **_kwargs: Any,  # noqa: ANN401 - the same
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores `[B, G, 1, D]` at each sequence's position and returns the live slots."""
        self._count(key_states, value_states)
        batch = torch.arange(key_states.shape[0], device=key_states.device)
        self.keys[batch, :, self.positions] = key_states[:, :, 0]
        self.values[batch, :, self.positions] = value_states[:, :, 0]
        return self.keys[:, :, : self.live], self.values[:, :, : self.live]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002 - always 1
        """The live slots, from position 0."""
        return self.live, 0

    def get_seq_length(self) -> torch.Tensor:
        """What came before, per sequence: `[B, 1, 1, 1]`, as the mask adds it to the queries."""
        return self.positions[:, None, None, None]


class SlotCache(Cache):  # type: ignore[misc]  # transformers carries no types
    """A cache whose layers are given."""

    def __init__(self, layers: Sequence[_SlotLayer]) -> None:
        super().__init__(layers=list(layers))

    def require_every_layer_once(self) -> None:
        """Refuses a model that did not store each layer exactly once.

        Raises:
            Unsupported: Some layer shares, skips or repeats its cache.
        """
        wrong = [index for index, layer in enumerate(self.layers) if layer.updates != 1]
        if wrong:
            raise Unsupported(
                "the aoti backend cannot compile this model's cache",
                f"layers {wrong} do not store their keys and values exactly once",
                "use a Llama-like decoder, or another backend",
            )


def pairs(slots: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """`k0, v0, k1, v1, ...` as one pair per layer."""
    return list(zip(slots[::2], slots[1::2], strict=True))
