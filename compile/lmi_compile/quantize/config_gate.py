"""Holds a checkpoint's config.json against the Hugging Face config it was made from. Light.

An engine of a checkpoint with another rotary base builds and answers nonsense, so every field
that decides the forward pass must be equal.
"""

from collections.abc import Mapping
from typing import Any

_TENSORRT_LLM_ROTARY_BASE = 10000.0  # what TensorRT-LLM takes where the checkpoint says none


def rope_of(config: Mapping[str, Any]) -> tuple[float | None, dict[str, Any] | None]:
    """The rotary base and scaling of a Hugging Face config, as transformers 4 or 5 spells them.

    Returns:
        (base, scaling); (None, None) for a model without RoPE.
    """
    if config.get("model_type") == "gpt2":
        return None, None
    nested = config.get("rope_parameters") or {}
    base = nested.get("rope_theta", config.get("rope_theta", _TENSORRT_LLM_ROTARY_BASE))
    scaling = {name: value for name, value in nested.items() if name != "rope_theta"}
    scaling = scaling or dict(config.get("rope_scaling") or {})
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    return float(base), scaling if kind != "default" else None


def config_faults(
    model: Mapping[str, Any], checkpoint: Mapping[str, Any], asked: Mapping[str, Any]
) -> list[str]:
    """What of the checkpoint is not the model's or not as asked; empty when all is right.

    Args:
        model: the Hugging Face config.json.
        checkpoint: the checkpoint's config.json.
        asked: `dtype`, `tp_size`, `quant_algo`, `kv_cache_quant_algo`.
    """
    quantization = checkpoint.get("quantization") or {}
    mapping = checkpoint.get("mapping") or {}
    base, scaling = rope_of(model)
    heads = _first(model, "num_attention_heads", "n_head")
    hidden = _first(model, "hidden_size", "n_embd")
    pairs = {
        "hidden_size": (hidden, checkpoint.get("hidden_size")),
        "num_hidden_layers": (
            _first(model, "num_hidden_layers", "n_layer"),
            checkpoint.get("num_hidden_layers"),
        ),
        "num_attention_heads": (heads, checkpoint.get("num_attention_heads")),
        "num_key_value_heads": (
            model.get("num_key_value_heads") or heads,
            checkpoint.get("num_key_value_heads"),
        ),
        "head_size": (model.get("head_dim") or hidden // heads, checkpoint.get("head_size")),
        "vocab_size": (model.get("vocab_size"), checkpoint.get("vocab_size")),
        "norm_epsilon": (
            _first(model, "rms_norm_eps", "layer_norm_epsilon"),
            checkpoint.get("norm_epsilon"),
        ),
        "dtype": (asked["dtype"], checkpoint.get("dtype")),
        "mapping.tp_size": (asked["tp_size"], mapping.get("tp_size")),
        "quantization.quant_algo": (asked["quant_algo"], quantization.get("quant_algo")),
        "quantization.kv_cache_quant_algo": (
            asked["kv_cache_quant_algo"],
            quantization.get("kv_cache_quant_algo"),
        ),
    }
    if base is not None:
        found = checkpoint.get("rotary_base", _TENSORRT_LLM_ROTARY_BASE)
        pairs["rotary_base"] = (base, found)
        pairs["rotary_scaling"] = (scaling, checkpoint.get("rotary_scaling"))
    return [
        f"{name}: the model has {right!r}, the checkpoint {found!r}"
        for name, (right, found) in pairs.items()
        if right != found
    ]


def _first(config: Mapping[str, Any], *names: str) -> Any:  # noqa: ANN401 - a value of a JSON file
    return next((config[name] for name in names if config.get(name) is not None), None)
