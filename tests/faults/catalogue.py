"""The faults: each takes a right build's parts and gives the parts of a wrong one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from parts import Parts, edited, shuffled

Area: TypeAlias = Literal[
    "positions", "attention", "weights", "tokenizer", "cache", "quantisation", "sampling"
]
Seed: TypeAlias = Callable[[Parts, float], Parts]
MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
COLUMN_PARALLEL = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
ROW_PARALLEL = ("o_proj", "down_proj")
PLAIN = ("float32", "bfloat16", "int8")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way in which a build can be wrong.

    Attributes:
        name: In the table.
        area: Where it lies.
        seed: Makes it; its second argument is the size.
        sizes: Largest first; one number that means nothing where a fault has no size. The first
            has to be caught.
        unit: How a size reads, with `{}` for the number; empty where it has none.
        model: Which model it is seeded in.
        builds: In which builds.
        together: Whether it shows only where prompts are asked together.
    """

    name: str
    area: Area
    seed: Seed
    sizes: tuple[float, ...] = (1.0,)
    unit: str = ""
    model: str = "smollm2"
    builds: tuple[str, ...] = PLAIN
    together: bool = False


def _wired(**changes: object) -> Seed:
    return lambda parts, _size: parts.changed(wiring={**changes})


def _stored(**changes: object) -> Seed:
    return lambda parts, _size: parts.changed(form=replace(parts.form, **changes))


def rope_theta(parts: Parts, factor: float) -> Parts:
    half = len(parts.wiring.inv_freq)
    slower = parts.wiring.inv_freq * factor ** (torch.arange(half) / half)
    return parts.changed(wiring={"inv_freq": slower})


def rope_scaling_lost(parts: Parts, theta: float) -> Parts:
    half = len(parts.wiring.inv_freq)
    plain = 1.0 / theta ** (torch.arange(half) / half)
    return parts.changed(wiring={"inv_freq": plain, "rope_gain": 1.0})


def shards_swapped(parts: Parts, _size: float) -> Parts:
    weights = edited(parts.weights, lambda _, each: shuffled(each, (0, 2, 1), 1), *ROW_PARALLEL)
    return parts.changed(weights=weights)


def shard_duplicated(parts: Parts, _size: float) -> Parts:
    weights = edited(parts.weights, lambda _, each: shuffled(each, (0, 0, 2), 0), *COLUMN_PARALLEL)
    weights = edited(weights, lambda _, each: shuffled(each, (0, 0, 2), 1), *ROW_PARALLEL)
    return parts.changed(weights=weights)


def layer_skipped(parts: Parts, _size: float) -> Parts:
    order = parts.wiring.order
    middle = len(order) // 2
    return parts.changed(wiring={"order": order[:middle] + order[middle + 1 :]})


def layers_swapped(parts: Parts, _size: float) -> Parts:
    order = list(parts.wiring.order)
    middle = len(order) // 2
    order[middle - 1], order[middle] = order[middle], order[middle - 1]
    return parts.changed(wiring={"order": tuple(order)})


