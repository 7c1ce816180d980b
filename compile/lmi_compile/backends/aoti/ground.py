"""What of a recipe this backend carries; the rest is refused by name, before any work."""

from lmi_compile.backend import Order
from lmi_compile.backends.aoti.forms import Cache, Form, form_of
from lmi_compile.backends.aoti.machine import Machine
from lmi_compile.backends.aoti.parallel import DEGREE, require_degree
from lmi_compile.calibration import PlannedCalibration
from lmi_compile.errors import Unsupported
from lmi_recipes.model import Shapes

_DTYPES = ("float32", "bfloat16")
_METHODS = ("none", "int8_wo", "int4_wo", "smoothquant", "fp8")
_CUDA_METHODS = ("none", "fp8")


def check_ground(order: Order, machine: Machine) -> None:
    """Refuses what this backend does not carry yet, all of it at once.

    Raises:
        Unsupported: with each field, what it says and what it could say.
    """
    recipe = order.recipe
    method, cuda = recipe.quantization.method, machine.gpu is not None
    carried: tuple[tuple[str, object, tuple[object, ...]], ...] = (
        ("model.task", recipe.model.task, ("text-generation",)),
        ("dtype", recipe.dtype, _DTYPES if method == "none" or cuda else _DTYPES[:1]),
        ("quantization.method", method, _CUDA_METHODS if cuda else _METHODS),
        (
            "quantization.kv_cache_dtype",
            recipe.quantization.kv_cache_dtype,
            ("auto", "fp8") if method == "fp8" else ("auto",),
        ),
        ("pipeline_parallel_degree", recipe.pipeline_parallel_degree, (1,)),
        ("shapes.buckets", buckets(recipe.shapes), ([],)),
    )
    if method != "none" or cuda:
        carried = (*carried, (DEGREE, recipe.tensor_parallel_degree, (1,)))
    smoothing = recipe.quantization.smoothquant
    if smoothing is not None:
        per_channel = ("quantization.smoothquant.per_channel", smoothing.per_channel, (True,))
        carried = (*carried, per_channel)
    wrong = [
        f"{name}: {found} (today: {' or '.join(str(one) for one in can)})"
        for name, found, can in carried
        if found not in can
    ]
    if wrong:
        what = "the aoti backend cannot build this yet: " + "; ".join(wrong)
        raise Unsupported(what, fix="use the values in brackets")
    if order.model.architecture is not None:
        require_degree(order.model.architecture, recipe.tensor_parallel_degree)


def buckets(shapes: Shapes) -> list[int]:
    """What a recipe asks for and no graph here has: each takes every length without padding."""
    return [*shapes.buckets.prefill, *shapes.buckets.decode]


def storage(order: Order, machine: Machine) -> Form:
    """The storage form that the recipe's quantisation means on the target.

    Raises:
        Unsupported: It is a method that this backend does not build.
    """
    quantization = order.recipe.quantization
    knobs = quantization.smoothquant or quantization.fp8
    per_token = knobs is not None and knobs.per_token
    cache: Cache = "fp8" if quantization.kv_cache_dtype == "fp8" else "auto"
    match quantization.method:
        case "none" | "int8_wo" | "int4_wo" | "smoothquant" | "fp8" as method:
            return form_of(method, machine.cpu.required_flags, per_token=per_token, cache=cache)
        case other:
            raise Unsupported(f"the aoti backend cannot build this yet: {other}")


def calibration(order: Order) -> PlannedCalibration:
    """The calibration text, which must be a file.

    Raises:
        Unsupported: there is none.
    """
    found = order.calibration
    if found is None or found.sha256 is None:
        what = f"the calibration data set is not a file: {found.dataset if found else 'none named'}"
        fix = "name a text file in UTF-8, relative to the recipe, in quantization.calibration"
        raise Unsupported(what, "the aoti backend calibrates on a text that it can digest", fix)
    return found
