"""Traced graphs run without compiling them, against transformers; test_families.py has them all."""

from typing import Any

import pytest
import torch
from family_configs import SMALL
from transformers import DynamicCache

from lmi_compile.backends.aoti import export, linears, skeleton
from lmi_compile.backends.aoti import slots as slots_of

SIZES = {**SMALL, "head_dim": 8, "initializer_range": 0.2}
LENGTH, SLOTS = 13, 24
pytestmark = pytest.mark.slow


def _built(
    model_type: str, dtype: torch.dtype = torch.float32, **changes: object
) -> tuple[Any, Any]:
    config = skeleton.read_config({**SIZES, "model_type": model_type, **changes})
    model = skeleton.build(config, dtype)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return config, model


def _expected(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """The model's own logits with its own eager attention, without any cache."""
    mine = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0]
    model.set_attn_implementation(mine)
    return logits


def test_decode_may_hold_each_sequence_at_its_own_position() -> None:
    config, model = _built("mistral", sliding_window=6)
    lengths = [13, 7]
    ids = torch.randint(1, 99, (2, SLOTS), generator=torch.Generator().manual_seed(1))
    shapes = export.Shapes(
        batch=2, max_input_len=16, max_seq_len=SLOTS, cache=skeleton.cache_shapes(config)
    )
    prefill = export.export_prefill(model, shapes).program.module()
    decode = export.export_decode(model, shapes).program.module()
    slots = shapes.slots(2)
    with torch.no_grad():
        for row, length in enumerate(lengths):
            own = [slot[row : row + 1] for slot in slots]
            prefill(ids[row : row + 1, :length], torch.tensor([length - 1]), own)
        positions = torch.tensor(lengths)
        found = decode(ids[torch.arange(2), positions][:, None], positions, slots)
    for row, length in enumerate(lengths):
        expected = _expected(model, ids[row : row + 1, : length + 1])[-1]
        assert (found[row] - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("rows", ["one", "few"])
def test_bfloat16_stays_as_close_to_float32_as_transformers_bfloat16(rows: linears.Rows) -> None:
    config, model = _built("llama")
    ids = torch.randint(1, 99, (1, SLOTS), generator=torch.Generator().manual_seed(1))
    exact = _expected(model, ids)
    _, model = _built("llama", torch.bfloat16)
    usual = (_expected(model, ids).float() - exact).abs()
    shapes = export.Shapes(
        batch=1 if rows == "one" else 2,
        max_input_len=16,
        max_seq_len=SLOTS,
        cache=skeleton.cache_shapes(config),
        dtype=torch.bfloat16,
    )
    linears.swap_linears(model)
    prefill = export.export_prefill(model, shapes).program.module()
    linears.set_rows(model, rows)
    decode = export.export_decode(model, shapes).program.module()
    slots = shapes.slots(shapes.batch)
    assert slots[0].dtype == torch.bfloat16
    with torch.no_grad():
        found = [prefill(ids[:, :LENGTH], torch.arange(LENGTH), [slot[:1] for slot in slots])]
        for place in range(LENGTH, SLOTS):
            tokens = ids[:, place : place + 1].expand(shapes.batch, 1)
            found.append(decode(tokens, torch.full((shapes.batch,), place), slots)[:1])
    error = (torch.cat(found) - exact).abs()
    assert found[0].dtype == torch.float32
    assert 0 < error.mean() <= 1.1 * usual.mean()


class _Rounded(DynamicCache):  # type: ignore[misc]  # transformers carries no types
    """transformers' own cache, holding what E4M3 can hold."""

    def __init__(self, ends: torch.Tensor) -> None:
        super().__init__()
        self.scales = ends / 448

    def update(self, key: Any, value: Any, layer_idx: int, *given: Any, **named: Any) -> Any:
        held = [
            (states / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale
            for states, scale in zip((key, value), self.scales[layer_idx], strict=True)
        ]
        return super().update(*held, layer_idx, *given, **named)


def test_a_cache_in_e4m3_is_read_as_it_is_stored_by_both_graphs() -> None:
    config, model = _built("llama")
    ids = torch.randint(1, 99, (1, SLOTS), generator=torch.Generator().manual_seed(1))
    model.set_attn_implementation("eager")
    with torch.no_grad():
        held = model(ids, use_cache=True).past_key_values.layers
        # Half of what is seen, so that some numbers saturate.
        ends = torch.tensor([[it.keys.abs().max(), it.values.abs().max()] for it in held]) / 2
        expected = model(ids, past_key_values=_Rounded(ends), use_cache=True).logits[0]
        exact = model(ids, use_cache=False).logits[0]
    model.set_attn_implementation("lmi_slots")
    shapes = export.Shapes(
        batch=1,
        max_input_len=SLOTS,
        max_seq_len=SLOTS + 1,
        cache=skeleton.cache_shapes(config),
        slot_dtype=torch.uint8,
    )
    slots_of.add_scales(model, 2)
    for layer, scales in enumerate(slots_of.scales_of(model, 2)):
        assert scales is not None
        scales.key_scale.fill_(float(ends[layer, 0]) / 448)
        scales.value_scale.fill_(float(ends[layer, 1]) / 448)
    prefill = export.export_prefill(model, shapes).program.module()
    decode = export.export_decode(model, shapes).program.module()
    slots = shapes.slots(1)
    assert {slot.dtype for slot in slots} == {torch.uint8}
    with torch.no_grad():
        whole = prefill(ids, torch.arange(SLOTS), shapes.slots(1))
        prefill(ids[:, :LENGTH], torch.arange(LENGTH), slots)
        steps = [
            decode(ids[:, place : place + 1], torch.tensor([place]), slots)[0]
            for place in range(LENGTH, SLOTS)
        ]
    largest = expected.abs().max()
    assert (whole - expected).abs().max() <= 1e-4 * largest
    assert (torch.stack(steps) - expected[LENGTH:]).abs().max() <= 1e-4 * largest
    assert (exact - expected).abs().max() > 1e-3 * largest


def test_weights_are_not_drawn_and_buffers_are_computed() -> None:
    config = skeleton.read_config({**SIZES, "model_type": "llama"})
    state = torch.random.get_rng_state()
    model = skeleton.build(config, torch.float32)
    assert torch.equal(torch.random.get_rng_state(), state)
    frequencies = 1.0 / 10000.0 ** (torch.arange(0, 8, 2) / 8)
    assert torch.allclose(model.model.rotary_emb.inv_freq, frequencies)
