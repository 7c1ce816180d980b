"""What is stored in 8 bits: the numbers, and what smoothing does to them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmi_compile.backends.aoti.forms import Form, form_of, read_form
from lmi_compile.backends.aoti.storing import (
    Quantiser,
    Ranges,
    groups,
    paired_rows,
    smoothing,
    whole_rows,
)

STATIC = Form(method="smoothquant", activations="static", reduced_range=True)
TOKEN = Form(method="smoothquant", activations="per_token", reduced_range=True)
OUTLIER = 60.0


def _weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "q.weight": torch.randn(24, 16, generator=generator),
        "k.weight": torch.randn(8, 16, generator=generator),
        "norm.weight": torch.rand(16, generator=generator) + 0.5,
        "norm.bias": torch.randn(16, generator=generator),
    }


def _ranges() -> Ranges:
    seen = torch.linspace(0.5, 2.0, 16)
    seen[3] = OUTLIER
    return Ranges(inputs={"q": seen, "k": seen}, norms={"norm": ["k", "q"]})


def _weight(seed: int, columns: int, power: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, columns, generator=generator) * 2.0**power


def _back(made: dict[str, torch.Tensor]) -> torch.Tensor:
    return made["weight"].float() * made["weight_scale"][:, None]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), power=st.integers(-20, 20))
def test_rows_come_back_within_half_a_step(seed: int, power: int) -> None:
    weight = _weight(seed, 33, power)
    weight[2] = 0
    made = whole_rows(weight)
    assert made["weight"].abs().max() <= 127
    assert ((_back(made) - weight).abs() <= 0.5001 * made["weight_scale"][:, None]).all()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), columns=st.integers(1, 70), power=st.integers(-20, 20))
def test_neighbours_never_saturate_and_lose_no_more_than_7_bits(
    seed: int, columns: int, power: int
) -> None:
    weight = _weight(seed, columns, power)
    weight[2] = 0
    weight[3] = 2.0**power  # every pair is as large as can be
    made = paired_rows(weight)
    whole = made["weight"].int()
    even, odd = whole[:, 0 : columns // 2 * 2 : 2], whole[:, 1::2]
    assert whole.abs().max() <= 127
    assert ((even + odd).abs()[even * odd > 0] <= 128).all()
    half_a_step = 0.5001 * weight.abs().amax(1).clamp(min=1e-8) / 64
    assert ((_back(made) - weight).norm(dim=1) <= half_a_step * columns**0.5).all()


def test_on_ordinary_rows_it_keeps_most_of_the_eighth_bit() -> None:
    weight = _weight(1, 4096)
    scale = weight.abs().amax(1, keepdim=True) / 63
    lost = {
        "7 bits": torch.round(weight / scale) * scale,
        "pairs": _back(paired_rows(weight)),
        "8 bits": _back(whole_rows(weight)),
    }
    errors = {name: float((back - weight).norm()) for name, back in lost.items()}
    assert errors["pairs"] <= 0.8 * errors["7 bits"]
    assert errors["pairs"] <= 1.5 * errors["8 bits"]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), power=st.integers(-20, 20), offset=st.floats(-3, 3))
def test_groups_come_back_within_a_step(seed: int, power: int, offset: float) -> None:
    weight = _weight(seed, 128, power) + offset * 2.0**power
    made = groups(weight, 32)
    assert (made["weight"].shape, made["weight"].dtype) == ((5, 64), torch.uint8)
    numbers = torch.cat([made["weight"] & 15, made["weight"] >> 4], -1).float() - 8
    scale, zero = made["group_scales"].float().permute(2, 1, 0)[..., None]
    grouped = weight.reshape(5, 4, 32)
    back = numbers.reshape(5, 4, 32) * scale + zero
    # Half a step, and what bfloat16 rounds off the zero and off fifteen steps.
    bound = 0.5001 * scale + 2.0**-8 * (grouped.abs().amax(-1, keepdim=True) + 15 * scale)
    assert ((back - grouped).abs() <= bound).all()


def test_the_factors_are_the_papers() -> None:
    # arXiv 2211.10438, eq. 4, by hand: sqrt(16 * 4) = 8 over max|W| ** 0.5
    found = smoothing(torch.tensor([16.0, 1.0]), torch.tensor([4.0, 0.25]), 0.5)
    assert torch.allclose(found, torch.tensor([2.0, 2.0]))
    ends = smoothing(torch.tensor([1e12, 0.0]), torch.tensor([1.0, 1.0]), 1.0)
    assert ends.tolist() == pytest.approx([1e4, 1e-4])


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.8, 1.0])
def test_folding_moves_a_factor_from_the_norm_to_all_its_layers(alpha: float) -> None:
    held = _weights()
    quantiser = Quantiser(read=held.__getitem__, form=TOKEN, ranges=_ranges(), alpha=alpha)
    normalised = torch.randn(7, 16, generator=torch.Generator().manual_seed(1))
    before = normalised * held["norm.weight"] + held["norm.bias"]
    parts = [quantiser.tensor(f"norm.{part}", torch.float32) for part in ("weight", "bias")]
    after = normalised * parts[0] + parts[1]
    for name in ("q", "k"):
        stored = quantiser.tensor(f"{name}.weight", torch.int8).float()
        weight = stored * quantiser.tensor(f"{name}.weight_scale", torch.float32)[:, None]
        exact = before @ held[f"{name}.weight"].T
        bound = 1.01 / 63 * weight.abs().amax() * after.abs().sum(-1, keepdim=True)
        assert ((after @ weight.T - exact).abs() <= bound).all()


def test_a_fixed_scale_covers_exactly_the_range_that_was_seen() -> None:
    held = _weights()
    quantiser = Quantiser(read=held.__getitem__, form=STATIC, ranges=_ranges(), alpha=0.8)
    factor = quantiser.tensor("q.input_factor", torch.float32)
    largest = (_ranges().inputs["q"] * factor).amax()
    assert float(largest) == pytest.approx(127, rel=1e-5)
    x = torch.rand(9, 16, generator=torch.Generator().manual_seed(2)) * _ranges().inputs["q"]
    whole = torch.round(x * factor)
    stored = quantiser.tensor("q.weight", torch.int8).float()
    found = whole @ stored.T * quantiser.tensor("q.weight_scale", torch.float32)
    exact = x @ held["q.weight"].T
    assert (found - exact).norm() <= 0.03 * exact.norm()
    plain = Quantiser(read=held.__getitem__, form=STATIC, ranges=_ranges())
    rough = torch.round(x * plain.tensor("q.input_factor", torch.float32))
    worse = rough @ plain.tensor("q.weight", torch.int8).float().T
    worse = worse * plain.tensor("q.weight_scale", torch.float32)
    assert (worse - exact).norm() > (found - exact).norm()


def test_e4m3_saturates_and_keeps_three_bits() -> None:
    held = {"q.weight": torch.randn(24, 16) * 5}
    form = form_of("fp8", (), per_token=False)
    types = {"q.weight": torch.float8_e4m3fn}
    quantiser = Quantiser(read=held.__getitem__, form=form, ranges=_ranges(), stored=types)
    stored = quantiser.tensor("q.weight", torch.float8_e4m3fn)
    assert stored.float().abs().max() == 448
    seen = 1 / quantiser.tensor("q.input_factor", torch.float32)
    assert float(seen[0]) == pytest.approx(OUTLIER / 448)
    back = stored.float() * (quantiser.tensor("q.weight_scale", torch.float32) / seen[0])[:, None]
    assert ((back - held["q.weight"]).abs() <= held["q.weight"].abs() / 16 + 0.001).all()


def test_what_no_calibration_saw_uses_all_8_bits() -> None:
    held = {"embed.weight": torch.randn(4, 16), "plain.weight": torch.randn(16)}
    quantiser = Quantiser(read=held.__getitem__, form=TOKEN, ranges=_ranges(), alpha=0.5)
    assert quantiser.tensor("embed.weight", torch.int8).abs().max() == 127
    assert torch.equal(quantiser.tensor("plain.weight", torch.float32), held["plain.weight"])


@pytest.mark.parametrize(
    ("flags", "reduced"),
    [(["avx2"], True), (["avx2", "avx512_vnni"], False), (["avx_vnni"], False)],
)
def test_a_reduced_range_only_where_the_target_has_no_vnni(
    flags: list[str], *, reduced: bool
) -> None:
    form = form_of("smoothquant", flags, per_token=True)
    assert form.reduced_range is reduced
    assert read_form(form.to_json()) == form
    assert not form_of("int8_wo", flags, per_token=True).reduced_range


def test_a_cache_in_e4m3_takes_the_largest_number_that_was_seen() -> None:
    form = form_of("fp8", (), per_token=False, cache="fp8")
    ranges = Ranges(cache=torch.tensor([[448.0, 1.0], [44.8, 0.0]]))
    quantiser = Quantiser(read=dict[str, torch.Tensor]().__getitem__, form=form, ranges=ranges)
    scales = [
        quantiser.tensor(f"lmi_cache.{layer}.{part}_scale", torch.float32)
        for layer in (0, 1)
        for part in ("key", "value")
    ]
    assert all(torch.equal(scale, scale[:1].expand(16)) for scale in scales)
    found = [float(scale[0]) for scale in scales]
    assert found == pytest.approx([1.0, 1 / 448, 0.1, 1e-8 / 448])
