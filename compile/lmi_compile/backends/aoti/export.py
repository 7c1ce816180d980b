"""The two graphs: prefill of a text, decode of one token per sequence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch  # noqa: TID253 - imported by the compile worker only
from torch.export import Dim, ExportedProgram  # noqa: TID253 - the same
from transformers import PreTrainedModel  # noqa: TID253 - the same

from lmi_compile.backends.aoti import attention
from lmi_compile.backends.aoti.runtime.device import CPU
from lmi_compile.backends.aoti.skeleton import CacheShape
from lmi_compile.backends.aoti.slots import (
    CountingDecodeLayer,
    DecodeLayer,
    PrefillLayer,
    SlotCache,
    pairs,
    scales_of,
)
from lmi_compile.errors import CompileError, Unsupported

_EXAMPLE_LENGTH = 5
_EXAMPLE_ROWS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """Limits that the graphs are made for.

    Attributes:
        batch: B, sequences per decode step.
        max_input_len: longest prompt.
        max_seq_len: S, slots per sequence: prompt and continuation.
        cache: per layer, what keys and values store.
        dtype: of the model.
        slot_dtype: of the cache's slots; the model's when None.
        device: where the graphs run.
    """

    batch: int
    max_input_len: int
    max_seq_len: int
    cache: Sequence[tuple[CacheShape, CacheShape]]
    dtype: torch.dtype = torch.float32
    slot_dtype: torch.dtype | None = None
    device: torch.device = CPU

    def slots(self, batch: int) -> list[torch.Tensor]:
        """Empty cache tensors `[batch, heads, S, width]` in the order k0, v0, k1, v1, ..."""
        dtype = self.slot_dtype or self.dtype
        return [
            torch.zeros(
                batch, one.heads, self.max_seq_len, one.width, dtype=dtype, device=self.device
            )
            for layer in self.cache
            for one in layer
        ]


class Prefill(torch.nn.Module):
    """`(ids [1, T], rows [R], slots) -> logits [R, V]` in float32; fills slots 0..T-1."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, ids: torch.Tensor, rows: torch.Tensor, slots: list[torch.Tensor]
    ) -> torch.Tensor:
        """Logits of the asked rows; row i predicts the token at position i + 1.

        Raises:
            Unsupported: A layer does not store its keys and values exactly once.
        """
        layers = zip(pairs(slots), scales_of(self.model, len(slots) // 2), strict=True)
        cache = SlotCache([PrefillLayer(*pair, scales) for pair, scales in layers])
        out = self.model(
            input_ids=ids,
            position_ids=torch.arange(ids.shape[1], device=ids.device)[None],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=rows,
        )
        cache.require_every_layer_once()
        logits: torch.Tensor = out.logits[0].float()
        return logits


class Decode(torch.nn.Module):
    """`(ids [B, 1], positions [B], slots) -> logits [B, V]` in float32; fills one slot each."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, ids: torch.Tensor, positions: torch.Tensor, slots: list[torch.Tensor]
    ) -> torch.Tensor:
        """Logits that predict the token after `ids`, which stand at `positions`.

        Raises:
            Unsupported: As `Prefill.forward`.
        """
        last = cast("int", positions.max().item())  # while tracing, a symbol
        torch._check(last >= 0)  # type: ignore[no-untyped-call]  # noqa: SLF001 - export's documented way to bound a size
        torch._check(last < slots[0].shape[2])  # type: ignore[no-untyped-call]  # noqa: SLF001 - the same
        layer = DecodeLayer
        if getattr(self.model.config, "alibi", False):
            attention.stand_at(positions)
            layer = CountingDecodeLayer
        layers = zip(pairs(slots), scales_of(self.model, len(slots) // 2), strict=True)
        cache = SlotCache([layer(*pair, positions, last + 1, scales) for pair, scales in layers])
        out = self.model(
            input_ids=ids,
            position_ids=positions[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        cache.require_every_layer_once()
        logits: torch.Tensor = out.logits[:, 0].float()
        return logits


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A traced graph and the inputs it was traced with."""

    program: ExportedProgram
    example: tuple[object, ...]


def export_prefill(model: PreTrainedModel, shapes: Shapes) -> Exported:
    """Traces prefill with a dynamic text length and a dynamic number of rows.

    Raises:
        Unsupported: The model does not trace, or bypasses the attention it was given.
    """
    length, rows = min(_EXAMPLE_LENGTH, shapes.max_input_len), _EXAMPLE_ROWS
    slots = shapes.slots(1)
    example = (
        torch.zeros(1, length, dtype=torch.int64, device=shapes.device),
        torch.zeros(min(rows, length), dtype=torch.int64, device=shapes.device),
        slots,
    )
    text = Dim("T", min=1, max=shapes.max_input_len)
    asked = Dim("R", min=1, max=shapes.max_input_len)
    dynamic = ({1: text}, {0: asked}, [None] * len(slots))
    return _export(Prefill(model), example, dynamic, _attending(model, shapes))


def export_decode(model: PreTrainedModel, shapes: Shapes) -> Exported:
    """Traces decode for exactly `shapes.batch` sequences, each at its own position.

    Raises:
        Unsupported: As for prefill.
    """
    position = min(3, shapes.max_seq_len - 1)
    example = (
        torch.zeros(shapes.batch, 1, dtype=torch.int64, device=shapes.device),
        torch.full((shapes.batch,), position, dtype=torch.int64, device=shapes.device),
        shapes.slots(shapes.batch),
    )
    return _export(Decode(model), example, None, _attending(model, shapes))


def _attending(model: PreTrainedModel, shapes: Shapes) -> int:
    """How many layers the registered attention must see; others are seen by the cache alone."""
    return 0 if model.config.model_type in attention.OWN else len(shapes.cache)


def _export(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]],
    dynamic: object,
    layers: int,
) -> Exported:
    with attention.recording() as ledger, torch.no_grad():
        try:
            program = torch.export.export(module, example, dynamic_shapes=dynamic, strict=False)  # type: ignore[arg-type]  # torch's stub leaves out nested lists
        except CompileError:
            raise
        except Exception as error:
            what = "the model cannot be exported as one graph"
            fix = "use a Llama-like decoder"
            raise Unsupported(what, f"{type(error).__name__}: {error}", fix) from error
    if sorted(ledger.attended) != list(range(layers)) or not ledger.masks:
        what = "the model does not send every layer through the attention it was given"
        why = f"seen: layers {ledger.attended}, {ledger.masks} masks; expected each of {layers}"
        raise Unsupported(what, why, "use a Llama-like decoder")
    return Exported(program=program, example=example)
