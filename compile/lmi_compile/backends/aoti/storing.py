"""Numbers for the tensors that graphs read in 8 or 4 bits, from a checkpoint's floats and ranges.

Integers: symmetric, scale = largest / 127. E4M3: scale = largest / 448, saturating. Four bits: per
group of a row, w = zero + scale * (n - 8), n from 0 to 15.
Smoothing (Xiao et al., arXiv 2211.10438, eq. 4): column j of a layer's input is divided by
`s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)` and column j of its weight multiplied. With a scale
per token, the division goes into the weight of the norm before the layer, so all layers behind
one norm share s; layers without such a norm stay as they are. With fixed scales, every layer has
its own s, which its `input_factor` applies.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch  # noqa: TID253 - imported by the weights worker only

from lmi_compile.backends.aoti.forms import GROUP, SCALE_WIDTH, Form
from lmi_compile.backends.aoti.quantised import (
    ACTIVATION_MOST,
    FOUR_BITS_MOST,
    FOUR_BITS_ZERO,
    FP8_MOST,
    two_in_one,
)

Read = Callable[[str], torch.Tensor]
_SMALLEST, _LARGEST = 1e-4, 1e4  # of a smoothing factor: modelopt clamps to the same
_LEAST = 1e-8  # stands for a row, column or range of zeros
_INTEGER_MOST = 127
_PAIR_MOST = 128  # of two neighbours of one sign: times 255 it still fits into 16 bits
_SCALES = 9  # that are tried for a row
_STORED = frozenset({torch.int8, torch.uint8, torch.float8_e4m3fn})
_CACHED = (".key_scale", ".value_scale")
DERIVED = (".weight_scale", ".input_factor", ".group_scales", *_CACHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """What calibration saw.

    Attributes:
        inputs: Layer to the largest |x| of each input column, float32 `[in]`.
        norms: Norm to the layers that read its output, where nothing else does.
        cache: Largest |key| and |value| that each layer of the cache held, float32 `[layers, 2]`.
    """

    inputs: Mapping[str, torch.Tensor] = field(default_factory=dict)
    norms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cache: torch.Tensor = field(default_factory=lambda: torch.empty(0, 2))


@dataclass(slots=True)
class Quantiser:
    """Makes one stored tensor at a time.

    Attributes:
        read: A checkpoint's tensor by name, in float32.
        form: What the graphs want.
        ranges: From calibration.
        stored: Names of weights to the type that graphs read; int8 where it is not here.
        alpha: How much of the activations' range moves into the weights; None does not smooth.
    """

    read: Read
    form: Form
    ranges: Ranges = field(default_factory=Ranges)
    stored: Mapping[str, torch.dtype] = field(default_factory=dict)
    alpha: float | None = None
    _last: tuple[str, dict[str, torch.Tensor]] | None = None

    def tensor(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """The tensor to store under `name`, of the shape that the graphs read (see `quantised`)."""
        layer, _, part = name.rpartition(".")
        if f".{part}" in _CACHED:
            return self._cached(int(layer.rpartition(".")[2]), part)
        if f".{part}" in DERIVED or dtype in _STORED:
            return self._layer(layer)[part]
        return self._norm_part(layer, self.read(name)).to(dtype)

    def _norm_part(self, norm: str, tensor: torch.Tensor) -> torch.Tensor:
        """A norm's weight or bias divided by the s of the layers behind it; others unchanged."""
        if self.alpha is None or self.form.activations != "per_token":
            return tensor
        layers = self.ranges.norms.get(norm)
        return tensor / self._shared(layers) if layers else tensor

    def _layer(self, layer: str) -> dict[str, torch.Tensor]:
        if self._last is None or self._last[0] != layer:
            self._last = (layer, self._made(layer))
        return self._last[1]

    def _cached(self, layer: int, part: str) -> torch.Tensor:
        largest = self.ranges.cache[layer, 0 if part == "key_scale" else 1]
        return (largest.clamp(min=_LEAST) / FP8_MOST).repeat(SCALE_WIDTH)

    def _made(self, layer: str) -> dict[str, torch.Tensor]:
        weight = self.read(f"{layer}.weight")
        stored = self.stored.get(f"{layer}.weight", torch.int8)
        seen = self.ranges.inputs.get(layer)
        if stored == torch.uint8:
            return groups(weight, GROUP)
        if stored == torch.float8_e4m3fn:
            return _eighths(weight, seen if self.form.activations == "static" else None)
        if self.form.activations == "float" or seen is None:  # or the embedding with the head
            return whole_rows(weight)
        smoothing = self._smoothing(layer, weight)
        make = paired_rows if self.form.reduced_range else whole_rows
        made = make(weight * smoothing)
        if self.form.activations == "static":
            scale = (seen / smoothing).amax().clamp(min=_LEAST) / ACTIVATION_MOST
            made["input_factor"] = 1 / (smoothing * scale)
            made["weight_scale"] = made["weight_scale"] * scale
        return made

    def _smoothing(self, layer: str, weight: torch.Tensor) -> torch.Tensor:
        if self.alpha is None:
            return torch.ones(weight.shape[1])
        if self.form.activations == "static":
            return smoothing(self.ranges.inputs[layer], weight.abs().amax(0), self.alpha)
        for layers in self.ranges.norms.values():
            if layer in layers:
                return self._shared(layers)
        return torch.ones(weight.shape[1])

    def _shared(self, layers: Sequence[str]) -> torch.Tensor:
        largest = [self.read(f"{layer}.weight").abs().amax(0) for layer in layers]
        seen = torch.stack([self.ranges.inputs[layer] for layer in layers]).amax(0)
        assert self.alpha is not None  # noqa: S101 - callers have asked
        return smoothing(seen, torch.stack(largest).amax(0), self.alpha)


