"""How weights are stored and linear layers computed: what of a quantisation decides the graphs.

Light: planning reads it. The strength of smoothing and the calibration are not here, because
they change numbers in the weights and never the graphs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from lmi_artifacts.digest import JSONValue

Method: TypeAlias = Literal["none", "int8_wo", "int4_wo", "smoothquant", "fp8"]
Activations: TypeAlias = Literal["float", "per_token", "static"]
Cache: TypeAlias = Literal["auto", "fp8"]

GROUP = 32  # 4-bit weights that share a scale and a zero, along a row
SCALE_WIDTH = 16  # of an FP8 cache: vectors of up to 8 numbers may become code

SLOW_FP8 = (
    "no CPU multiplies FP8, so E4M3 numbers are multiplied in float32: right and small; prefill,"
    " which widens the weights first, is slower than float32"
)
_VNNI = frozenset({"avx512_vnni", "avx_vnni"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A storage form.

    Attributes:
        method: `none` (the weights' own type), `int8_wo` and `int4_wo` (8-bit and 4-bit weights),
            `smoothquant` (8-bit weights and activations) or `fp8` (E4M3 weights and activations).
        activations: `float`, or one scale per token or one fixed by calibration.
        reduced_range: neighbours of one sign in a row of 8-bit weights add up to at most 128:
            without VNNI, oneDNN's u8 x s8 adds pairs of products in 16 bits, where 255 * 128 is
            the most that fits.
        cache: `auto` follows the model's dtype; `fp8` keeps keys and values in E4M3, each with a
            scale per layer that calibration fixes.
    """

    method: Method = "none"
    activations: Activations = "float"
    reduced_range: bool = False
    cache: Cache = "auto"

    @property
    def calibrated(self) -> bool:
        """Whether the weights step needs ranges of activations."""
        return self.method == "smoothquant" or self.activations == "static" or self.cache != "auto"

    def note(self, *, cuda: bool) -> str:
        """What a user of the package should know; empty where there is nothing.

        Args:
            cuda: the graphs run on a CUDA device.
        """
        return SLOW_FP8 if self.method == "fp8" and not cuda else ""

    def to_json(self) -> dict[str, JSONValue]:
        """For a step's params and for `graphs.json`."""
        return {
            "method": self.method,
            "activations": self.activations,
            "reduced_range": self.reduced_range,
            "cache": self.cache,
        }


PLAIN = Form()


def form_of(
    method: Method, flags: Sequence[str], *, per_token: bool, cache: Cache = "auto"
) -> Form:
    """The form for a method on processors that have at least `flags`.

    Args:
        method: Of quantisation.
        flags: Instruction sets, as Linux names them.
        per_token: Whether activations have a scale per token instead of a calibrated one.
        cache: What keys and values are kept in.
    """
    match method:
        case "none":
            return PLAIN
        case "int8_wo" | "int4_wo":
            return Form(method=method)
        case "fp8":
            activations: Activations = "per_token" if per_token else "static"
            return Form(method=method, activations=activations, cache=cache)
        case "smoothquant":
            return Form(
                method=method,
                activations="per_token" if per_token else "static",
                reduced_range=not _VNNI & set(flags),
            )


def read_form(given: Mapping[str, JSONValue] | None) -> Form:
    """The form that `to_json` wrote; None is the plain one."""
    if given is None:
        return PLAIN
    return Form(**given)  # type: ignore[arg-type]  # the fields of to_json
