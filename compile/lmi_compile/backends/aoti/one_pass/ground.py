"""What of a recipe for a one-pass model this backend carries, and the graph's inputs. Light."""

from collections.abc import Mapping

from lmi_artifacts.digest import JSONValue
from lmi_compile.backend import Order
from lmi_compile.backends.aoti.ground import buckets
from lmi_compile.errors import Unsupported
from lmi_verify.one_pass.heads import TASKS, Head, head_of

GENERATES = "text-generation"
_PICTURE = 224  # pixels a side where config.json names none: ImageNet's, as ResNet was trained
_CHANNELS = 3
# Positions of these begin after the padding token's id (transformers'
# `create_position_ids_from_input_ids`), so that a text has so many fewer.
_OFFSET = frozenset({"camembert", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"})
_TYPED = frozenset({"albert", "bert", "deberta", "deberta-v2", "electra"})


def head_for(order: Order) -> Head | None:
    """The head of the recipe's task; None for a decoder.

    Raises:
        Unsupported: This backend has no graph for the task, or what it needs is not known.
    """
    recipe = order.recipe
    if recipe.model.task == GENERATES:
        return None
    head = head_of(recipe.model.task, order.model.config or {})
    if head is None:
        what = f"the aoti backend cannot build this yet: model.task: {recipe.model.task}"
        raise Unsupported(what, fix=f"tasks that it has: {', '.join((GENERATES, *TASKS))}")
    if order.model.config is None:
        what = f"a graph for {recipe.model.task} needs the model's config.json to be planned"
        raise Unsupported(what, fix="name it in model.config")
    _check(order, head, order.model.config)
    return head


def _check(order: Order, head: Head, config: Mapping[str, JSONValue]) -> None:
    recipe, shapes = order.recipe, order.recipe.shapes
    carried: list[tuple[str, object, object]] = [
        ("dtype", recipe.dtype, "float32"),
        ("quantization.method", recipe.quantization.method, "none"),
        ("quantization.kv_cache_dtype", recipe.quantization.kv_cache_dtype, "auto"),
        ("tensor_parallel_degree", recipe.tensor_parallel_degree, 1),
        ("pipeline_parallel_degree", recipe.pipeline_parallel_degree, 1),
        ("shapes.buckets", buckets(shapes), []),
        ("verify.tasks", len(recipe.verify.tasks), 0),
    ]
    if head.reads == "text":
        carried.append(("shapes.max_seq_len", shapes.max_seq_len, shapes.max_input_len))
    wrong = [f"{name}: {found} (today: {can})" for name, found, can in carried if found != can]
    if wrong:
        what = f"the aoti backend cannot build this for {recipe.model.task} yet: {'; '.join(wrong)}"
        raise Unsupported(what, fix="use the values in brackets")
    most = positions(config)
    if head.reads == "text" and not 2 <= shapes.max_input_len <= most:  # noqa: PLR2004 - a dynamic length needs two values
        what = f"max_input_len {shapes.max_input_len} cannot be compiled for this model"
        raise Unsupported(what, fix=f"use 2 to {most}, what the model has positions for")


def architecture(order: Order, head: Head) -> dict[str, JSONValue]:
    """What decides the graph: the architecture, and of the rest what this head's shape needs."""
    config = order.model.config or {}
    kept = dict(order.model.architecture or {})
    if "pad_token_id" in config:  # where positions begin, in some families
        kept["pad_token_id"] = config["pad_token_id"]
    if head.name in {"label", "token", "picture"}:
        kept["num_labels"] = labels(config)
    return kept


def labels(config: Mapping[str, JSONValue]) -> int:
    """How many labels a classifier has; two where its config says nothing, as in transformers."""
    named = config.get("id2label")
    if isinstance(named, Mapping) and named:
        return len(named)
    found = config.get("num_labels")
    return found if isinstance(found, int) else 2


def positions(config: Mapping[str, JSONValue]) -> int:
    """The longest text, in tokens, that a text model has positions for."""
    most = config.get("max_position_embeddings")
    whole = most if isinstance(most, int) else 512
    pad = config.get("pad_token_id")
    offset = (pad if isinstance(pad, int) else 1) + 1
    return whole - offset if config.get("model_type") in _OFFSET else whole


def input_names(config: Mapping[str, JSONValue], head: Head) -> tuple[str, ...]:
    """The graph's inputs, in their order."""
    if head.reads == "image":
        return ("pixel_values",)
    typed = config.get("model_type") in _TYPED and config.get("type_vocab_size") != 0
    return ("input_ids", "attention_mask", *(("token_type_ids",) if typed else ()))


def picture_shape(config: Mapping[str, JSONValue]) -> tuple[int, int, int]:
    """Channels, height and width that the graph takes."""
    size, channels = config.get("image_size"), config.get("num_channels")
    sides = size if isinstance(size, list) else [size, size]
    height, width = (each if isinstance(each, int) else _PICTURE for each in sides)
    return (channels if isinstance(channels, int) else _CHANNELS, height, width)
