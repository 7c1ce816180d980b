"""What is refused before anything runs, with the reason and the nearest legal choice."""

from collections.abc import Callable

import pytest

from lmi_compile.errors import Unsupported
from lmi_compile.plan import Plan
from lmi_compile.step import Argv
from lmi_recipes.errors import RecipeImpossible

LLAMA = "llama-2-7b-smoothquant-tp1-g5.2xlarge"
PLAIN = "llama-2-7b-float16-tp1-g5.2xlarge"
P4D = "llama-2-70b-smoothquant-tp8-p4d.24xlarge"
STATIC = "llama-2-7b-smoothquant-static-tp1-g5.12xlarge"

REFUSED = [
    (PLAIN, ["quantization={method: fp8}"], "needs SM 89", "smoothquant"),
    (LLAMA, ["quantization.kv_cache_dtype=fp8"], "FP8 KV cache needs SM 89", "int8"),
    (LLAMA, ["quantization.smoothquant.per_token=false"], "no way to set its alpha", "true"),
    (LLAMA, ["quantization.smoothquant.per_channel=false"], "MMLU 54.5 to 29.4", "true"),
    (LLAMA, ["tensor_parallel_degree=4"], "4 ranks, but ml.g5.2xlarge has 1 GPUs", "1"),
    (LLAMA, ["shapes.max_seq_len=8192"], "4096 positions and no RoPE scaling", "4096"),
    (LLAMA, ["shapes.max_num_tokens=1024"], "does not fit one step without chunked", "3072"),
    (PLAIN, ["model.config=configs/llama-2-13b.json"], "A10G has", None),
    (PLAIN, ["quantization={method: fp8, fp8: {per_token: true}}"], "by calibration", "false"),
    (PLAIN, ["quantization={method: gptq}"], "needs a model that GPTQ has quantised", "awq"),
    (LLAMA, ["model.task=fill-mask"], "engines generate text", "text-generation"),
    (P4D, ["tensor_parallel_degree=6"], "does not divide the model's 64 attention heads", "4"),
    ("mixtral-8x7b-bfloat16-tp8-p4d.24xlarge", ["dtype=float16",
     "quantization={method: smoothquant}"], "no smoothquant for mixtral", "fp8"),
    ("mixtral-8x7b-bfloat16-tp8-p4d.24xlarge", ["quantization={method: awq}"],
     "no awq for mixtral", "fp8"),
    ("gpt-j-6b-float16-tp1-g5.2xlarge", ["quantization={method: smoothquant}"],
     "has no --smoothquant", None),
    ("falcon-7b-bfloat16-tp1-g5.2xlarge", ["toolchain=trtllm-lmi-0.30", "tensor_parallel_degree=2",
     "target={instance_type: ml.g5.12xlarge}"], "71 attention heads", "1"),
    ("internlm-7b-float16-tp1-g5.2xlarge", ["toolchain=trtllm-1.2.1"],
     "does not have this family", "trtllm-lmi-0.30"),
    ("t5-small-float32-tp1-g5.xlarge", ["toolchain=trtllm-lmi-0.33"],
     "no encoder-decoder models", "trtllm-lmi-0.30"),
    (STATIC, ["runtime={kv_cache_free_gpu_mem_fraction: 0.9}"], "no serving.properties", None),
]  # fmt: skip


@pytest.mark.parametrize(("recipe", "overrides", "why", "nearest"), REFUSED)
def test_an_impossible_recipe_says_why_and_what_is_nearest(
    recipe: str,
    overrides: list[str],
    why: str,
    nearest: str | None,
    plan_of: Callable[..., Plan],
) -> None:
    with pytest.raises(RecipeImpossible) as refused:
        plan_of(recipe, *overrides)
    found = [problem for problem in refused.value.problems if why in problem.message]
    assert found, str(refused.value)
    if nearest is not None:
        assert found[0].nearest == nearest


def test_engines_of_1_3_are_refused_by_name_with_the_way_out(plan_of: Callable[..., Plan]) -> None:
    with pytest.raises(Unsupported) as refused:
        plan_of(LLAMA, "toolchain=trtllm-1.3")
    assert "builds no engines" in refused.value.what
    assert "hf_ptq.py" in refused.value.fix


@pytest.mark.parametrize("target", ["instance_type=ml.g5.3xlarge", "instance_type=ml.inf2.xlarge"])
def test_a_target_without_these_gpus_is_refused(target: str, plan_of: Callable[..., Plan]) -> None:
    with pytest.raises(Unsupported) as refused:
        plan_of(LLAMA, f"target.{target}")
    assert "ml.g5" in refused.value.fix


def test_a_known_trap_has_its_flag(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of(STATIC, "quantization.kv_cache_dtype=int8")
    argv = _argv(plan, "engine")
    assert argv[argv.index("--use_paged_context_fmha") + 1] == "disable"
    argv = _argv(plan_of(STATIC), "engine")
    assert argv[argv.index("--use_paged_context_fmha") + 1] == "enable"
    assert argv[argv.index("--use_fp8_context_fmha") + 1] == "disable"
    for limit in ("max_batch_size", "max_input_len", "max_seq_len", "max_num_tokens"):
        assert f"--{limit}" in argv
    fp8 = _argv(plan_of("llama-2-70b-fp8-tp8-p5.48xlarge"), "engine")
    assert fp8[fp8.index("--use_fp8_context_fmha") + 1] == "enable"
    assert fp8[fp8.index("--workers") + 1] == "8"


def test_lmi_033_is_told_its_own_words_and_no_bare_flag(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of(P4D)
    given = {
        planned.step.name: planned.step.run.params["properties"]
        for planned in plan.steps
        if planned.step.name.endswith("-properties")
    }
    serving = given["engine-properties"]
    assert serving["option.quant_algo"] == "W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN"
    assert serving["option.smoothquant_val"] == "0.5"
    assert not {"option.quantize", "option.gather_context_logits"} & set(serving)
    assert given["logits-engine-properties"]["option.gather_context_logits"] == "true"


def test_the_plugin_route_has_no_checkpoint_on_a_cpu_and_says_why(
    plan_of: Callable[..., Plan],
) -> None:
    plan = plan_of(P4D)
    assert "checkpoint" not in plan.keys
    assert "TensorRT-LLM plugin layout" in plan.skipped["checkpoint"]
    static = plan_of(STATIC)
    assert "checkpoint-judge" in static.keys
    assert static.skipped == {}
    assert "{in:checkpoint}" in _argv(static, "engine")


def test_a_key_changes_with_the_toolchain_and_not_with_runtime(
    plan_of: Callable[..., Plan],
) -> None:
    name = "phi-2-float16-tp1-g5.xlarge"
    base = plan_of(name)
    assert plan_of(name, "toolchain=trtllm-lmi-0.32").keys["engine"] != base.keys["engine"]
    knob = plan_of(name, "runtime={kv_cache_free_gpu_mem_fraction: 0.9}")
    assert knob.keys["engine"] == base.keys["engine"]
    assert knob.keys["package"] != base.keys["package"]


def _argv(plan: Plan, name: str) -> tuple[str, ...]:
    for planned in plan.steps:
        if planned.step.name == name:
            assert isinstance(planned.step.run, Argv)
            return planned.step.run.argv
    raise KeyError(name)
