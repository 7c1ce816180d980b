"""Holds a checkpoint's merged weights against the Hugging Face weights."""

from dataclasses import dataclass

import torch  # noqa: TID253 - nobody imports this module before it is named

from lmi_compile.errors import VerificationFailed
from lmi_compile.quantize.checkpoint import Checkpoint
from lmi_compile.quantize.linears import dequantised
from lmi_compile.quantize.names import names_of, spread, spread_linears

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightReport:
    """How near a checkpoint's weights are to the model's.

    Attributes:
        exact: tensors that are bit for bit the model's, in the checkpoint's dtype.
        differing: names of unquantised tensors that are not.
        worst_error: largest relative Frobenius error of a quantised linear, 0 without one.
        worst_linear: which one that is.
        quantised: number of quantised linears.
    """

    exact: int
    differing: tuple[str, ...]
    worst_error: float
    worst_linear: str
    quantised: int


def compare_weights(checkpoint: Checkpoint, weights: dict[str, torch.Tensor]) -> WeightReport:
    """Compare every tensor of the checkpoint with the model's.

    A weight behind a prequant scale is compared as it acts: the scale is multiplied back in.

    Args:
        checkpoint: merged.
        weights: the model's state dict, each [out, in] or [n]; tied heads under both names.

    Raises:
        VerificationFailed: the checkpoint lacks a tensor of the model, or has one more.
    """
    names = names_of(checkpoint.config["architecture"])
    layers = checkpoint.config["num_hidden_layers"]
    dtype = getattr(torch, checkpoint.config["dtype"])
    exact, differing, errors, used = 0, [], {}, set()
    for ours, theirs in spread(names.plain, layers).items():
        for kind in ("weight", "bias"):
            stored = checkpoint.tensors.get(f"{ours}.{kind}")
            right = weights.get(f"{theirs}.{kind}")
            used.add(f"{ours}.{kind}")
            _check_presence(f"{ours}.{kind}", stored, right)
            if stored is None or right is None:
                continue
            exact += torch.equal(stored, right.to(dtype))
            differing += [] if torch.equal(stored, right.to(dtype)) else [f"{ours}.{kind}"]
    for ours, parts in spread_linears(names, layers).items():
        for kind in ("weight", "bias"):
            right = _joined([weights.get(f"{part}.{kind}") for part in parts])
            stored = checkpoint.tensors.get(f"{ours}.{kind}")
            _check_presence(f"{ours}.{kind}", stored, right)
            if stored is None or right is None:
                continue
            if names.transposed and kind == "weight" and ours != "lm_head":
                right = right.T
            scale = checkpoint.tensors.get(f"{ours}.weights_scaling_factor")
            if kind == "weight" and scale is not None:
                errors[ours] = _error(checkpoint, ours, right.float())
            else:
                exact += torch.equal(stored, right.to(dtype))
                differing += [] if torch.equal(stored, right.to(dtype)) else [f"{ours}.{kind}"]
    worst = max(errors, key=lambda name: errors[name], default="")
    return WeightReport(
        exact=exact,
        differing=tuple(differing),
        worst_error=errors.get(worst, 0.0),
        worst_linear=worst,
        quantised=len(errors),
    )


def _error(checkpoint: Checkpoint, name: str, right: torch.Tensor) -> float:
    tensors = checkpoint.tensors
    acting = dequantised(tensors[f"{name}.weight"], tensors[f"{name}.weights_scaling_factor"])
    prequant = tensors.get(f"{name}.prequant_scaling_factor")
    if prequant is not None:
        acting = acting * prequant.float()
    if acting.shape != right.shape:
        raise VerificationFailed(
            what=f"{name} has the shape {list(acting.shape)}",
            why=f"the model's has {list(right.shape)}",
            fix="make the checkpoint anew; no engine should be built of it",
        )
    return float((acting - right).norm() / right.norm())


def _joined(parts: list[torch.Tensor | None]) -> torch.Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None


def _check_presence(name: str, stored: torch.Tensor | None, right: torch.Tensor | None) -> None:
    if right is not None and stored is None:
        raise VerificationFailed(
            what=f"the checkpoint lacks {name}",
            why="the model has it",
            fix="make the checkpoint anew; no engine should be built of it",
        )
    if stored is not None and right is None and bool(stored.any()):
        raise VerificationFailed(
            what=f"the checkpoint holds {name}",
            why="the model has no such tensor",
            fix="make the checkpoint anew; no engine should be built of it",
        )


def check_weights(report: WeightReport, limit: float | None) -> None:
    """Refuse a checkpoint that is not its model's.

    Args:
        report: from `compare_weights`.
        limit: largest error per quantised linear that passes; None judges logits only.

    Raises:
        VerificationFailed: a tensor differs, or a linear is too far off.
    """
    fix = "make the checkpoint anew; no engine should be built of it"
    if report.differing:
        shown = ", ".join(report.differing[:_SHOWN])
        what = f"{len(report.differing)} unquantised tensors are not bit for bit the model's"
        raise VerificationFailed(what=what, why=shown, fix=fix)
    if limit is not None and report.worst_error > limit:
        what = f"{report.worst_linear} is {report.worst_error:.4f} off the model's weights"
        why = f"relative Frobenius error, at most {limit:g} for this format"
        raise VerificationFailed(what=what, why=why, fix=fix)
