"""vLLM Neuron's calls: the catalogue's is accepted, every mutant and every wrong one refused."""

import importlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmi_compile.plan import Plan

SCRIPTS = Path(__file__).parents[4] / "compile/lmi_compile/backends/neuron/scripts"
RECIPE = "llama-3.1-8b-trn2-vllm"


@pytest.fixture
def call(
    plan_of: Callable[..., Plan], simulators: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Path]:
    """Runs the catalogue's compile step with changed arguments or environment, in this process."""
    del simulators
    plan = plan_of(RECIPE)
    step = next(each.step for each in plan.steps if each.step.name == "compile")
    (tmp_path / "model").mkdir()
    config = json.dumps(dict(plan.order.model.config or {}))
    (tmp_path / "model" / "config.json").write_text(config)
    machine = {"sdk": "2.33.0", "devices": 0, "instance": "trn2.48xlarge", "fail": None}
    (tmp_path / "machine.json").write_text(json.dumps(machine))
    monkeypatch.setenv("NEURON_SIMULATOR_MACHINE", str(tmp_path / "machine.json"))
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def run(argv: tuple[str, ...] | None = None, **env: str | None) -> Path:
        out = tmp_path / "out"
        for name in [each for each in sys.modules if each in {"vllm", "vllm_compile"}]:
            monkeypatch.delitem(sys.modules, name)
        for name, value in (dict(step.env) | env).items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value.replace("{out}", str(out)))
        filled = [part.replace("{in:model}", str(tmp_path / "model")) for part in argv or own]
        assert importlib.import_module("vllm_compile").main(filled) == 0
        return out / "neuron" / "compile_cache"

    own = step.run.argv[2:]
    run.argv = own  # type: ignore[attr-defined]  # the step's own
    return run


def test_the_catalogues_call_makes_one_entry_for_each_graph(call: Any) -> None:
    cache = call()
    keys = sorted(path.name for path in cache.iterdir())
    assert len(keys) == 7 + 3  # 128 to 8192 tokens, 1 to 4 sequences
    assert all(re.fullmatch(r"[0-9a-f]{32}", key) for key in keys)


@pytest.mark.parametrize("env", ["VLLM_NEURON_CPU_COMPILE", "NEURON_PLATFORM_TARGET_OVERRIDE"])
def test_the_environment_is_needed(call: Any, env: str) -> None:
    with pytest.raises((RuntimeError, ValueError)):
        call(None, **{env: None})


def test_every_mutant_of_the_call_is_refused(call: Any) -> None:
    argv = call.argv
    tried = 0
    for place, part in enumerate(argv):
        if not part.startswith("--"):
            continue
        mutants = [
            (*argv[:place], *argv[place + 2 :]),
            (*argv[:place], f"{part}x", *argv[place + 1 :]),
            (*argv[: place + 1], "no-such-value", *argv[place + 2 :]),
        ]
        for mutant in mutants:
            tried += 1
            with pytest.raises((SystemExit, ValueError, OSError)):
                call(mutant)
    assert tried == 12


WRONG: list[tuple[dict[str, str | None], str]] = [
    ({"VLLM_NEURON_CPU_MODE": "1"}, "cannot be enabled"),
    ({"NEURON_PLATFORM_TARGET_OVERRIDE": None}, "is required"),
    ({"NEURON_PLATFORM_TARGET_OVERRIDE": "trainium2"}, "--target has no trainium2"),
    ({"NEURON_PLATFORM_TARGET_OVERRIDE": "inf1"}, "--target has no inf1"),
    ({"VLLM_NEURON_CPU_COMPILE": "true"}, "is 0 or 1"),
    ({"VLLM_NEURON_CPU_COMPILED": "1"}, "no document names"),
    ({"NEURON_LIBTORCH_PARALLEL_COMPILE_WORKERS": "all"}, "invalid literal for int"),
    (
        {"NEURON_LIBTORCH_DISABLE_COMPILE_CACHE": "1", "VLLM_NEURON_DISABLE_WARMUP_COMPILE": "1"},
        "Incompatible with",
    ),
    ({"VLLM_NEURON_CPU_COMPILE": None}, "num_devices > 0"),
]


@pytest.mark.parametrize(("env", "words"), WRONG, ids=[words for _, words in WRONG])
def test_a_wrong_environment_is_refused(call: Any, env: dict[str, str | None], words: str) -> None:
    with pytest.raises((RuntimeError, ValueError), match=re.escape(words)):
        call(None, **env)


ENGINE: dict[str, Any] = {
    "tensor_parallel_size": 8, "max_model_len": 4096, "max_num_seqs": 4
}  # fmt: skip
KEYWORDS: list[tuple[dict[str, Any], str]] = [
    ({"tp_degree": 8}, "unexpected keyword argument 'tp_degree'"),
    ({"device": "neuron"}, "unexpected keyword argument 'device'"),
    ({"override_neuron_config": {}}, "unexpected keyword argument"),
    ({"tensor_parallel_size": 3}, "3 cores on trn2"),
    ({"tensor_parallel_size": 24}, "24 cores on trn2"),
    ({"max_model_len": "4096"}, "max_model_len is '4096'"),
    ({"max_num_seqs": 0}, "max_num_seqs is 0"),
    ({"additional_config": {"neuron_config": {"tp_degree": 8}}}, "neuron_config has no tp_degree"),
    (
        {"additional_config": {"neuron_config": {"num_seqs_buckets": 4}}},
        "num_seqs_buckets is a list[int]",
    ),
    (
        {"additional_config": {"neuron_config": {"num_seqs_buckets": [1, 2]}}},
        "Largest must equal `max_num_seqs`",
    ),
]


@pytest.mark.parametrize(("changed", "words"), KEYWORDS, ids=[words for _, words in KEYWORDS])
def test_a_wrong_keyword_is_refused(
    call: Any, tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    call()
    engine = importlib.import_module("vllm").LLM
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        engine(model=str(tmp_path / "model"), **(ENGINE | changed))
    engine(model=str(tmp_path / "model"), **ENGINE)


def test_the_start_script_uses_only_flags_that_the_documents_show(simulators: None) -> None:
    del simulators
    known = importlib.import_module("neuron_simulator.base").table("vllm")["command_line"]
    used = set(re.findall(r"(--[a-z][a-z-]+)", (SCRIPTS / "serve_vllm.sh").read_text()))
    assert used <= set(known), used - set(known)
