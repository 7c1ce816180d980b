from pathlib import Path

import pytest
from minimal import MINIMAL

from lmi_recipes import aliases
from lmi_recipes.errors import RecipeInvalid
from lmi_recipes.model import Recipe
from lmi_recipes.reading import LoadedRecipe, parse_recipe
from lmi_recipes.rules import field_paths


def load(text: str) -> LoadedRecipe:
    return parse_recipe(text.encode(), Path("r.yaml"))


def value_at(recipe: Recipe, path: str) -> object:
    value: object = recipe
    for part in path.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize(
    ("alias", "field", "value"),
    [
        ("tp_size", "tensor_parallel_degree", 4),
        ("tensor_parallel_size", "tensor_parallel_degree", 4),
        ("tp_degree", "tensor_parallel_degree", 4),
        ("tp", "tensor_parallel_degree", 4),
        ("pp_size", "pipeline_parallel_degree", 2),
        ("pipeline_parallel_size", "pipeline_parallel_degree", 2),
        ("max_model_len", "shapes.max_seq_len", 99),
        ("max_seq_length", "shapes.max_seq_len", 99),
        ("n_positions", "shapes.max_seq_len", 99),
        ("shapes.max_model_len", "shapes.max_seq_len", 99),
        ("max_batch_size", "shapes.max_batch_size", 3),
        ("max_rolling_batch_size", "shapes.max_batch_size", 3),
        ("max_num_seqs", "shapes.max_batch_size", 3),
        ("shapes.max_num_seqs", "shapes.max_batch_size", 3),
        ("max_num_batched_tokens", "shapes.max_num_tokens", 9),
        ("torch_dtype", "dtype", "bfloat16"),
        ("quantize", "quantization.method", "smoothquant"),
        ("kv_cache_dtype", "quantization.kv_cache_dtype", "fp8"),
        ("calib_size", "quantization.calibration.num_samples", 7),
        ("quantization.calib_size", "quantization.calibration.num_samples", 7),
        ("revision", "model.revision", "abc"),
    ],
)
def test_an_alias_is_read_as_our_field_and_noted_once(
    alias: str, field: str, value: object
) -> None:
    section, _, word = alias.rpartition(".")
    line = f"{section}: {{{word}: {value}}}" if section else f"{word}: {value}"
    loaded = load(MINIMAL + line)
    assert value_at(loaded.recipe, field) == value
    assert loaded.notes == (f"{alias} is read as {field}",)


@pytest.mark.parametrize(
    "lines",
    [
        "smoothquant_alpha: 0.8\nquantize: sq",
        "quantize: sq\nsmoothquant_alpha: 0.8",
        "quantization: {method: smoothquant}\nsmoothquant_alpha: 0.8",
        "quantization: smoothquant\nsmooth_quant: {alpha: 0.8}",
        "quantization: {method: smoothquant, smoothquant: {smoothquant_val: 0.8}}",
    ],
)
def test_what_is_said_in_several_places_comes_together(lines: str) -> None:
    quantization = load(MINIMAL + lines).recipe.quantization
    assert quantization.smoothquant is not None
    assert (quantization.method, quantization.smoothquant.alpha) == ("smoothquant", 0.8)


