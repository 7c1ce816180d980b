"""The probes of optimum, LMI and vLLM trees: their calls, with the CPU in the device's place.

The simulated classes have the real ones' signatures and hold a tree as their loaders do; the
numbers are the model's own, so that teacher forcing, files and judge work on true logits.
"""

import argparse
import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lmi_compile.backends.neuron import judging
from lmi_compile.pipeline import NotAccepted, build, run_until

pytestmark = pytest.mark.slow  # a model is made, and steps run as processes
ROOT = Path(__file__).parents[4]
SCRIPTS = ROOT / "compile/lmi_compile/backends/neuron/scripts"
ROUTES = {
    "optimum": ("sim-neuron-optimum-0.4.5", {"sdk": "2.26.1"}),
    "partition": ("sim-neuron-lmi-0.30", {"sdk": "2.20.1", "devices": 2}),
    "vllm": ("sim-neuron-vllm-2.33", {"sdk": "2.33.0", "instance": "trn2.48xlarge"}),
}
RECIPE = """
apiVersion: lmi-compile/v1
name: tiny-{route}
model: {{id: ./model, task: text-generation}}
backend: neuron
toolchain: {toolchain}
target: {{instance_type: ml.{instance}}}
tensor_parallel_degree: 2
dtype: {dtype}
shapes: {{max_batch_size: {batch}, max_seq_len: 64}}
"""


@pytest.fixture(scope="module")
def packaged(
    make_world: Callable[..., Any], make_tiny_llama: Callable[..., Path]
) -> Callable[..., tuple[Any, Any]]:
    """World and plan of a route with a finished tree and reference, built once."""
    known: dict[tuple[str, int], tuple[Any, Any]] = {}

    def get(route: str, batch: int = 2) -> tuple[Any, Any]:
        if (route, batch) not in known:
            toolchain, machine = ROUTES[route]
            machine = {"instance": "inf2.8xlarge", **machine}
            world = make_world(**machine)
            make_tiny_llama(world.home / "model", vocab_size=300)
            text = RECIPE.format(
                route=route,
                toolchain=toolchain,
                instance=machine["instance"],
                dtype="bfloat16" if route == "vllm" else "float32",
                batch=batch,
            )
            plan = world.plan(text)
            run_until(plan, "package", world.tools)
            run_until(plan, "reference", world.tools)
            known[route, batch] = world, plan
        return known[route, batch]

    return get


