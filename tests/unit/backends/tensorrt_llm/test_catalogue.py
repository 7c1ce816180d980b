"""The catalogue's recipes: planned without network, sourced, and with arithmetic that holds."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM
from trtllm_running import trtllm_recipes

from lmi_compile.backends.tensorrt_llm.arithmetic import memory_of, parameters_of
from lmi_compile.backends.tensorrt_llm.steps import resolve
from lmi_compile.plan import Plan
from lmi_recipes.catalog import find_recipe

CONFIGS = find_recipe("null-demo").parent / "configs"
GIB = 1 << 30
# Remote code, so not in transformers: what the models' own names and papers say.
PUBLISHED = {"chatglm2-6b": 6.24e9, "baichuan2-13b": 13.9e9, "internlm-7b": 7.32e9}
SMALL = {"smollm2-135m-instruct"}
# No language models: other backends compile them.
OTHERS = {
    "bert-large-uncased",
    "electra-large-discriminator",
    "resnet-50",
    "roberta-base",
    "vit-base",
}


@pytest.mark.parametrize("name", sorted({path.stem for path in CONFIGS.glob("*.json")} - OTHERS))
def test_the_parameter_count_is_the_real_models(name: str, tmp_path: Path) -> None:
    config = json.loads((CONFIGS / f"{name}.json").read_bytes())
    counted = parameters_of(config)
    assert counted is not None
    if name in PUBLISHED:
        assert abs(counted.total / PUBLISHED[name] - 1) < 0.005
        return
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    loaded = AutoConfig.from_pretrained(tmp_path)
    kind = AutoModelForSeq2SeqLM if loaded.is_encoder_decoder else AutoModelForCausalLM
    with torch.device("meta"):
        model = kind.from_config(loaded)
    assert counted.total == sum(each.numel() for each in model.parameters())


def test_every_config_has_a_source_and_no_source_is_idle() -> None:
    named = set(re.findall(r"`([\w.-]+)\.json`", (CONFIGS / "SOURCES.md").read_text()))
    assert named == {path.stem for path in CONFIGS.glob("*.json")}


@pytest.mark.parametrize("name", trtllm_recipes())
def test_a_recipe_fits_as_its_first_lines_say(name: str, plan_of: Callable[..., Plan]) -> None:
    ask = resolve(plan_of(name).order)
    memory = memory_of(ask)
    assert memory is not None
    assert memory.fits
    text = find_recipe(name).read_text(encoding="utf-8")
    if "a rank: weights" not in text:
        return  # written with another model of memory (issue 8)
    said = re.findall(r"weights ([\d.]+), one sequence\n# of \d+ tokens ([\d.]+)", text)
    assert said == [(f"{memory.weights / GIB:.1f}", f"{memory.sequence / GIB:.2f}")]


@pytest.mark.parametrize("name", trtllm_recipes())
def test_a_plan_shows_argv_environment_and_version(name: str, plan_of: Callable[..., Plan]) -> None:
    shown = plan_of(name).to_json()
    assert shown["versions"]["tensorrt_llm"]
    foreign = [step for step in shown["steps"] if "argv" in step]
    assert {"engine", "candidate"} <= {step["name"] for step in foreign}
    assert all(isinstance(step["env"], dict) for step in foreign)
