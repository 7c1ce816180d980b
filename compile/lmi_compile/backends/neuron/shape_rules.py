"""Rules on lengths, buckets and serve-time knobs."""

from collections.abc import Iterator

from lmi_compile.backends.neuron.facts import DECODER_ROUTES, RouteName
from lmi_compile.feasibility.shape import Shape
from lmi_recipes.model import Recipe

# Serve-time knobs that the container's own property classes take and that no graph depends on.
_SERVE_TIME = ("job_queue_size", "model_loading_timeout", "output_formatter", "predict_timeout")


def problems(
    recipe: Recipe, route: RouteName, decoder: Shape | None
) -> Iterator[tuple[str, str, str]]:
    """Field, value and reason of everything about shapes that the route cannot do."""
    shapes = recipe.shapes
    positions = None if decoder is None else decoder.max_positions
    if positions is not None and shapes.max_seq_len > positions:
        why = f"the model's positions end at {positions}"
        yield ("shapes.max_seq_len", str(shapes.max_seq_len), why)
    if shapes.max_num_tokens is not None:
        why = "Neuron's graphs have fixed batch and length; leave it out"
        yield ("shapes.max_num_tokens", str(shapes.max_num_tokens), why)
    is_decoder = route in DECODER_ROUTES
    if is_decoder != (recipe.model.task == "text-generation"):
        right = "text-generation" if is_decoder else "one of an encoder or a vision model"
        yield ("model.task", recipe.model.task, f"this route serves {right}")
    yield from _bucket_problems(recipe, route)
    yield from _knob_problems(recipe, route)


def context_length(recipe: Recipe) -> int:
    """Tokens of the longest context graph: a prompt one short of the whole is the whole."""
    shapes = recipe.shapes
    longest = shapes.max_seq_len - 1
    return shapes.max_seq_len if shapes.max_input_len == longest else shapes.max_input_len


def _bucket_problems(recipe: Recipe, route: RouteName) -> Iterator[tuple[str, str, str]]:
    buckets = recipe.shapes.buckets
    limits = (
        ("prefill", buckets.prefill, context_length(recipe)),
        ("decode", buckets.decode, recipe.shapes.max_seq_len),
    )
    for name, values, limit in limits:
        if not values:
            continue
        field = f"shapes.buckets.{name}"
        if route not in {"nxdi", "partition"} or (route == "partition" and name == "decode"):
            yield (field, str(list(values)), "this route has no such buckets")
        elif values[-1] != limit:
            why = f"the last bucket must be {limit}, or longer requests find no graph"
            yield (field, str(list(values)), why)


def _knob_problems(recipe: Recipe, route: RouteName) -> Iterator[tuple[str, str, str]]:
    for name, value in recipe.runtime.items():
        field = f"runtime.{name}"
        if route != "partition":
            why = "this route's container reads no serving.properties"
            yield (field, str(value), why)
        elif name not in _SERVE_TIME:
            why = (
                "it decides what is compiled, so that the endpoint would compile anew; serve-time"
                f" knobs are {', '.join(_SERVE_TIME)}"
            )
            yield (field, str(value), why)
