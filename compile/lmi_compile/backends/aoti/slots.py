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

from lmi_compile.backends.aoti.forms import SCALE_WIDTH
from lmi_compile.errors import Unsupported

_SCALES = "lmi_cache"
_FP8 = torch.float8_e4m3fn
_FP8_MOST = 448.0


class CacheScales(torch.nn.Module):
    """The scales of one layer's E4M3 slots, each repeated."""

    key_scale: torch.Tensor
    value_scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("key_scale", torch.empty(SCALE_WIDTH))
        self.register_buffer("value_scale", torch.empty(SCALE_WIDTH))


def add_scales(model: torch.nn.Module, layers: int) -> None:
    """Makes the model's cache one of E4M3: its scales become weights of the model."""
    model.add_module(_SCALES, torch.nn.ModuleList(CacheScales() for _ in range(layers)))


def scales_of(model: torch.nn.Module, layers: int) -> list[CacheScales | None]:
    """What `add_scales` added, per layer; None where the cache has the model's own type."""
    added = getattr(model, _SCALES, None)
    return [None] * layers if added is None else list(added)


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers carries no types
    """One layer's slots; subclasses know where a call writes."""

    def __init__(
        self, keys: torch.Tensor, values: torch.Tensor, scales: CacheScales | None = None
    ) -> None:
        super().__init__()
        self.keys = keys
        self.values = values
        self._key_scale = None if scales is None else scales.key_scale[:1]
        self._value_scale = None if scales is None else scales.value_scale[:1]
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

    def _stored(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return _to_slots(key, self._key_scale), _to_slots(value, self._value_scale)

    def _read(
        self, key: torch.Tensor, value: torch.Tensor, like: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return (
            _from_slots(key, self._key_scale, like),
            _from_slots(value, self._value_scale, like),
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
        """Stores `[B, G, T, D]` and returns it as stored."""
        self._count(key_states, value_states)
        length = key_states.shape[2]
        key, value = self._stored(key_states, value_states)
        self.keys[:, :, :length].copy_(key)
        self.values[:, :, :length].copy_(value)
        return self._read(key, value, key_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """T slots, from position 0."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Nothing was there before."""
        return 0


class DecodeLayer(_SlotLayer):
    """Writes one slot per sequence; attention sees the first `live` slots."""

    def __init__(
        self,
        keys: torch.Tensor,
        values: torch.Tensor,
        positions: torch.Tensor,
        live: int,
        scales: CacheScales | None = None,
    ) -> None:
        super().__init__(keys, values, scales)
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
        key, value = self._stored(key_states, value_states)
        self.keys[batch, :, self.positions] = key[:, :, 0]
        self.values[batch, :, self.positions] = value[:, :, 0]
        return self._read(self.keys[:, :, : self.live], self.values[:, :, : self.live], key_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002 - always 1
        """The live slots, from position 0."""
        return self.live, 0

    def get_seq_length(self) -> torch.Tensor:
        """What came before, per sequence: `[B, 1, 1, 1]`, as the mask adds it to the queries."""
        return self.positions[:, None, None, None]


class CountingDecodeLayer(DecodeLayer):
    """For models that make a tensor as long as the cache tells, with `attention.stand_at`."""

    def get_seq_length(self) -> int:  # type: ignore[override]  # a number, where the other has one per sequence
        """What came before the longest text's token."""
        return self.live - 1


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
    """`k0, v0, k1, v1, ...`, each `[batch, heads, S, width]`, as one pair per layer."""
    return list(zip(slots[::2], slots[1::2], strict=True))


def _to_slots(states: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """E4M3 as bytes, saturated, where there is a scale: writing by index knows no E4M3."""
    if scale is None:
        return states
    scaled = (states.float() / scale).clamp(-_FP8_MOST, _FP8_MOST)
    return scaled.to(_FP8).view(torch.uint8)


def _from_slots(
    slots: torch.Tensor, scale: torch.Tensor | None, like: torch.Tensor
) -> torch.Tensor:
    if scale is None:
        return slots
    return (slots.view(_FP8).float() * scale).to(like.dtype)
