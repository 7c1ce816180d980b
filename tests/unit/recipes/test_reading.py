import dataclasses
import json
from pathlib import Path

import pytest
from minimal import MINIMAL

from lmi_recipes.reading import LoadedRecipe, parse_recipe, read_recipe

HERE = Path(__file__).parent


def load(text: str, *overrides: str) -> LoadedRecipe:
    return parse_recipe(text.encode(), Path("recipe.yaml"), overrides)


def test_a_minimal_recipe_is_resolved_to_every_field() -> None:
    recipe = load(MINIMAL).recipe
    assert recipe.to_json() == {
        "apiVersion": "lmi-compile/v1",
        "name": "small",
        "description": "",
        "model": {
            "id": "org/model",
            "revision": None,
            "task": "text-generation",
            "trust_remote_code": False,
            "sha256": None,
            "config": None,
            "accept_license": None,
        },
        "backend": "aoti",
        "toolchain": "aoti-torch-2.13",
        "target": {"instance_type": None, "cpu": "x86-64-v3"},
        "tensor_parallel_degree": 1,
        "pipeline_parallel_degree": 1,
        "dtype": "float32",
        "quantization": {
            "method": "none",
            "kv_cache_dtype": "auto",
            "smoothquant": None,
            "fp8": None,
            "calibration": None,
        },
        "shapes": {
            "max_batch_size": 1,
            "max_input_len": 2047,
            "max_seq_len": 2048,
            "max_num_tokens": None,
            "buckets": {"prefill": [], "decode": []},
        },
        "runtime": {},
        "verify": {"prompts": "v2", "gates": {}, "tasks": []},
        "package": {"layouts": ["prefix"]},
        "publish": {"registry": None, "tags": []},
        "matrix": {},
        "imports": [],
    }


@pytest.mark.parametrize(
    ("knobs", "calibrates"),
    [("{}", True), ("{per_token: true}", False), ("{per_token: true}, kv_cache_dtype: fp8", True)],
)
def test_fp8_calibrates_what_is_fixed_before_a_token_is_there(
    knobs: str, *, calibrates: bool
) -> None:
    recipe = load(MINIMAL + f"quantization: {{method: fp8, fp8: {knobs}}}\n").recipe
    assert recipe.quantization.fp8 is not None
    assert recipe.quantization.fp8.per_token is ("true" in knobs)
    assert (recipe.quantization.calibration is not None) is calibrates


def test_a_recipe_of_a_backend_that_is_not_built_yet_reads_whole() -> None:
    loaded = read_recipe(HERE / "llama-2-70b.yaml")
    recipe = loaded.recipe
    assert loaded.notes == ()
    assert recipe.backend == "tensorrt-llm"
    assert recipe.quantization.smoothquant is not None
    assert recipe.quantization.smoothquant.alpha == 0.5
    assert recipe.shapes.max_num_tokens == 8192
    assert recipe.runtime == {
        "kv_cache_free_gpu_mem_fraction": 0.9,
        "enable_kv_cache_reuse": True,
    }
    assert recipe.verify.tasks[0].name == "mmlu"
    assert recipe.matrix == {"tensor_parallel_degree": (4, 8)}


def test_a_resolved_recipe_reads_back_as_itself(tmp_path: Path) -> None:
    recipe = read_recipe(HERE / "llama-2-70b.yaml").recipe
    again = tmp_path / "resolved.yaml"
    again.write_text(json.dumps(recipe.to_json()))
    assert read_recipe(again).recipe == recipe


def test_a_recipe_is_frozen() -> None:
    recipe = load(MINIMAL).recipe
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("task", "longest"), [("text-generation", 511), ("feature-extraction", 512)]
)
def test_the_prompt_limit_follows_from_the_total(task: str, longest: int) -> None:
    text = MINIMAL.replace("org/model", f"org/model, task: {task}") + "shapes: {max_seq_len: 512}"
    assert load(text).recipe.shapes.max_input_len == longest


def test_a_method_that_calibrates_gets_its_defaults() -> None:
    quantization = load(MINIMAL + "quantization: {method: smoothquant}").recipe.quantization
    assert quantization.smoothquant is not None
    assert quantization.smoothquant.alpha == 0.5
    assert quantization.calibration is not None
    assert quantization.calibration.num_samples == 512
    assert load(MINIMAL + "quantization: {method: int8_wo}").recipe.quantization.calibration is None


@pytest.mark.parametrize("word", ["null", '"null"', "'null'"])
def test_the_null_backend_may_be_written_bare(word: str) -> None:
    text = MINIMAL.replace("aoti-torch-2.13", word).replace("backend: aoti", f"backend: {word}")
    loaded = load(text)
    assert (loaded.recipe.backend, loaded.recipe.toolchain) == ("null", "null")
    assert loaded.notes == ()


def test_an_empty_section_is_its_defaults() -> None:
    loaded = load(MINIMAL + "shapes:\n  # max_batch_size: 8\nruntime:\nmatrix: ~\n")
    assert loaded.recipe == load(MINIMAL).recipe


def test_a_whole_number_may_stand_for_a_number_and_stays_exact() -> None:
    text = MINIMAL + "verify: {gates: {kl: 1, top1: 0.25}}\nruntime: {a: 1, b: 1.5, c: '1'}"
    recipe = load(text).recipe
    assert recipe.verify.gates == {"kl": 1.0, "top1": 0.25}
    assert recipe.runtime == {"a": 1, "b": 1.5, "c": "1"}
    assert [type(value) for value in recipe.runtime.values()] == [int, float, str]


def test_a_byte_order_mark_is_no_part_of_the_recipe() -> None:
    raw = b"\xef\xbb\xbf" + MINIMAL.encode()
    assert parse_recipe(raw, Path("recipe.yaml")).recipe.name == "small"


def test_paths_are_beside_the_recipe(tmp_path: Path) -> None:
    loaded = parse_recipe(MINIMAL.encode(), tmp_path / "recipe.yaml")
    assert loaded.beside("configs/a.json") == tmp_path / "configs" / "a.json"