def transposed(parts: Parts, _size: float) -> Parts:
    layer = f"layers.{len(parts.wiring.order) // 2}."

    def turn(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.T.contiguous() if layer in name else tensor

    return parts.changed(weights=edited(parts.weights, turn, "o_proj"))


def key_value_order(parts: Parts, _size: float) -> Parts:
    other = {"k_proj": "v_proj", "v_proj": "k_proj"}

    def exchange(name: str, _: torch.Tensor) -> torch.Tensor:
        mine = name.split(".")[-2]
        return parts.weights[name.replace(mine, other[mine])]

    return parts.changed(weights=edited(parts.weights, exchange, *other))


def epsilon(parts: Parts, factor: float) -> Parts:
    return parts.changed(wiring={"eps": parts.wiring.eps * factor})


def bias_missing(parts: Parts, _size: float) -> Parts:
    kept = {name: each for name, each in parts.weights.items() if not name.endswith(".bias")}
    return parts.changed(weights=kept)


def head_untied(parts: Parts, _size: float) -> Parts:
    """The head has the random numbers that a library fills a missing weight with."""
    embedding = parts.weights["model.embed_tokens.weight"]
    made = torch.empty_like(embedding).normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    return parts.changed(weights=parts.weights | {"lm_head.weight": made})


def stale(parts: Parts, change: float) -> Parts:
    """Every matrix as before a fine-tune that moved it by `change` of its own length."""
    drawn = torch.Generator().manual_seed(0)

    def move(_: str, tensor: torch.Tensor) -> torch.Tensor:
        step = torch.randn(tensor.shape, generator=drawn)
        return tensor + step * (change * tensor.norm() / step.norm())

    return parts.changed(weights=edited(parts.weights, move, *MATRICES))


def tokenizer_revision(parts: Parts, _size: float) -> Parts:
    """A tokenizer that splits numbers and runs of blanks in another way."""
    encode = parts.encode

    def older(text: str) -> list[int]:
        return [each for word in text.split(" ") for each in encode(f" {word}")]

    return parts.changed(encode=older)


def bos_added(parts: Parts, _size: float) -> Parts:
    encode = parts.encode
    return parts.changed(encode=lambda text: [1, *encode(text)])


def eos_wrong(parts: Parts, _size: float) -> Parts:
    return parts.changed(eos_token_ids=(0,))


def logits_scaled(parts: Parts, factor: float) -> Parts:
    return parts.changed(wiring={"logit_scale": factor})


def temperature_twice(parts: Parts, _size: float) -> Parts:
    return parts.changed(temperature_times=2)


def scale_off(parts: Parts, error: float) -> Parts:
    return parts.changed(form=replace(parts.form, scale_error=1 + error))


def saturated(parts: Parts, clip: float) -> Parts:
    return parts.changed(form=replace(parts.form, clip=clip))


def neighbour(parts: Parts, slots: float) -> Parts:
    return parts.changed(wiring={"neighbour_slots": int(slots)})


def _fp8_overflow(parts: Parts, _size: float) -> Parts:
    """Ranges of a calibration that saw too little, and no clamp before the cast."""
    ranges = {name: each / 2 for name, each in (parts.wiring.fp8_ranges or {}).items()}
    return parts.changed(wiring={"fp8_ranges": ranges, "fp8_saturates": False})


FAULTS: tuple[Fault, ...] = (
    Fault(
        name="wrong rope_theta",
        area="positions",
        seed=rope_theta,
        sizes=(10, 2, 1.2, 1.05),
        unit="theta / {:g}",
    ),
    Fault(
        name="lost rope scaling",
        area="positions",
        seed=lambda parts, _size: rope_scaling_lost(parts, 100000.0),
        model="scaled-rope",
    ),
    Fault(name="two TP shards swapped", area="weights", seed=shards_swapped),
    Fault(name="one rank's shard duplicated", area="weights", seed=shard_duplicated),
    Fault(name="a layer skipped", area="weights", seed=layer_skipped),
    Fault(name="two layers swapped", area="weights", seed=layers_swapped),
    Fault(name="transposed projection", area="weights", seed=transposed),
    Fault(name="q/k/v order", area="weights", seed=key_value_order),
    Fault(name="wrong GQA repeat", area="attention", seed=_wired(repeat="tile")),
    Fault(
        name="norm epsilon x100",
        area="weights",
        seed=epsilon,
        sizes=(100, 10, 3),
        unit="epsilon x {:g}",
    ),
    Fault(name="missing bias", area="weights", seed=bias_missing, model="biased"),
    Fault(name="tied head untied", area="weights", seed=head_untied),
    Fault(
        name="stale weights",
        area="weights",
        seed=stale,
        sizes=(0.01, 0.003, 0.001),
        unit="{:.1%} change",
    ),
    Fault(name="wrong tokenizer revision", area="tokenizer", seed=tokenizer_revision),
    Fault(name="wrong EOS", area="tokenizer", seed=eos_wrong),
    Fault(name="wrong BOS", area="tokenizer", seed=bos_added),
    Fault(name="off-by-one position", area="positions", seed=_wired(decode_shift=1)),
    Fault(name="KV cache not cleared", area="cache", seed=_wired(clears=False)),
    Fault(
        name="padding leaks into attention",
        area="attention",
        seed=_wired(padding_seen=True),
        together=True,
    ),
    Fault(name="causal mask missing", area="attention", seed=_wired(causal=False)),
    Fault(
        name="sliding window ignored",
        area="attention",
        seed=_wired(window=None),
        model="window",
        builds=("float32", "int8"),  # so short a window costs even a right bfloat16 build KL 0.03
    ),
    Fault(
        name="sliding window ignored (tiny model)",
        area="attention",
        seed=_wired(window=None),
        model="tiny-window",
        builds=("bfloat16",),
    ),
    Fault(
        name="int8 scale off",
        area="quantisation",
        seed=scale_off,
        sizes=(0.02, 0.01, 0.005),
        unit="{:.1%}",
        builds=("int8",),
    ),
    Fault(
        name="per-tensor instead of per-channel",
        area="quantisation",
        seed=_stored(per_channel=False),
        builds=("int8",),
    ),
    Fault(
        name="saturated int8",
        area="quantisation",
        seed=saturated,
        sizes=(0.5, 0.7, 0.9),
        unit="scale x {:g}",
        builds=("int8",),
    ),
    Fault(
        name="FP8 without saturation",
        area="quantisation",
        seed=_fp8_overflow,
        builds=("fp8",),
    ),
    Fault(
        name="bfloat16 where float32 was asked",
        area="quantisation",
        seed=_stored(dtype=torch.bfloat16),
        builds=("float32",),
    ),
    Fault(
        name="logits scaled",
        area="sampling",
        seed=logits_scaled,
        sizes=(1.1, 1.05, 1.02, 1.005),
        unit="x {:g}",
    ),
    Fault(name="temperature applied twice", area="sampling", seed=temperature_twice),
    Fault(
        name="batch-neighbour leak",
        area="cache",
        seed=neighbour,
        sizes=(2, 1),
        unit="{:g} slots",
        together=True,
    ),
)
