"""Which checkpoints can be made on a CPU, and why the others cannot."""

from typing import Any

import pytest

from lmi_compile.quantize.cells import Cell, NoCell, cell_for
from lmi_recipes.catalog import find_recipe
from lmi_recipes.reading import read_recipe

LLAMA = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
         "num_key_value_heads": 32}  # fmt: skip


def _cell(config: dict[str, Any] | None, *overrides: str) -> Cell | NoCell:
    name = "llama-2-7b-float16-tp1-g5.2xlarge"
    return cell_for(read_recipe(find_recipe(name), overrides).recipe, config)


@pytest.mark.parametrize(
    ("quantization", "name"),
    [
        ("{method: none}", "none"),
        ("{method: fp8}", "fp8"),
        ("{method: fp8, kv_cache_dtype: fp8}", "fp8_kv_fp8"),
        ("{method: awq}", "int4_awq"),
        ("{method: smoothquant, smoothquant: {per_token: false}}", "int8_sq"),
    ],
)
def test_a_cell_that_works(quantization: str, name: str) -> None:
    found = _cell(LLAMA, f"quantization={quantization}")
    assert isinstance(found, Cell)
    assert found.format == name


@pytest.mark.parametrize(
    ("config", "overrides", "reason"),
    [
        (None, [], "not known before its weights"),
        ({**LLAMA, "model_type": "mixtral"}, [], "MixtralExperts has no len"),
        ({**LLAMA, "model_type": "falcon"}, [], "needs tensorrt_llm itself"),
        ({**LLAMA, "model_type": "mpt"}, [], "was not tried"),
        (LLAMA, ["dtype=float32"], "float16 and bfloat16 only"),
        (LLAMA, ["pipeline_parallel_degree=2"], "pipeline stages"),
        (LLAMA, ["quantization={method: int8_wo}"], "TensorRT-LLM's own tools"),
        (LLAMA, ["quantization={method: smoothquant}"], "plugin layout"),
        (LLAMA, ["quantization={method: awq, kv_cache_dtype: int8}"], "was not tried"),
        ({**LLAMA, "num_key_value_heads": 2}, ["tensor_parallel_degree=4",
         "quantization={method: smoothquant, smoothquant: {per_token: false}}"],
         "Duplicating KV heads per-channel scales is not supported"),
        ({**LLAMA, "hidden_size": 576, "intermediate_size": 1500}, ["tensor_parallel_degree=3",
         "quantization={method: awq}"], "per rank"),
    ],
)  # fmt: skip
def test_a_cell_that_does_not_says_why(
    config: dict[str, Any] | None, overrides: list[str], reason: str
) -> None:
    found = _cell(config, *overrides)
    assert isinstance(found, NoCell)
    assert reason in found.reason
