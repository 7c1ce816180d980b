"""What would fit instead: the search behind every refusal."""

from lmi_compile.backend import Order
from lmi_compile.backends.neuron import facts
from lmi_compile.backends.neuron.facts import Instance
from lmi_compile.backends.neuron.memory import decoder_of, footprint
from lmi_compile.feasibility.shape import Shape
from lmi_recipes.toolchain import load_toolchain, toolchain_names

_SHOWN = 3


def what_fits(order: Order) -> str:
    """Instances and degrees that carry the recipe's model, the smallest first, as a sentence."""
    decoder = decoder_of(order.model.config or {})
    if decoder is None:
        return _instead(order)
    asked = {order.recipe.tensor_parallel_degree}
    targets = set(order.toolchain.builds_for.neuron) - {"inf1"} or {"inf2", "trn1"}
    found = [
        f"ml.{instance.name} with tensor_parallel_degree {degree}"
        for instance in sorted(facts.instances().values(), key=lambda each: each.cores)
        if instance.target in targets
        for degree in _best_degrees(order, instance, decoder, asked)
    ]
    if not found:
        return "no Neuron instance carries it as it is"
    return f"it fits {'; '.join(found[:_SHOWN])}"


def who_takes(model_type: str) -> str:
    """The toolchains of this backend that take a model type, as a sentence."""
    takers = [
        name
        for name in toolchain_names()
        if (toolchain := load_toolchain(name)).backend == "neuron"
        and model_type in toolchain.model_types
    ]
    if not takers:
        return f"no Neuron toolchain takes {model_type}"
    return f"{model_type} is taken by {', '.join(takers)}"


def _instead(order: Order) -> str:
    names = [
        f"ml.{instance.name}"
        for instance in facts.instances().values()
        if instance.target in order.toolchain.builds_for.neuron
    ]
    return f"it fits {', '.join(names[:_SHOWN])}"


def _best_degrees(
    order: Order, instance: Instance, decoder: Shape, asked: set[int]
) -> tuple[int, ...]:
    """The smallest degree at which it fits; the one that was asked for, where that fits."""
    fitting = [
        degree for degree in facts.degrees(instance) if _fits(order, instance, decoder, degree)
    ]
    wanted = [degree for degree in fitting if degree in asked]
    return tuple((wanted or fitting)[:1])


def _fits(order: Order, instance: Instance, decoder: Shape, degree: int) -> bool:
    recipe = order.recipe
    needs = footprint(
        decoder,
        degree=degree,
        batch=recipe.shapes.max_batch_size,
        length=recipe.shapes.max_seq_len,
        dtype=recipe.dtype,
        method=recipe.quantization.method,
    )
    host = instance.host_bytes
    return needs.per_core <= instance.bytes_per_core - facts.core_reserve() and (
        host is None or needs.weights_bytes + facts.host_reserve() <= host
    )
