"""Smoke builds: the same architecture, small, and nothing that could be served."""

from pathlib import Path

import pytest

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import Unsupported
from lmi_compile.plan import make_plan
from lmi_compile.smoke import HEADS, LAYERS, VOCABULARY, shrunk, smoke_order
from lmi_compile.survey import load
from lmi_recipes.catalog import catalog_names

_NO_DECODER_THAT_IT_KNOWS = (
    "baichuan", "bert", "chatglm", "electra", "internlm", "null", "resnet", "roberta", "t5", "vit",
)  # fmt: skip
DECODERS = ("llama-2-70b-fp8-tp8-p5.48xlarge", "mixtral-8x7b-bfloat16-tp8-p4d.24xlarge",
            "gpt2-float16-tp1-g5.xlarge", "falcon-40b-bfloat16-tp8-p4d.24xlarge",
            "llama-2-7b-inf2-tp8", "smollm2-135m-instruct-cpu-fp8")  # fmt: skip


@pytest.mark.parametrize("name", DECODERS)
def test_any_backends_recipe_becomes_a_small_build_that_nobody_can_publish(
    name: str, tmp_path: Path
) -> None:
    order = smoke_order(load(name), tmp_path)
    assert order.toolchain.simulated
    assert order.recipe.name == f"smoke-{name}"
    assert (order.recipe.backend, order.recipe.dtype) == ("aoti", "float32")
    keys = make_plan(order).keys
    assert {"reference", "compile", "package", "candidate", "judge", "proof"} <= set(keys)


def test_recipes_of_one_architecture_share_all_but_the_name(tmp_path: Path) -> None:
    one, other = (
        make_plan(smoke_order(load(name), tmp_path)).keys
        for name in ("llama-2-7b-fp8-tp1-g6.2xlarge", "llama-2-7b-inf2-tp8")
    )
    same = {step for step in one if one[step] == other[step]}
    assert {"fetch", "model", "reference", "compile", "weights"} <= same
    assert "package" not in same


def test_proportions_stay() -> None:
    config: dict[str, JSONValue] = {
        "model_type": "llama", "num_hidden_layers": 80, "hidden_size": 8192,
        "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 28672,
        "vocab_size": 32000, "rope_theta": 10000.0,
        "quantization_config": {"quant_method": "fp8"},
    }  # fmt: skip
    small = shrunk(config)
    assert small["num_hidden_layers"] == LAYERS
    assert (small["num_attention_heads"], small["num_key_value_heads"]) == (HEADS, 1)
    assert small["intermediate_size"] == 448
    assert (small["vocab_size"], small["rope_theta"]) == (VOCABULARY, 10000.0)
    assert "quantization_config" not in small
    assert "head_dim" not in small


def test_every_catalogue_recipe_has_a_smoke_build_or_a_reason(tmp_path: Path) -> None:
    carried, refused, reasons = [], [], []
    for name in catalog_names():
        try:
            smoke_order(load(name), tmp_path)
        except Unsupported as error:
            reasons.append(error.what)
            refused.append(name)
        else:
            carried.append(name)
    assert len(carried) > 30
    assert all("no smoke build for model type" in reason for reason in reasons)
    assert all(name.startswith(_NO_DECODER_THAT_IT_KNOWS) for name in refused), refused