@pytest.fixture
def ask(
    packaged: Callable[..., tuple[Any, Any]],
    simulators: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Runs a route's probe in this process on a machine with devices, and judges its answer."""
    del simulators

    def run(route: str, batch: int = 2, tree: Path | None = None) -> tuple[Path, dict[str, Any]]:
        world, plan = packaged(route, batch)
        machine = json.loads((world.home / "bin" / "machine.json").read_bytes()) | {"devices": 2}
        (tmp_path / "machine.json").write_text(json.dumps(machine))
        monkeypatch.setenv("NEURON_SIMULATOR_MACHINE", str(tmp_path / "machine.json"))
        monkeypatch.setenv("NEURON_SIMULATOR_MODEL", str(world.home / "model"))
        for name in ("VLLM_CACHE_ROOT", "VLLM_NEURON_DISABLE_WARMUP_COMPILE"):
            monkeypatch.setenv(name, "")  # given back afterwards; the probe sets its own
        monkeypatch.setenv("NEURON_LIBTORCH_DISABLE_GRAPH_CAPTURE_BACKEND", "")
        monkeypatch.syspath_prepend(str(SCRIPTS))
        for name in [each for each in sys.modules if each.partition(".")[0] in _FOREIGN]:
            monkeypatch.delitem(sys.modules, name)
        asked = argparse.Namespace(
            tree=tree or world.out(plan, "package"),
            reference=world.out(plan, "reference"),
            request=world.out(plan, "tools") / "request.json",
            out=tmp_path,
        )
        found = importlib.import_module(f"probe_{route}").ask(asked)
        told = {"format": 1, "devices": ["neuron0"], "reason": "", "ran": True, **found}
        (tmp_path / "outputs.json").write_text(json.dumps(told))
        return tmp_path, _judged(world, plan, tmp_path)

    return run


_FOREIGN = {"optimum", "djl_python", "vllm", "probing", "probe_optimum", "probe_partition",
            "probe_vllm"}  # fmt: skip


def _judged(world: Any, plan: Any, candidate: Path) -> dict[str, Any]:
    params = next(each.step.run.params for each in plan.steps if each.step.name == "judge")
    inputs = {"reference": world.out(plan, "reference"), "candidate": candidate}
    judging.run(params, inputs, candidate)
    verdict: dict[str, Any] = json.loads((candidate / "verdict.json").read_bytes())
    return verdict


@pytest.mark.parametrize(
    ("route", "batch"), [("optimum", 2), ("partition", 1), ("partition", 2), ("vllm", 2)]
)
def test_a_right_tree_is_accepted_on_a_device(
    ask: Callable[..., tuple[Path, dict[str, Any]]], route: str, batch: int
) -> None:
    _, verdict = ask(route, batch)
    assert (verdict["decision"], verdict["verified_on_device"]) == ("ACCEPT", True)
    metrics = {check["metric"]: check["measured"] for check in verdict["checks"]}
    wanted = {"error_rel_top5"}
    if route != "vllm":
        wanted |= {"error_rel_top50", "error_rel_top1000", "error_rel_all"}
    assert set(metrics) == wanted
    assert max(metrics.values()) < 1e-4


@pytest.mark.parametrize("route", ["optimum", "vllm"])
def test_other_numbers_are_told_from_right_ones(
    ask: Callable[..., tuple[Path, dict[str, Any]]],
    packaged: Callable[..., tuple[Any, Any]],
    route: str,
) -> None:
    world, plan = packaged(route)
    folder, _ = ask(route)
    with np.load(folder / "outputs.npz") as held:
        right = dict(held)
    name = "001.rows" if route == "optimum" else "001.top_logprobs"
    for change, decision in (
        (right[name] * 1.2 + 0.5, "REGRESSION"),
        (right[name] * np.nan, "ANOMALOUS"),
        (np.concatenate([right[name]] * 3), "INFEASIBLE"),
    ):
        np.savez(folder / "outputs.npz", **(right | {name: change}))
        assert _judged(world, plan, folder)["decision"] == decision
    np.savez(folder / "outputs.npz", **{"000.rows": np.zeros((1, 300))})
    assert _judged(world, plan, folder)["decision"] == "INFEASIBLE"


def test_a_missing_graph_is_fatal_to_vllm(
    ask: Callable[..., tuple[Path, dict[str, Any]]],
    packaged: Callable[..., tuple[Any, Any]],
    tmp_path: Path,
) -> None:
    world, plan = packaged("vllm")
    tree = Path(shutil.copytree(world.out(plan, "package"), tmp_path / "tree"))
    shutil.rmtree(min((tree / "neuron" / "compile_cache").iterdir()))
    with pytest.raises(RuntimeError, match="a local cache miss as a fatal error"):
        ask("vllm", 2, tree)


def test_a_tree_that_samples_on_the_device_says_that_it_has_no_logits(
    ask: Callable[..., tuple[Path, dict[str, Any]]],
    packaged: Callable[..., tuple[Any, Any]],
    tmp_path: Path,
) -> None:
    world, plan = packaged("optimum")
    tree = Path(shutil.copytree(world.out(plan, "package"), tmp_path / "tree"))
    config = json.loads((tree / "neuron_config.json").read_bytes()) | {"on_device_sampling": True}
    (tree / "neuron_config.json").unlink()
    (tree / "neuron_config.json").write_text(json.dumps(config))
    world, plan = packaged("optimum")
    with pytest.raises(FileNotFoundError):  # nothing was scored, so there is nothing to judge
        ask("optimum", 2, tree)


def test_without_a_device_a_later_build_tries_again(
    packaged: Callable[..., tuple[Any, Any]],
) -> None:
    world, plan = packaged("vllm")
    for _ in range(2):
        seen: list[str] = []
        tools = world.tools
        tools = type(tools)(
            workspace=tools.workspace,
            execute=tools.execute,
            registry=tools.registry,
            emit=lambda event, seen=seen: seen.append(f"{type(event).__name__} {event.name}"),
        )
        with pytest.raises(NotAccepted) as caught:
            build(plan, tools)
        assert "no Neuron device is here" in str(caught.value.verdict["summary"])
        assert {"StepStarted candidate", "StepStarted judge"} <= set(seen)


def test_the_reference_and_the_scored_rows_are_of_the_same_tokens(
    ask: Callable[..., tuple[Path, dict[str, Any]]], packaged: Callable[..., tuple[Any, Any]]
) -> None:
    world, plan = packaged("optimum")
    folder, _ = ask("optimum")
    safetensors = importlib.import_module("safetensors.torch")
    right = safetensors.load_file(world.out(plan, "reference") / "outputs.safetensors")
    with np.load(folder / "outputs.npz") as held:
        for name in held.files:
            number = name.partition(".")[0]
            expected = right[f"{number}.forced_logits"]
            assert torch.allclose(torch.from_numpy(held[name]), expected, atol=1e-4)
