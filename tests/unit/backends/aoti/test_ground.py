"""What a recipe may ask of this backend, and what decides which key."""

from pathlib import Path

import pytest

from lmi_compile.errors import CompileError, Unsupported, exit_code_of
from lmi_compile.plan import Plan, make_plan
from lmi_compile.survey import load, survey

CATALOG = "smollm2-135m-instruct-cpu"


def _plan(tmp_path: Path, name: str, *overrides: str) -> Plan:
    return make_plan(survey(load(name, overrides), tmp_path))


def _keys(plan: Plan) -> dict[str, str]:
    return {planned.step.name: planned.key for planned in plan.steps}


@pytest.mark.parametrize(
    ("name", "calibrates"),
    [
        ("", False),
        ("-bfloat16", False),
        ("-int8", False),
        ("-int4", False),
        ("-fp8", True),
        ("-fp8-kv", True),
        ("-smoothquant", True),
        ("-smoothquant-static", True),
        ("-tp3", False),
    ],
)
def test_the_catalogue_plans(tmp_path: Path, name: str, *, calibrates: bool) -> None:
    keys = _keys(_plan(tmp_path, CATALOG + name))
    assert ("calibrate" in keys) is calibrates


def test_a_text_that_cannot_be_used_shows_before_the_long_step(tmp_path: Path) -> None:
    steps = list(_keys(_plan(tmp_path, f"{CATALOG}-smoothquant")))
    assert steps.index("calibrate") < steps.index("compile")


def test_only_what_changes_the_graphs_compiles_anew(tmp_path: Path) -> None:
    base = _keys(_plan(tmp_path, f"{CATALOG}-smoothquant"))
    for change, anew in (
        ("quantization.smoothquant.alpha=0.8", {"weights"}),
        ("quantization.calibration.seed=7", {"calibrate", "weights"}),
        ("quantization.smoothquant.per_token=false", {"compile", "weights"}),
        ("shapes.max_batch_size=4", {"compile", "weights"}),
    ):
        keys = _keys(_plan(tmp_path, f"{CATALOG}-smoothquant", change))
        watched = ("fetch", "model", "reference", "calibrate", "compile", "weights")
        assert {step for step in watched if keys[step] != base[step]} == anew, change


def test_the_degree_is_in_the_keys_of_what_is_split_and_not_in_the_references(
    tmp_path: Path,
) -> None:
    whole, split = _keys(_plan(tmp_path, CATALOG)), _keys(_plan(tmp_path, f"{CATALOG}-tp3"))
    same = {step for step in whole if whole[step] == split[step]}
    assert same == {"fetch", "model", "reference"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (("dtype=float16",), "dtype: float16"),
        (("quantization.method=awq",), "quantization.method: awq"),
        (("quantization.method=int8_wo", "dtype=bfloat16"), "dtype: bfloat16"),
        (("quantization.method=int4_wo", "quantization.kv_cache_dtype=fp8"), "kv_cache_dtype: fp8"),
        (("quantization.kv_cache_dtype=fp8",), "kv_cache_dtype: fp8"),
        (("tensor_parallel_degree=2",), "2 does not divide this model, which 1 or 3 would"),
        (
            ("tensor_parallel_degree=3", "quantization.method=int8_wo"),
            "tensor_parallel_degree: 3",
        ),
        (("quantization.method=smoothquant",), "not a file: abisee/cnn_dailymail"),
    ],
)
def test_the_rest_is_refused_by_name(tmp_path: Path, changes: tuple[str, ...], says: str) -> None:
    with pytest.raises(Unsupported, match=says) as caught:
        _plan(tmp_path, CATALOG, *changes)
    assert exit_code_of(caught.value) == 3


def test_missing_calibration_data_is_named(tmp_path: Path) -> None:
    change = "quantization.calibration.dataset=texts/nothing.txt"
    with pytest.raises(CompileError, match=r"not a file: texts/nothing\.txt") as caught:
        _plan(tmp_path, f"{CATALOG}-smoothquant", change)
    assert exit_code_of(caught.value) == 3


def test_fp8_with_a_scale_per_token_has_graphs_of_its_own_and_no_calibration(
    tmp_path: Path,
) -> None:
    static = _plan(tmp_path, f"{CATALOG}-fp8")
    token = _plan(tmp_path, f"{CATALOG}-fp8", "quantization.fp8.per_token=true")
    assert _keys(token)["compile"] != _keys(static)["compile"]
    assert "calibrate" not in _keys(token)


def test_whoever_plans_fp8_reads_that_it_is_slower(tmp_path: Path) -> None:
    (note,) = _plan(tmp_path, f"{CATALOG}-fp8").notes
    assert "slower than float32" in note
    assert _plan(tmp_path, f"{CATALOG}-int8").notes == ()


def test_a_plain_scale_per_row_is_the_only_one(tmp_path: Path) -> None:
    change = "quantization.smoothquant.per_channel=false"
    with pytest.raises(Unsupported, match="per_channel: False"):
        _plan(tmp_path, f"{CATALOG}-smoothquant", change)


ONE_PASS = (
    "bert-large-cpu",
    "electra-large-cpu",
    "roberta-base-cpu",
    "resnet-50-cpu",
    "vit-base-cpu",
)


@pytest.mark.parametrize("name", ONE_PASS)
def test_one_pass_recipes_plan_and_fine_tunes_share_their_graph(tmp_path: Path, name: str) -> None:
    base = _keys(_plan(tmp_path, name))
    other = _keys(_plan(tmp_path, name, "model.revision=" + "a" * 40))
    assert {step for step in base if base[step] == other[step]} == {"compile"}


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("bert-large-cpu", "dtype=bfloat16", "dtype: bfloat16 (today: float32)"),
        ("bert-large-cpu", "quantization.method=int8_wo", "quantization.method: int8_wo"),
        ("bert-large-cpu", "tensor_parallel_degree=2", "tensor_parallel_degree: 2 (today: 1)"),
        ("bert-large-cpu", "shapes.max_seq_len=513", "shapes.max_seq_len: 513 (today: 512)"),
        ("roberta-base-cpu", "shapes={max_input_len: 514, max_seq_len: 514}", "use 2 to 512"),
        ("bert-large-cpu", "model.task=question-answering", "model.task: question-answering"),
        (
            "bert-large-cpu",
            "shapes.buckets.prefill=[128, 512]",
            "shapes.buckets: [128, 512] (today: [])",
        ),
        (CATALOG, "shapes.buckets.prefill=[128, 384]", "shapes.buckets: [128, 384] (today: [])"),
    ],
)
def test_what_a_graph_cannot_be_is_refused_by_name(
    tmp_path: Path, name: str, change: str, words: str
) -> None:
    with pytest.raises(CompileError) as caught:
        _plan(tmp_path, name, change)
    assert words in f"{caught.value} {caught.value.fix}"
    assert exit_code_of(caught.value) == 3
