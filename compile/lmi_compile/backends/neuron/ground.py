"""What the neuron backend builds on: one instance, one route, one model; or why it cannot."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lmi_artifacts.digest import JSONValue
from lmi_compile.backend import Order
from lmi_compile.backends.neuron import facts, fitting, shape_rules
from lmi_compile.backends.neuron.facts import DECODER_ROUTES, ROUTES, Instance, RouteName
from lmi_compile.backends.neuron.memory import Footprint, decoder_of, footprint
from lmi_compile.errors import Unsupported
from lmi_compile.feasibility.shape import Shape
from lmi_recipes.errors import RecipeImpossible
from lmi_recipes.problems import Problem

Found = Iterator[tuple[str, str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A recipe that this backend can build.

    Attributes:
        route: the way it goes.
        instance: where it will be served.
        config: the model's config.json.
        decoder: its dimensions, for a language model.
        footprint: its memory, for a language model.
    """

    route: RouteName
    instance: Instance
    config: Mapping[str, JSONValue]
    decoder: Shape | None
    footprint: Footprint | None


def ground_of(order: Order) -> Ground:
    """Hold a recipe against every rule.

    Raises:
        RecipeImpossible: with every problem: the field, what was found, why, and what would fit.
    """
    route = route_of(order)
    instance = facts.instances().get(_ec2_name(order))
    config = order.model.config or {}
    decoder = decoder_of(config) if route in DECODER_ROUTES else None
    found = list(_problems(order, route, instance, config, decoder))
    if found or instance is None:
        raise RecipeImpossible([_problem(order, *each) for each in found])
    return Ground(
        route=route,
        instance=instance,
        config=config,
        decoder=decoder,
        footprint=None if decoder is None else _footprint(order, decoder),
    )


def route_of(order: Order) -> RouteName:
    """The route that the recipe's toolchain names.

    Raises:
        Unsupported: its file names none of them.
    """
    for route in ROUTES:
        if order.toolchain.route == route:
            return route
    what = f"toolchain {order.toolchain.name} names no route of the neuron backend"
    raise Unsupported(what, fix=f"give its file a route: {', '.join(ROUTES)}")


def _problems(
    order: Order,
    route: RouteName,
    instance: Instance | None,
    config: Mapping[str, JSONValue],
    decoder: Shape | None,
) -> Found:
    yield from _target_problems(order, instance, config)
    yield from _model_problems(order, config, decoder)
    yield from _number_problems(order, route, config)
    yield from shape_rules.problems(order.recipe, route, decoder)
    if instance is not None:
        yield from _degree_problems(order, route, instance, decoder)
    if instance is not None and decoder is not None and instance.target != "inf1":
        yield from _memory_problems(order, instance, decoder)


def _target_problems(
    order: Order, instance: Instance | None, config: Mapping[str, JSONValue]
) -> Found:
    if order.recipe.target.instance_type is None:
        yield ("target", str(order.recipe.target.cpu), "the neuron backend needs an instance_type")
        return
    field, value = "target.instance_type", order.recipe.target.instance_type
    targets = order.toolchain.builds_for.neuron
    if instance is None:
        known = ", ".join(sorted(f"ml.{name}" for name in facts.instances()))
        yield (field, value, f"has no Neuron device that a source describes; there are {known}")
    elif instance.target not in targets:
        why = f"toolchain {order.toolchain.name} compiles for {', '.join(targets)}, not for"
        why = f"{why} {instance.target}"
        if instance.target == "inf1" and decoder_of(config) is not None:
            why = (
                f"{why}; Inf1 has 8 GiB for each chip and no tensor parallelism, and no toolchain"
                " of it carries a language model"
            )
        yield (field, value, f"{why}; {fitting.what_fits(order)}")


def _model_problems(order: Order, config: Mapping[str, JSONValue], decoder: Shape | None) -> Found:
    if not config:
        why = "a plan needs the model's config.json: name it in model.config, or use a directory"
        yield ("model.config", "nothing", why)
        return
    model_type = str(config.get("model_type"))
    known = order.toolchain.model_types
    if known and model_type not in known:
        why = f"toolchain {order.toolchain.name} takes the model types {', '.join(known)}"
        yield ("model.id", model_type, f"{why}; {fitting.who_takes(model_type)}")
    elif route_of(order) in DECODER_ROUTES and decoder is None:
        why = "its memory is not known here, so that it cannot be held against a NeuronCore's"
        yield ("model.id", model_type, why)
    if order.recipe.model.trust_remote_code:
        why = "no Neuron toolchain compiles a model from its repository's own code"
        yield ("model.trust_remote_code", "true", why)


