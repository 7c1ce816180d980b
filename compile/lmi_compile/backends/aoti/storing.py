"""Numbers for the tensors that graphs read in 8 bits, from a checkpoint's floats and from ranges.

Integers: symmetric, scale = largest / most. E4M3: scale = largest / 448, saturating.
Smoothing (Xiao et al., arXiv 2211.10438, eq. 4): column j of a layer's input is divided by
`s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)` and column j of its weight multiplied. With a scale
per token, the division goes into the weight of the norm before the layer, so all layers behind
one norm share s; layers without such a norm stay as they are. With fixed scales, every layer has
its own s, which its `input_factor` applies.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch  # noqa: TID253 - imported by the weights worker only

from lmi_compile.backends.aoti.forms import Form
from lmi_compile.backends.aoti.quantised import ACTIVATION_MOST, FP8_MOST

Read = Callable[[str], torch.Tensor]
_SMALLEST, _LARGEST = 1e-4, 1e4  # of a smoothing factor: modelopt clamps to the same
_LEAST = 1e-8  # stands for a row, column or range of zeros
_EIGHT_BITS = frozenset({torch.int8, torch.float8_e4m3fn})
DERIVED = (".weight_scale", ".input_factor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """What calibration saw.

    Attributes:
        inputs: Layer to the largest |x| of each input column, float32 `[in]`.
        norms: Norm to the layers that read its output, where nothing else does.
    """

    inputs: Mapping[str, torch.Tensor] = field(default_factory=dict)
    norms: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(slots=True)
class Quantiser:
    """Makes one stored tensor at a time.

    Attributes:
        read: A checkpoint's tensor by name, in float32.
        form: What the graphs want.
        ranges: From calibration.
        alpha: How much of the activations' range moves into the weights; None does not smooth.
    """

    read: Read
    form: Form
    ranges: Ranges = field(default_factory=Ranges)
    alpha: float | None = None
    _last: tuple[str, dict[str, torch.Tensor]] | None = None

    def tensor(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """The tensor to store under `name`."""
        layer, _, part = name.rpartition(".")
        if f".{part}" in DERIVED or dtype in _EIGHT_BITS:
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

    def _made(self, layer: str) -> dict[str, torch.Tensor]:
        weight = self.read(f"{layer}.weight")
        if layer not in self.ranges.inputs:  # the embedding and the head, or nothing calibrated
            return whole_rows(weight, int(ACTIVATION_MOST))
        seen = self.ranges.inputs[layer]
        if self.form.method == "fp8":
            return _eighths(weight, seen)
        smoothing = self._smoothing(layer, weight)
        made = whole_rows(weight * smoothing, self.form.most)
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


def whole_rows(weight: torch.Tensor, most: int) -> dict[str, torch.Tensor]:
    """`[out, in]` as whole numbers up to `most` with one scale per row."""
    scale = weight.abs().amax(1).clamp(min=_LEAST) / most
    whole = torch.round(weight / scale[:, None]).clamp(-most, most).to(torch.int8)
    return {"weight": whole, "weight_scale": scale}


def _eighths(weight: torch.Tensor, seen: torch.Tensor) -> dict[str, torch.Tensor]:
    """`[out, in]` as E4M3 with one scale, and a fixed scale for the activations."""
    scale = weight.abs().amax().clamp(min=_LEAST) / FP8_MOST
    inputs = seen.amax().clamp(min=_LEAST) / FP8_MOST
    scaled = (weight / scale).clamp(-FP8_MOST, FP8_MOST)
    return {
        "weight": scaled.to(torch.float8_e4m3fn),
        "weight_scale": torch.full((weight.shape[0],), float(scale * inputs)),
        "input_factor": torch.full((weight.shape[1],), float(1 / inputs)),
    }
