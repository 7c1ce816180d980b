"""Every command line of the catalogue against the simulators; every mutant of one refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
from trtllm_running import (
    MACHINES,
    Bench,
    foreign_steps,
    machine_for,
    trtllm_recipes,
    write_calibration,
)
from trtllm_simulator.parsers import table

from lmi_compile.plan import Plan

# What may be left out because the tool's own default is the same, or because another flag decides.
LEGAL_TO_DROP = {
    "--gpt_attention_plugin": "default auto",
    "--gemm_plugin": "the engine is built without it, slower",
    "--remove_input_padding": "default enable",
    "--kv_cache_type": "the builder's default is paged",
    "--paged_kv_cache": "default enable",
    "--use_paged_context_fmha": "a default, of another sense in 0.12 and 0.20; a rule sets it",
    "--use_fp8_context_fmha": "a default, of another sense in 0.12 and 0.20; a rule sets it",
    "--max_beam_width": "default 1",
    "--max_batch_size": "a default; the package step compares the engine with the plan",
    "--max_input_len": "a default; the package step compares the engine with the plan",
    "--max_seq_len": "the model's own; the package step compares the engine with the plan",
    "--max_num_tokens": "a default; the package step compares the engine with the plan",
    "--workers": "default 1",
    "--moe_plugin": "default auto",
    "--gather_context_logits": "an engine without logits, which the probe then refuses",
    "--gather_generation_logits": "an engine without logits, which the probe then refuses",
    "--output_dir": "a default directory; the executor then misses the outputs",
    "--dtype": "a default; the engine's config says which",
    "--tp_size": "default 1; the package step compares the engine with the plan",
    "--pp_size": "default 1",
    "--world-size": "default 1; the package step compares the engine with the plan",
    "--smoothquant": "unquantised; the package step compares the engine with the plan",
    "--per_token": "another QuantAlgo; the package step compares it with the plan",
    "--per_channel": "another QuantAlgo; the package step compares it with the plan",
    "--calib_size": "default 512",
    "--calib_max_seq_length": "default 512",
    "--seed": "default 1234",
    "--qformat": "default full_prec; the package step compares the engine with the plan",
    "--kv_cache_dtype": "default None; the package step compares the engine with the plan",
    "--gpt_variant": "inferred from the model",
    "--moe_tp_size": "default -1: tp_size",
    "--moe_ep_size": "default -1: 1",
    "--ckpt-type": "no default, and the real script fails later; the stand-in does not know how",
    "--model_version": "default v1_13b: another model's layout",
}
# Values that are any text to the real parser.
FREE_TEXT = {
    "--output_dir": "any path",
    "--output-model-dir": "any path",
    "--trt_llm_model_repo": "any path",
    "--properties_dir": "a directory without properties is an empty set of them",
    "--dtype": "free text where the script lists no choices",
}


@pytest.fixture
def bench(
    plan_of: Callable[..., Plan], hf_model: Callable[[str], Path], tmp_path: Path
) -> Callable[[str], tuple[Bench, list[tuple[str, tuple[str, ...]]]]]:
    def make(recipe: str) -> tuple[Bench, list[tuple[str, tuple[str, ...]]]]:
        plan = plan_of(recipe)
        config = str(plan.order.recipe.model.config).removeprefix("configs/")
        places = {
            "model": hf_model(config),
            "calibration": write_calibration(tmp_path / "calibration"),
        }
        made = Bench(root=tmp_path, machine=machine_for(plan, MACHINES), places=places)
        steps = foreign_steps(plan, made)
        if "checkpoint" in {planned.step.name for planned in plan.steps}:
            made.places["checkpoint"] = _checkpoint(plan, made)
        return made, steps

    return make


def _checkpoint(plan: Plan, bench: Bench) -> Path:
    """A stand-in for what modelopt makes, written by the simulated quantize.py."""
    out = bench.fresh("checkpoint")
    script = ["python3", "/opt/examples/quantization/quantize.py", "--output_dir", str(out)]
    script += ["--model_dir", str(bench.places["model"]), "--calib_dataset"]
    script += [str(bench.places["calibration"] / "lambada"), "--qformat", "full_prec"]
    bench.run([*script, "--tp_size", str(plan.order.recipe.tensor_parallel_degree)])
    return out


@pytest.mark.parametrize("recipe", trtllm_recipes())
def test_the_simulators_accept_every_argv(
    recipe: str, bench: Callable[[str], tuple[Bench, list[tuple[str, tuple[str, ...]]]]]
) -> None:
    made, steps = bench(recipe)
    assert {name for name, _ in steps} >= {"engine"}
    for name, argv in steps:
        out = made.fresh(name)
        made.run(made.fill(argv, out))
        assert any(out.rglob("rank0.*")), name


@pytest.mark.parametrize("recipe", trtllm_recipes())
def test_a_mutant_is_refused_or_listed(
    recipe: str,
    bench: Callable[[str], tuple[Bench, list[tuple[str, tuple[str, ...]]]]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, steps = bench(recipe)
    survivors = []
    count = 0
    for name, argv in steps:
        for how, flag, mutant in _mutants(argv):
            count += 1
            monkeypatch.chdir(made.fresh("cwd"))
            try:
                made.run(made.fill(mutant, made.fresh(f"{name}-mutant")))
            except (SystemExit, FileNotFoundError):
                continue
            listed = LEGAL_TO_DROP if how == "drop" else FREE_TEXT
            if how == "misspell" or flag not in listed:
                survivors.append((name, how, flag))
        made.run(made.fill(argv, made.fresh(name)))
    capsys.readouterr()
    assert count > 10
    assert not survivors


def _mutants(argv: tuple[str, ...]) -> list[tuple[str, str, tuple[str, ...]]]:
    found = []
    for index, part in enumerate(argv):
        if not part.startswith("--"):
            continue
        has_value = index + 1 < len(argv) and not argv[index + 1].startswith("--")
        end = index + 2 if has_value else index + 1
        found.append(("drop", part, (*argv[:index], *argv[end:])))
        found.append(("misspell", part, (*argv[:index], f"{part}x", *argv[index + 1 :])))
        if has_value:
            found.append(("retype", part, (*argv[: index + 1], "no-such-value", *argv[end:])))
        else:
            found.append(("retype", part, (*argv[: index + 1], "no-such-value", *argv[end:])))
    return found


def test_properties_of_lmi_033_are_never_taken_for_abbreviated_flags(
    plan_of: Callable[..., Plan],
) -> None:
    flags = [name[2:] for name in table("trtllm-build-0.20.0")["options"]]
    for recipe in trtllm_recipes():
        plan = plan_of(recipe)
        if plan.order.toolchain.name != "trtllm-lmi-0.33":
            continue
        for planned in plan.steps:
            if planned.step.name.endswith("-properties"):
                given = planned.step.run.params["properties"]
                for key in given:
                    bare = key.removeprefix("option.")
                    longer = [each for each in flags if each.startswith(bare) and each != bare]
                    assert not longer, (bare, longer)