def _number_problems(order: Order, route: RouteName, config: Mapping[str, JSONValue]) -> Found:
    recipe = order.recipe
    method, cache = recipe.quantization.method, recipe.quantization.kv_cache_dtype
    if method not in facts.allowed("methods", route):
        yield ("quantization.method", method, facts.quantization_refusal(method))
    if cache not in facts.allowed("kv_cache", route):
        why = f"this route keeps the KV cache as {', '.join(facts.allowed('kv_cache', route))}"
        yield ("quantization.kv_cache_dtype", cache, why)
    if recipe.quantization.fp8 is not None and recipe.quantization.fp8.per_token:
        why = "the Neuron compiler's tools take no scale per token"
        yield ("quantization.fp8.per_token", "true", why)
    if recipe.dtype not in facts.allowed("dtypes", route):
        why = f"this route compiles {', '.join(facts.allowed('dtypes', route))}"
        if route.startswith("trace"):
            why += " and casts matrix products itself (--auto-cast, --fast-math)"
        yield ("dtype", recipe.dtype, why)
    stored = config.get("torch_dtype", config.get("dtype"))
    if route == "optimum" and stored is not None and stored != recipe.dtype:
        yield (
            "dtype",
            recipe.dtype,
            (
                f"optimum-neuron compiles a decoder in the dtype of its config.json, {stored}, and"
                f" does not read --torch_dtype; build {stored}, or write torch_dtype:"
                f" {recipe.dtype} into the config.json of a local copy and name that directory in"
                " model.id, or use neuron-nxdi-2.28, which takes the dtype"
            ),
        )


def _degree_problems(
    order: Order, route: RouteName, instance: Instance, decoder: Shape | None
) -> Found:
    recipe = order.recipe
    degree = recipe.tensor_parallel_degree
    if recipe.pipeline_parallel_degree != 1:
        why = "no inference route of Neuron splits layers into stages; use 1"
        yield ("pipeline_parallel_degree", str(recipe.pipeline_parallel_degree), why)
    if route not in DECODER_ROUTES:
        if degree != 1:
            why = "a traced model runs on one core; use 1, and one copy for each core"
            yield ("tensor_parallel_degree", str(degree), why)
        return
    family, here = facts.family_degrees(instance.target), facts.degrees(instance)
    if degree not in here:
        listed = ", ".join(map(str, here))
        if degree in family:
            why = f"ml.{instance.name} has {instance.cores} cores"
        else:
            why = f"the topology of {instance.target} carries {', '.join(map(str, family))}"
        why = f"{why}; on ml.{instance.name} the degrees are {listed}"
        fits = "" if decoder is None else f"; {fitting.what_fits(order)}"
        yield ("tensor_parallel_degree", str(degree), f"{why}{fits}")


def _memory_problems(order: Order, instance: Instance, decoder: Shape) -> Found:
    needs = _footprint(order, decoder)
    room = instance.bytes_per_core - facts.core_reserve()
    if needs.per_core > room:
        terms = (
            f"{gigabytes(needs.weights_per_core)} of weights and {gigabytes(needs.kv_per_core)} of"
            f" KV cache for each core, which has {gigabytes(instance.bytes_per_core)}"
        )
        yield (
            "tensor_parallel_degree",
            str(order.recipe.tensor_parallel_degree),
            f"it does not fit: {terms}; {fitting.what_fits(order)}",
        )
    host = instance.host_bytes
    if host is not None and needs.weights_bytes + facts.host_reserve() > host:
        terms = f"{gigabytes(needs.weights_bytes)} of weights pass through the host's memory"
        yield (
            "target.instance_type",
            f"ml.{instance.name}",
            f"{terms}, which has {gigabytes(host)}; {fitting.what_fits(order)}",
        )


def gigabytes(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 1e9:.2f} GB"


def _footprint(order: Order, decoder: Shape) -> Footprint:
    recipe = order.recipe
    return footprint(
        decoder,
        degree=recipe.tensor_parallel_degree,
        batch=recipe.shapes.max_batch_size,
        length=recipe.shapes.max_seq_len,
        dtype=recipe.dtype,
        method=recipe.quantization.method,
    )


def _ec2_name(order: Order) -> str:
    return (order.recipe.target.instance_type or "").removeprefix("ml.")


def _problem(order: Order, field: str, value: str, message: str) -> Problem:
    return Problem(file=order.recipe.name, field=field, value=value, message=message)