def test_a_whole_section_may_stand_outside_its_own() -> None:
    loaded = load(MINIMAL + "buckets: {prefill: [8], decode: [1, 2]}\nmax_batch_size: 2")
    assert loaded.recipe.shapes.buckets.decode == (1, 2)
    assert "buckets is read as shapes.buckets" in loaded.notes


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("fp16", "float16"),
        ("half", "float16"),
        ("bf16", "bfloat16"),
        ("BF16", "bfloat16"),
        ("torch.bfloat16", "bfloat16"),
        ("fp32", "float32"),
        ("float", "float32"),
    ],
)
def test_types_have_many_names(word: str, meant: str) -> None:
    loaded = load(MINIMAL + f"dtype: {word}")
    assert loaded.recipe.dtype == meant
    assert loaded.notes == (f"dtype: {word} is read as {meant}",)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("smooth_quant", "smoothquant"),
        ("w8a8", "smoothquant"),
        ("int8_weight_only", "int8_wo"),
        ("int8-weight-only", "int8_wo"),
        ("int4_weight_only", "int4_wo"),
        ("int4_awq", "awq"),
        ("fp8", "fp8"),
        ("none", "none"),
    ],
)
def test_quantisation_may_be_one_plain_word(word: str, meant: str) -> None:
    loaded = load(MINIMAL + f"quantization: {word}")
    assert loaded.recipe.quantization.method == meant
    assert loaded.notes[0] == "quantization, given as text, is read as quantization.method"
    assert len(loaded.notes) == (1 if word == meant else 2)


@pytest.mark.parametrize(
    ("line", "model", "revision"),
    [
        ("model: org/other", "org/other", None),
        ("model_id: org/other", "org/other", None),
        ("model: org/other\nrevision: abc", "org/other", "abc"),
        ("model: {model_id: org/other}", "org/other", None),
    ],
)
def test_a_model_may_be_one_plain_word(line: str, model: str, revision: str | None) -> None:
    loaded = load(MINIMAL.replace("model: {id: org/model}", line))
    assert (loaded.recipe.model.id, loaded.recipe.model.revision) == (model, revision)


@pytest.mark.parametrize(
    ("word", "cpu", "instance"),
    [("x86-64-v2", "x86-64-v2", None), ("ml.p5.48xlarge", None, "ml.p5.48xlarge")],
)
def test_a_target_may_be_one_plain_word(word: str, cpu: str | None, instance: str | None) -> None:
    target = load(MINIMAL.replace("{cpu: x86-64-v3}", word)).recipe.target
    assert (target.cpu, target.instance_type) == (cpu, instance)


def test_backends_and_layouts_have_other_names() -> None:
    text = MINIMAL.replace("backend: aoti", "backend: trtllm")
    loaded = load(text + "package: {layouts: [tgz, s3-prefix]}")
    assert loaded.recipe.backend == "tensorrt-llm"
    assert loaded.recipe.package.layouts == ("tar.gz", "prefix")


def test_an_alias_beside_the_same_value_is_fine() -> None:
    loaded = load(MINIMAL + "tp_size: 4\ntensor_parallel_degree: 4\ntorch_dtype: fp16\ndtype: half")
    assert loaded.recipe.tensor_parallel_degree == 4
    assert loaded.recipe.dtype == "float16"


def test_an_alias_beside_another_value_is_a_problem_at_the_alias() -> None:
    with pytest.raises(RecipeInvalid) as caught:
        load(
            MINIMAL + "tensor_parallel_degree: 8\ntp_size: 4\nshapes:\n  max_num_seqs: 2\n"
            "  max_batch_size: 3\n"
        )
    assert [str(problem) for problem in caught.value.problems] == [
        "r.yaml:8:1: tp_size: means tensor_parallel_degree, which is 8 on line 7 (got 4)",
        (
            "r.yaml:10:3: shapes.max_num_seqs: means shapes.max_batch_size, which is 3 on line 11"
            " (got 2)"
        ),
    ]


def test_a_wrong_value_under_an_alias_is_told_where_it_stands() -> None:
    with pytest.raises(RecipeInvalid) as caught:
        load(MINIMAL + "shapes:\n  max_batch_size: 1\nmax_model_len: '8'\n")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column, problem.field) == (9, 16, "shapes.max_seq_len")


def test_every_alias_means_a_field_that_exists_and_shadows_none() -> None:
    sections = {"quantization", "shapes.buckets", "quantization.smoothquant"}
    known = {*field_paths(Recipe), *sections, "quantization.calibration"}
    for section, words in aliases._ALIASES.items():
        for word, field in words.items():
            assert ".".join(map(str, field)) in known
            assert ".".join(map(str, (*section, word))) not in known
