"""One linear layer of a checkpoint: what its stored numbers mean, and how it computes.

Formulas: docs/checkpoints.md. INT8 is symmetric, scale = amax / 127; FP8 is E4M3,
scale = amax / 448, saturating; AWQ is 4 bits in groups of columns.
"""

from dataclasses import dataclass

import torch  # noqa: TID253 - nobody imports this module before it is named
from torch import nn  # noqa: TID253 - as above

from lmi_compile.quantize.checkpoint import Checkpoint

_INT8 = (-128.0, 127.0)
_FP8_MAX = 448.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A linear layer as TensorRT-LLM computes it.

    Attributes:
        weight: dequantised, float32, [out, in].
        bias: float32 [out], or None.
        prequant: factor on the input's columns, or None.
        input_scale: static scale of the input, or None where it is not quantised.
        input_kind: `int8` or `fp8` where there is an input scale.
        dtype: the checkpoint's, for unquantised weights.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    prequant: torch.Tensor | None
    input_scale: torch.Tensor | None
    input_kind: str

    def rows(self, start: int, count: int) -> "Linear":
        """The layer that makes only these outputs."""
        return Linear(
            weight=self.weight[start : start + count],
            bias=None if self.bias is None else self.bias[start : start + count],
            prequant=self.prequant,
            input_scale=self.input_scale,
            input_kind=self.input_kind,
        )


def linear_of(checkpoint: Checkpoint, name: str) -> Linear:
    """The linear layer called `name`, such as `transformer.layers.0.mlp.fc`."""
    tensors = checkpoint.tensors
    stored = tensors[f"{name}.weight"]
    scale = tensors.get(f"{name}.weights_scaling_factor")
    bias = tensors.get(f"{name}.bias")
    prequant = tensors.get(f"{name}.prequant_scaling_factor")
    return Linear(
        weight=dequantised(stored, scale),
        bias=None if bias is None else bias.float(),
        prequant=None if prequant is None else prequant.float(),
        input_scale=tensors.get(f"{name}.activation_scaling_factor"),
        input_kind="fp8" if stored.dtype == torch.float8_e4m3fn else "int8",
    )


def dequantised(stored: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """What a stored weight means, in float32 [out, in].

    Args:
        stored: the weight; int4 has two rows in one row of bytes, the first in the low half.
        scale: per tensor [1], per row [out], or per row and group [out, groups].
    """
    if scale is None:
        return stored.float()
    if stored.dtype == torch.int8 and scale.dim() > 1:
        low, high = (stored << 4) >> 4, stored >> 4
        rows = torch.stack((low, high), dim=1).reshape(-1, stored.shape[1])
        return rows.float() * scale.repeat_interleave(rows.shape[1] // scale.shape[1], dim=1)
    return stored.float() * (scale if scale.numel() == 1 else scale[:, None])


def fake_quantised(values: torch.Tensor, scale: torch.Tensor, kind: str) -> torch.Tensor:
    """`values` rounded to `kind` and back, with a static scale.

    Args:
        values: float32, of any shape.
        scale: float32 []; one step of the format.
        kind: `fp8` (E4M3, to ±448) or `int8`.
    """
    scaled = values / scale
    if kind == "fp8":
        return scaled.clamp(-_FP8_MAX, _FP8_MAX).to(torch.float8_e4m3fn).float() * scale
    return scaled.round().clamp(*_INT8) * scale


class SimulatedLinear(nn.Module):
    """Computes in float32 what the quantised layer stands for."""

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[..., in] to [..., out]."""
        linear = self.linear
        if linear.prequant is not None:
            values = values * linear.prequant
        if linear.input_scale is not None:
            values = fake_quantised(values, linear.input_scale, linear.input_kind)
        return nn.functional.linear(values, linear.weight, linear.bias)
