"""What a recipe asks that cannot be: why, and what would fit."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lmi_compile.errors import ExitCode, exit_code_of
from lmi_compile.plan import Plan
from lmi_recipes.errors import RecipeImpossible

PlanOf = Callable[..., Plan]
SEVEN, SEVENTY = "llama-2-7b-inf2-tp2", "llama-2-70b-inf2-tp24"

REFUSED = {
    "smoothquant on inf2": (
        SEVEN,
        ["quantization.method=smoothquant"],
        "quantization.method",
        ["int8 there is weight-only storage", "int8_wo", "tensorrt-llm backend"],
    ),
    "awq": (SEVEN, ["quantization.method=awq"], "quantization.method", ["AWQ", "int8_wo"]),
    "gptq": (SEVEN, ["quantization.method=gptq"], "quantization.method", ["GPTQ", "int8_wo"]),
    "int4": (SEVEN, ["quantization.method=int4_wo"], "quantization.method", ["not int4"]),
    "FP8 with a scale per token": (
        SEVEN,
        ["quantization={method: fp8, fp8: {per_token: true}}"],
        "quantization.fp8.per_token",
        ["no scale per token"],
    ),
    "degree 3": (
        SEVEN,
        ["tensor_parallel_degree=3"],
        "tensor_parallel_degree",
        ["topology of inf2 carries 1, 2, 4, 8, 24", "the degrees are 1, 2", "ml.inf2.8xlarge"],
    ),
    "degree 24 on inf2.24xlarge": (
        SEVENTY,
        ["target.instance_type=ml.inf2.24xlarge"],
        "tensor_parallel_degree",
        ["ml.inf2.24xlarge has 12 cores", "ml.inf2.48xlarge with tensor_parallel_degree 24"],
    ),
    "a language model on inf1": (
        SEVEN,
        ["target.instance_type=ml.inf1.xlarge"],
        "target.instance_type",
        ["8 GiB for each chip", "no tensor parallelism", "ml.inf2.8xlarge"],
    ),
    "a language model with the Inf1 toolchain": (
        SEVEN,
        ["target.instance_type=ml.inf1.xlarge", "toolchain=neuron-inf1"],
        "model.id",
        ["llama is taken by", "neuron-nxdi-2.28"],
    ),
    "70B on inf2.xlarge": (
        SEVENTY,
        ["target.instance_type=ml.inf2.xlarge", "tensor_parallel_degree=2"],
        "tensor_parallel_degree",
        ["68.98 GB of weights", "17.18 GB", "ml.inf2.48xlarge with tensor_parallel_degree 24"],
    ),
    "70B at degree 8": (
        SEVENTY,
        ["tensor_parallel_degree=8"],
        "tensor_parallel_degree",
        ["17.24 GB of weights", "tensor_parallel_degree 24"],
    ),
    "7B on inf2.xlarge": (
        SEVEN,
        ["target.instance_type=ml.inf2.xlarge"],
        "target.instance_type",
        ["13.48 GB of weights pass through the host's memory", "ml.inf2.8xlarge"],
    ),
    "bfloat16 of a float16 checkpoint by optimum": (
        SEVEN,
        ["toolchain=neuron-optimum-0.4.5"],
        "dtype",
        ["float16", "does not read --torch_dtype", "torch_dtype: bfloat16", "neuron-nxdi-2.28"],
    ),
    "trn1 with degree 24": (
        SEVENTY,
        ["target.instance_type=ml.trn1.32xlarge"],
        "tensor_parallel_degree",
        ["topology of trn1 carries 1, 2, 8, 16, 32", "ml.trn1.32xlarge with"],
    ),
    "inf2 with SDK 2.33": (
        SEVEN,
        ["toolchain=neuron-vllm-2.33"],
        "target.instance_type",
        ["compiles for trn2, trn3, not for inf2"],
    ),
    "falcon": (
        SEVEN,
        ["model.config=configs/falcon-7b.json"],
        "model.id",
        ["no Neuron toolchain takes falcon"],
    ),
    "mistral by optimum": (
        "mistral-7b-inf2-tp8",
        ["toolchain=neuron-optimum-0.4.5"],
        "model.id",
        ["mistral is taken by neuron-lmi-0.30, neuron-nxdi-2.28"],
    ),
    "an encoder with a decoder's toolchain": (
        "bert-large-inf2-b1-s128",
        ["toolchain=neuron-nxdi-2.28"],
        "model.id",
        ["bert is taken by neuron-inf1, neuron-trace-2.28"],
    ),
    "a traced model on two cores": (
        "bert-large-inf2-b1-s128",
        ["tensor_parallel_degree=2"],
        "tensor_parallel_degree",
        ["runs on one core"],
    ),
    "a traced model in bfloat16": (
        "bert-large-inf2-b1-s128",
        ["dtype=bfloat16"],
        "dtype",
        ["--auto-cast"],
    ),
    "pipeline stages": (
        SEVEN,
        ["pipeline_parallel_degree=2"],
        "pipeline_parallel_degree",
        ["use 1"],
    ),
    "an int8 KV cache": (
        SEVEN,
        ["quantization.kv_cache_dtype=int8"],
        "quantization.kv_cache_dtype",
        ["auto, fp8"],
    ),
    "longer than the model's positions": (
        SEVEN,
        ["shapes.max_seq_len=8192"],
        "shapes.max_seq_len",
        ["positions end at 4096"],
    ),
    "buckets that stop short": (
        SEVEN,
        ["shapes.buckets.prefill=[128, 2048]"],
        "shapes.buckets.prefill",
        ["the last bucket must be 4096"],
    ),
    "a GPU's instance": (
        SEVEN,
        ["target.instance_type=ml.g5.2xlarge"],
        "target.instance_type",
        ["no Neuron device", "ml.inf2.8xlarge"],
    ),
    "a compiled-in knob as a serve-time one": (
        "llama-2-7b-inf2-lmi",
        ["runtime.n_positions=2048"],
        "runtime.n_positions",
        ["would compile anew"],
    ),
    "the repository's own code": (
        SEVEN,
        ["model.trust_remote_code=true"],
        "model.trust_remote_code",
        ["own code"],
    ),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_recipe_that_cannot_be_is_told_why_and_what_would_fit(plan_of: PlanOf, case: str) -> None:
    recipe, changes, field, words = REFUSED[case]
    with pytest.raises(RecipeImpossible) as caught:
        plan_of(recipe, *changes)
    assert exit_code_of(caught.value) is ExitCode.IMPOSSIBLE
    message = " ".join(
        problem.message for problem in caught.value.problems if problem.field == field
    )
    assert [word for word in words if word not in message] == [], message


def test_what_is_said_to_fit_does_fit(plan_of: PlanOf) -> None:
    with pytest.raises(RecipeImpossible) as caught:
        plan_of(SEVENTY, "target.instance_type=ml.inf2.xlarge", "tensor_parallel_degree=2")
    message = " ".join(problem.message for problem in caught.value.problems)
    offers = re.findall(r"(ml\.\S+) with tensor_parallel_degree (\d+)", message)
    assert offers
    for instance, degree in offers:
        changes = (f"target.instance_type={instance}", f"tensor_parallel_degree={degree}")
        assert plan_of(SEVENTY, *changes).steps


def test_every_problem_is_told_at_once(plan_of: PlanOf) -> None:
    with pytest.raises(RecipeImpossible) as caught:
        plan_of(SEVEN, "quantization.method=awq", "tensor_parallel_degree=3", "dtype=float32")
    fields = {problem.field for problem in caught.value.problems}
    assert {"quantization.method", "tensor_parallel_degree"} <= fields


@pytest.mark.parametrize("method", ["int8_wo", "fp8"])
def test_weight_storage_in_a_byte_is_allowed_and_makes_room(plan_of: PlanOf, method: str) -> None:
    plan = plan_of(SEVENTY, "tensor_parallel_degree=8", f"quantization.method={method}")
    compile_step = next(each.step for each in plan.steps if each.step.name == "compile")
    argv = compile_step.run.argv
    at = argv.index("--quantization-dtype")
    assert argv[at + 1] == {"int8_wo": "int8", "fp8": "f8e4m3"}[method]
    assert "per_channel_symmetric" in argv
    assert ("UNSAFE_FP8FNCAST" in compile_step.env) == (method == "fp8")


def test_group_queries_are_shared_by_the_heads_that_there_are(plan_of: PlanOf) -> None:
    def sharding(recipe: str, *changes: str) -> str | None:
        plan = plan_of(recipe, *changes)
        step = next(each.step for each in plan.steps if each.step.name == "properties")
        return step.run.params["properties"].get("option.group_query_attention")

    big = "target.instance_type=ml.inf2.48xlarge"
    assert sharding("llama-2-7b-inf2-lmi") is None
    assert sharding("mistral-7b-inf2-lmi") == "shard-over-heads"
    assert sharding("mistral-7b-inf2-lmi", big, "tensor_parallel_degree=24") == "replicated-heads"


def test_trn2_says_its_logical_cores_everywhere(plan_of: PlanOf) -> None:
    plan = plan_of("llama-3.1-8b-trn2-tp8")
    step = next(each.step for each in plan.steps if each.step.name == "compile")
    assert step.env["NEURON_LOGICAL_NC_CONFIG"] == "2"
    assert step.run.argv[step.run.argv.index("--logical-nc-config") + 1] == "2"
    inf2 = next(s.step for s in plan_of(SEVEN).steps if s.step.name == "compile")
    assert "--logical-nc-config" not in inf2.run.argv


def test_vllm_neuron_is_planned_for_trn2_without_a_device(plan_of: PlanOf) -> None:
    plan = plan_of("llama-3.1-8b-trn2-tp8", "toolchain=neuron-vllm-2.33")
    step = next(each.step for each in plan.steps if each.step.name == "compile")
    assert step.where == "toolchain"
    assert step.env["VLLM_NEURON_CPU_COMPILE"] == "1"
    assert step.env["VLLM_CACHE_ROOT"] == "{out}"


def test_no_path_of_this_machine_is_in_a_key(plan_of: PlanOf, tmp_path: Path) -> None:
    plan = plan_of(SEVENTY)
    told = str([(each.ingredients["run"], each.ingredients["env"]) for each in plan.steps])
    assert str(tmp_path) not in told
    assert str(Path(__file__).parents[4]) not in told
