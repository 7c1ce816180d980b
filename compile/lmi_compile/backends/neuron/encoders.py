"""Parameters and example inputs of the models that are traced: encoders and vision models."""

from collections.abc import Mapping

from lmi_artifacts.digest import JSONValue

VISION = frozenset({"resnet", "vit"})
_BERT_LIKE = frozenset({"albert", "bert", "distilbert", "electra", "roberta"})
# Model types whose forward takes token_type_ids, in transformers 4.57 and 5.23.
_WITH_TYPES = frozenset({"albert", "bert", "electra"})


def input_shapes(
    config: Mapping[str, JSONValue], *, batch: int, length: int
) -> list[dict[str, JSONValue]]:
    """Name, shape and dtype of every input, in the order in which the model takes them."""
    model_type = str(config.get("model_type"))
    if model_type in VISION:
        size = _number(config, "image_size", 224)
        shape: list[JSONValue] = [batch, _number(config, "num_channels", 3), size, size]
        return [{"name": "pixel_values", "shape": shape, "dtype": "float32"}]
    names = ["input_ids", "attention_mask"]
    names += ["token_type_ids"] if model_type in _WITH_TYPES else []
    return [{"name": name, "shape": [batch, length], "dtype": "int64"} for name in names]


def parameter_estimate(config: Mapping[str, JSONValue]) -> int:
    """Parameters without the task's head; layers, embeddings and, for ResNet, convolutions."""
    model_type = str(config.get("model_type"))
    if model_type == "resnet":
        return _resnet(config)
    hidden = _number(config, "hidden_size", _number(config, "dim", 768))
    inner = _number(config, "intermediate_size", _number(config, "hidden_dim", 4 * hidden))
    layers = _number(config, "num_hidden_layers", _number(config, "n_layers", 12))
    layer = 4 * (hidden * hidden + hidden) + 2 * hidden * inner + hidden + inner + 4 * hidden
    if model_type == "albert":
        layers = 1
    width = _number(config, "embedding_size", hidden)
    rows = _number(config, "vocab_size", 0) + _number(config, "max_position_embeddings", 0)
    rows += _number(config, "type_vocab_size", 0)
    return layers * layer + rows * width + 2 * width


def is_text(config: Mapping[str, JSONValue]) -> bool:
    """Whether the model reads tokens."""
    return config.get("model_type") in _BERT_LIKE


def _resnet(config: Mapping[str, JSONValue]) -> int:
    sizes, depths = config.get("hidden_sizes"), config.get("depths")
    if not isinstance(sizes, list) or not isinstance(depths, list):
        return 0
    inside = _number(config, "embedding_size", 64)
    total = _number(config, "num_channels", 3) * inside * 49 + 2 * inside
    for size, depth in zip(map(_whole, sizes), map(_whole, depths), strict=True):
        reduced = size // 4
        shortcut = inside * size + 2 * size
        first = inside * reduced + reduced * reduced * 9 + reduced * size
        later = size * reduced + reduced * reduced * 9 + reduced * size
        norms = 2 * (2 * reduced + size)
        total += shortcut + first + norms + (depth - 1) * (later + norms)
        inside = size
    return total


def _whole(value: JSONValue) -> int:
    return value if isinstance(value, int) else 0


def _number(config: Mapping[str, JSONValue], name: str, default: int) -> int:
    found = config.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) else default