def smoothing(inputs: torch.Tensor, weights: torch.Tensor, alpha: float) -> torch.Tensor:
    """`s` from the largest |x| and |w| of each column, `[in]` each."""
    top = inputs.clamp(min=_LEAST).pow(alpha)
    return (top / weights.clamp(min=_LEAST).pow(1 - alpha)).clamp(_SMALLEST, _LARGEST)


def whole_rows(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """`[out, in]` as whole numbers up to 127 with one scale per row."""
    scale = weight.abs().amax(1).clamp(min=_LEAST) / _INTEGER_MOST
    return {"weight": _rounded(weight, scale).to(torch.int8), "weight_scale": scale}


def paired_rows(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """`[out, in]` as `whole_rows`, but oneDNN's sums of two products fit 16 bits (see `Form`).

    Neighbours that would add up to more are brought nearer to zero, both alike. Each row has the
    scale that loses least, from the one that its largest number allows to the one where that is
    half of 128, so that no pair is too large.
    """
    least = torch.full(weight.shape[:1], torch.inf)
    base = weight.abs().amax(1).clamp(min=_LEAST) / _INTEGER_MOST
    whole, scale = torch.zeros_like(weight), base.clone()
    for factor in torch.linspace(1, 2 * _INTEGER_MOST / _PAIR_MOST, _SCALES):
        tried = base * factor
        rounded = _within_pairs(_rounded(weight, tried))
        loss = (rounded * tried[:, None] - weight).square().sum(1)
        better = loss < least
        least = torch.where(better, loss, least)
        scale = torch.where(better, tried, scale)
        whole = torch.where(better[:, None], rounded, whole)
    return {"weight": whole.to(torch.int8), "weight_scale": scale}


def groups(weight: torch.Tensor, width: int) -> dict[str, torch.Tensor]:
    """`[out, in]` as numbers from 0 to 15, two in a byte `[out, in / 2]`.

    `group_scales` `[in / width, out, 2]` holds scale and zero in bfloat16, as the kernel wants
    them; the numbers are chosen after that rounding.
    """
    rows, columns = weight.shape
    grouped = weight.reshape(rows, columns // width, width)
    low, high = grouped.amin(-1), grouped.amax(-1)
    scale = ((high - low) / FOUR_BITS_MOST).clamp(min=_LEAST).bfloat16()
    zero = (low + FOUR_BITS_ZERO * scale.float()).bfloat16()
    steps = (grouped - zero.float()[..., None]) / scale.float()[..., None] + FOUR_BITS_ZERO
    numbers = torch.round(steps).clamp(0, FOUR_BITS_MOST).to(torch.uint8)
    scales = torch.stack([scale, zero], -1).transpose(0, 1).contiguous()
    return {"weight": two_in_one(numbers.reshape(rows, columns)), "group_scales": scales}


def _rounded(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return torch.round(weight / scale[:, None]).clamp(-_INTEGER_MOST, _INTEGER_MOST)


def _within_pairs(whole: torch.Tensor) -> torch.Tensor:
    """Columns 2i and 2i + 1 of one sign, brought down to a sum of at most 128."""
    even, odd = whole[:, 0::2], whole[:, 1::2]
    first = even[:, : odd.shape[1]]  # a last column alone has no neighbour
    over = ((first + odd).abs() - _PAIR_MOST).clamp(min=0) * (first * odd > 0)
    brought = whole.clone()
    brought[:, 0 : 2 * odd.shape[1] : 2] -= first.sign() * torch.ceil(over / 2)
    brought[:, 1::2] -= odd.sign() * torch.floor(over / 2)
    return brought


def _eighths(weight: torch.Tensor, seen: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """`[out, in]` as E4M3 with one scale, and a fixed scale for the activations that were seen."""
    scale = weight.abs().amax().clamp(min=_LEAST) / FP8_MOST
    scaled = (weight / scale).clamp(-FP8_MOST, FP8_MOST)
    made = {"weight": scaled.to(torch.float8_e4m3fn)}
    if seen is None:
        return {**made, "weight_scale": torch.full((weight.shape[0],), float(scale))}
    inputs = seen.amax().clamp(min=_LEAST) / FP8_MOST
    return {
        **made,
        "weight_scale": torch.full((weight.shape[0],), float(scale * inputs)),
        "input_factor": torch.full((weight.shape[1],), float(1 / inputs)),
    }
