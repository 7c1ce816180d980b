"""Which family a config.json belongs to."""

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import cast

from lmi_artifacts.digest import JSONValue
from lmi_compile.feasibility.fields import Fields
from lmi_compile.feasibility.shape import Shape

# model_type -> module:function, imported when it is asked for.
FAMILIES = {
    "llama": "llama:llama",
    "granite": "llama:llama",
    "smollm3": "llama:smollm3",
    "mistral": "llama:mistral",
    "qwen2": "llama:qwen2",
    "qwen3": "llama:qwen3",
    "phi": "llama:phi",
    "phi3": "llama:phi3",
    "gemma": "llama:gemma",
    "gemma2": "llama:gemma2",
    "gemma3_text": "llama:gemma3",
    "olmo2": "llama:olmo2",
    "stablelm": "llama:stablelm",
    "starcoder2": "llama:starcoder2",
    "baichuan": "llama:baichuan",
    "internlm": "llama:internlm",
    "internlm2": "llama:internlm2",
    "chatglm": "llama:chatglm",
    "gpt2": "gpt:gpt2",
    "gpt_bigcode": "gpt:gpt_bigcode",
    "gptj": "gpt:gptj",
    "gpt_neox": "gpt:gpt_neox",
    "bloom": "gpt:bloom",
    "falcon": "gpt:falcon",
    "opt": "gpt:opt",
    "mixtral": "experts:mixtral",
    "qwen2_moe": "experts:qwen2_moe",
    "qwen3_moe": "experts:qwen3_moe",
    "gpt_oss": "experts:gpt_oss",
    "bert": "encoders:bert",
    "roberta": "encoders:roberta",
    "electra": "encoders:electra",
    "t5": "encoders:t5",
    "vit": "encoders:vit",
    "resnet": "encoders:resnet",
}


def shape_of(config: Mapping[str, JSONValue]) -> Shape | None:
    """The shape of the model that a config.json describes.

    Returns:
        None when its family is not known.

    Raises:
        ModelFault: the family is known and its fields are missing or absurd: every one of them.
    """
    name = config.get("model_type")
    family = _family(name) if isinstance(name, str) and name in FAMILIES else None
    if family is None:
        return None
    fields = Fields(config)
    found = family(fields)
    fields.check()
    return found


@cache
def _family(name: str) -> Callable[[Fields], Shape]:
    module, _, function = FAMILIES[name].partition(":")
    found = importlib.import_module(f"lmi_compile.feasibility.families.{module}")
    return cast("Callable[[Fields], Shape]", getattr(found, function))
