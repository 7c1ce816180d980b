"""Parameter counts are those of the real models, to the last one."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from lmi_compile.feasibility.families.find import FAMILIES as KNOWN
from lmi_compile.feasibility.families.find import shape_of

_SPEC = importlib.util.spec_from_file_location(
    "real_models", Path(__file__).parent / "real_models.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
FAMILIES: tuple[tuple[str, str, str, dict[str, Any]], ...] = _MODULE.FAMILIES
# Families whose modelling code is in their own repositories only, so there is nothing to count.
_REMOTE = {"baichuan", "internlm", "internlm2", "chatglm"}


def _real(model_type: str, kind: str, overrides: dict[str, Any]) -> tuple[dict[str, Any], int]:
    config = transformers.CONFIG_MAPPING[model_type](**overrides)
    with torch.device("meta"):
        if kind == "causal":
            model = transformers.AutoModelForCausalLM.from_config(config)
        elif kind == "seq2seq":
            model = transformers.AutoModelForSeq2SeqLM.from_config(config)
        else:
            model = getattr(transformers, kind)(config)
            config.architectures = [kind]
    return config.to_dict(), sum(one.numel() for one in model.parameters())


@pytest.mark.parametrize(
    ("model_type", "kind", "overrides"),
    [row[1:] for row in FAMILIES],
    ids=[row[0] for row in FAMILIES],
)
def test_the_count_is_the_real_models(
    model_type: str, kind: str, overrides: dict[str, Any]
) -> None:
    config, parameters = _real(model_type, kind, overrides)
    shape = shape_of(config)
    assert shape is not None
    assert shape.exact
    assert shape.parameters == parameters


def test_no_family_is_left_out() -> None:
    assert {row[1] for row in FAMILIES} | _REMOTE == set(KNOWN)


_REMOTE_AS_LLAMA: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("internlm", {"bias": False}, {}),
    ("internlm2", {"bias": False, "num_key_value_heads": 8}, {"num_key_value_heads": 8}),
    ("internlm", {"bias": True}, {"attention_bias": True}),
    ("baichuan", {}, {}),
)


@pytest.mark.parametrize(("model_type", "own", "llamas"), _REMOTE_AS_LLAMA)
def test_a_remote_family_counts_as_the_llama_of_its_layers(
    model_type: str, own: dict[str, Any], llamas: dict[str, Any]
) -> None:
    sizes = {
        "hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 4,
        "intermediate_size": 11008, "vocab_size": 103168,
    }  # fmt: skip
    _, parameters = _real("llama", "causal", sizes | llamas)
    shape = shape_of({"model_type": model_type} | sizes | own)
    assert shape is not None
    assert shape.parameters == parameters


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        # The counts that are published for them.
        ({"model_type": "baichuan", "hidden_size": 4096, "intermediate_size": 11008,
          "num_attention_heads": 32, "num_hidden_layers": 32, "vocab_size": 125696,
          "model_max_length": 4096}, 7_505_973_248),
        ({"model_type": "chatglm", "hidden_size": 4096, "ffn_hidden_size": 13696, "num_layers": 28,
          "num_attention_heads": 32, "multi_query_attention": True, "multi_query_group_num": 2,
          "kv_channels": 128, "padded_vocab_size": 65024, "add_qkv_bias": True,
          "seq_length": 32768}, 6_243_584_000),
    ],
    ids=["baichuan2-7b", "chatglm3-6b"],
)  # fmt: skip
def test_a_remote_family_counts_as_published(config: dict[str, Any], parameters: int) -> None:
    shape = shape_of(config)
    assert shape is not None
    assert shape.parameters == parameters
