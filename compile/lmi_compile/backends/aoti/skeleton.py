"""A model built from its configuration alone: right buffers, weights that hold nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch  # noqa: TID253 - imported by the compile worker only
from transformers import (  # noqa: TID253 - the same
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    DynamicCache,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights  # noqa: TID253 - the same
from transformers.models.auto.modeling_auto import (  # noqa: TID253 - the same
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)

from lmi_compile.backends.aoti import attention, experts
from lmi_compile.errors import CompileError, ModelFault, Unsupported

_ROPE_TYPES = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheShape:
    """One cache tensor: `heads` key/value heads of `width` numbers per slot."""

    heads: int
    width: int


def read_config(config: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration as transformers understands it.

    Args:
        config: A Hugging Face config.json.

    Raises:
        ModelFault: It is not a configuration that transformers can read.
        Unsupported: It describes a model that these graphs cannot hold.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        what = f"config.json names no model type that transformers knows: {model_type!r}"
        raise ModelFault(what, "", "correct model_type in config.json")
    if config.get("quantization_config") is not None:
        raise _unsupported("the checkpoint is already quantised", "use its unquantised original")
    expected = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
    architectures = config.get("architectures")
    if expected is None or (architectures and expected not in architectures):
        why = f"model type {model_type}, architectures {architectures}: not a decoder LLM"
        raise _unsupported(why, "use a model for text generation")
    try:
        parsed = CONFIG_MAPPING[model_type].from_dict(dict(config))
    except Exception as error:
        what = "transformers cannot read config.json"
        raise ModelFault(what, str(error), "correct the configuration") from error
    _require_static_rope(parsed)
    return parsed


def build(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """The model on the CPU, its parameters uninitialised memory, its buffers computed.

    Raises:
        Unsupported: transformers cannot build it.
    """
    with attention.recording():  # registers the attention that the configuration will name
        experts.register()
        try:
            with no_init_weights():
                model = AutoModelForCausalLM.from_config(
                    config,
                    experts_implementation=experts.NAME,
                    attn_implementation=attention.OWN.get(config.model_type, attention.NAME),
                    dtype=dtype,
                )
            model.tie_weights()  # part of the initialisation that was left out
        except Exception as error:
            raise _unsupported(str(error), "use a model that transformers can build") from error
    return model.eval()


def cache_shapes(config: PreTrainedConfig) -> list[tuple[CacheShape, CacheShape]]:
    """What each layer stores (keys, values), seen by running the model on the meta device.

    Raises:
        Unsupported: The model cannot be run so, or does not store every layer.
    """
    cache = DynamicCache()
    try:
        with torch.device("meta"), torch.no_grad():
            model = build(config, torch.float32)
            model(
                input_ids=torch.zeros(1, 2, dtype=torch.int64),
                position_ids=torch.arange(2)[None],
                past_key_values=cache,
                use_cache=True,
            )
    except CompileError:
        raise
    except Exception as error:
        raise _unsupported(
            f"it cannot be traced without data: {error}", "use a Llama-like decoder"
        ) from error
    if not cache.layers:
        raise _unsupported("it stores no keys and values", "use a Llama-like decoder")
    return [(_shape(layer.keys), _shape(layer.values)) for layer in cache.layers]


def _shape(tensor: torch.Tensor) -> CacheShape:
    return CacheShape(heads=int(tensor.shape[1]), width=int(tensor.shape[3]))


def _require_static_rope(config: PreTrainedConfig) -> None:
    """Refuses rotary frequencies that change with the text's length.

    `dynamic` ones change beyond max_position_embeddings only (arXiv 2306.15595's NTK-aware form in
    transformers' `_compute_dynamic_ntk_parameters`), and no graph is compiled for longer texts:
    they are the default ones.
    """
    parameters = getattr(config, "rope_parameters", None) or {}
    groups = [value for value in parameters.values() if isinstance(value, dict)] or [parameters]
    for group in groups:
        kind = group.get("rope_type", "default")
        if kind == "dynamic":
            group["rope_type"] = "default"
        elif kind not in _ROPE_TYPES:
            raise _unsupported(
                f"rotary embedding {kind!r} changes its frequencies with the text's length",
                f"use one of {', '.join(_ROPE_TYPES)}, dynamic",
            )


def _unsupported(why: str, fix: str) -> Unsupported:
    return Unsupported("the aoti backend cannot compile this model", why, fix)
