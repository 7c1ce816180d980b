"""Trees of language models, made by the plan's own steps with the simulators on PATH."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmi_artifacts.neuron_cache import entries
from lmi_artifacts.neuron_container import recognise
from lmi_artifacts.properties import parse_properties
from lmi_artifacts.statement import VERDICT
from lmi_compile.backends.neuron import judging
from lmi_compile.backends.neuron.package import matched_graphs
from lmi_compile.errors import EnvironmentFault, ExitCode, ToolFailed, exit_code_of
from lmi_compile.pipeline import NotAccepted, build, run_until
from lmi_compile.seal import seal

ROOT = Path(__file__).parents[4]
pytestmark = pytest.mark.slow  # a model is made, and steps run as processes
RECIPE = """
apiVersion: lmi-compile/v1
name: tiny-{route}
model: {{id: ./model, task: text-generation}}
backend: neuron
toolchain: {toolchain}
target: {{instance_type: ml.{instance}}}
tensor_parallel_degree: 2
dtype: {dtype}
shapes: {{max_batch_size: 2, max_seq_len: 64}}
"""
ROUTES = {
    "nxdi": ("sim-neuron-nxdi-2.28", {"sdk": "2.28.0"}, "neuron-nxdi"),
    "optimum": ("sim-neuron-optimum-0.4.5", {"sdk": "2.26.1"}, "neuron-optimum"),
    "partition": ("sim-neuron-lmi-0.30", {"sdk": "2.20.1", "devices": 2}, "neuron-lmi"),
    "vllm": (
        "sim-neuron-vllm-2.33",
        {"sdk": "2.33.0", "instance": "trn2.48xlarge"},
        "neuron-vllm",
    ),
}


def _recipe(route: str) -> str:
    toolchain, machine, _ = ROUTES[route]
    return RECIPE.format(
        route=route,
        toolchain=toolchain,
        instance=machine.get("instance", "inf2.8xlarge"),
        dtype="bfloat16" if route == "vllm" else "float32",
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = ROOT / "tests" / "fixtures" / "tiny_llama.py"
    spec = importlib.util.spec_from_file_location("tiny_llama", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("models") / "model"
    module.make_tiny_llama(folder)
    return folder


@pytest.fixture(scope="module")
def packaged(make_world: Callable[..., Any], model: Path) -> Callable[[str], tuple[Any, Any, Path]]:
    """World, plan and tree of a route, built once."""
    known: dict[str, tuple[Any, Any, Path]] = {}

    def get(route: str) -> tuple[Any, Any, Path]:
        if route not in known:
            world = make_world(**{"instance": "inf2.8xlarge", **ROUTES[route][1]})
            shutil.copytree(model, world.home / "model")
            plan = world.plan(_recipe(route))
            run_until(plan, "package", world.tools)
            known[route] = (world, plan, world.out(plan, "package"))
        return known[route]

    return get


@pytest.mark.parametrize("route", ROUTES)
def test_a_tree_passes_its_containers_recogniser_and_is_sealed(
    packaged: Callable[[str], tuple[Any, Any, Path]], route: str, tmp_path: Path
) -> None:
    world, plan, tree = packaged(route)
    contract = ROUTES[route][2]
    assert recognise(contract, tree) == ()
    manifest = seal(plan, tree, tmp_path / "sealed")
    assert manifest.simulated
    assert manifest.serving["contract"] == contract
    assert manifest.serving["hardware"]["neuron_cores"] == 2
    everything = b"".join(path.read_bytes() for path in tree.rglob("*") if path.is_file())
    assert str(world.home).encode() not in everything
    described = json.loads((tree / "lmi-neuron.json").read_bytes())
    assert described["simulated"] is True
    assert described["memory"]["bytes_per_core"] < described["core_bytes"]


def test_the_same_plan_on_the_same_inputs_makes_the_same_tree(
    packaged: Callable[[str], tuple[Any, Any, Path]], make_world: Callable[..., Any], model: Path
) -> None:
    _, plan, tree = packaged("nxdi")
    world = make_world(instance="inf2.8xlarge", sdk="2.28.0")
    shutil.copytree(model, world.home / "model")
    again = world.plan(_recipe("nxdi"))
    assert again.keys == plan.keys
    run_until(again, "package", world.tools)
    other = world.out(again, "package")
    assert _contents(other) == _contents(tree)


def test_lmi_properties_are_those_that_were_compiled_in(
    packaged: Callable[[str], tuple[Any, Any, Path]],
) -> None:
    _, _, tree = packaged("partition")
    found = parse_properties((tree / "serving.properties").read_bytes())
    block = json.loads((tree / "config.json").read_bytes())["neuron"]
    assert found["option.dtype"] == "fp32"
    assert found["option.n_positions"] == str(block["sequence_length"]) == "64"
    assert found["option.tensor_parallel_degree"] == str(block["num_cores"]) == "2"
    assert "option.model_id" not in found
    assert not (tree / "neuron-compile-cache").exists()
    graphs = json.loads((tree / "lmi-neuron.json").read_bytes())["graphs"]
    assert {graph["neff"] for graph in graphs} == {p.name for p in tree.glob("compiled/*.neff")}
    assert all(graph["compiler"].startswith("neuronxcc-2.15.141.0+") for graph in graphs)
    assert found["option.group_query_attention"] in {"shard-over-heads", "replicated-heads"}


def _renamed_graph(tree: Path) -> None:
    first = min((tree / "compiled").glob("*.neff"))
    first.rename(first.with_name("context.neff"))


def _another_graph(tree: Path) -> None:
    first = min((tree / "compiled").glob("*.neff"))
    first.rename(first.with_name("0123456789abcdef0123.neff"))


def _dropped_key(tree: Path) -> None:
    shutil.rmtree(min((tree / "neuron" / "compile_cache").iterdir()))


DAMAGE: list[tuple[str, Callable[[Path], Any], str]] = [
    ("nxdi", lambda t: (t / "weights/tp1_sharded_checkpoint.safetensors").unlink(), "tp1_"),
    ("nxdi", lambda t: (t / "model.pt").write_bytes(b"x"), "no TorchScript archive"),
    ("nxdi", lambda t: _edit(t, "neuron_config.json", _name_or_path="/build/m"), "build host"),
    (
        "nxdi",
        lambda t: _edit(t, "neuron_config.json", neuron_config={"tp_degree": 2}),
        "save_sharded_checkpoint is not true",
    ),
    ("nxdi", lambda t: (t / "tokenizer.json").unlink(), "tokenizer.json: is missing"),
    ("nxdi", lambda t: (t / "model.log").write_text("failed"), "failed or locked"),
    ("optimum", lambda t: shutil.rmtree(t / "checkpoint"), "tp0_sharded_checkpoint"),
    ("optimum", lambda t: _edit(t, "neuron_config.json", target=None), "has no target"),
    ("partition", lambda t: (t / "model.safetensors").write_bytes(b"x"), "ignore compiled/"),
    ("partition", lambda t: _edit(t, "config.json", neuron=None), "no block neuron"),
    (
        "partition",
        lambda t: [p.unlink() for p in (t / "compiled").glob("*.neff")],
        "holds no .neff",
    ),
    ("partition", _renamed_graph, "no graph's digest"),
    ("partition", _another_graph, "not the graphs that lmi-neuron.json says"),
    ("vllm", lambda t: shutil.rmtree(t / "neuron"), "would compile when it starts"),
    ("vllm", _dropped_key, "its keys are not those"),
    ("vllm", lambda t: (t / "neuron/compile_cache/abc").mkdir(), "no cache key of 32 digits"),
    ("partition", lambda t: _property(t, "option.n_positions", "128"), "neuron.sequence_length"),
    ("partition", lambda t: _property(t, "option.dtype", "bfloat16"), "fp32 or fp16 or bf16"),
    ("partition", lambda t: _property(t, "option.dtype", None), "option.dtype is None"),
    ("partition", lambda t: _property(t, "batch_size", "4"), "batch_size is 4"),
    ("partition", lambda t: _property(t, "option.model_id", "/m"), "look elsewhere"),
]


@pytest.mark.parametrize(("route", "damage", "words"), DAMAGE)
def test_a_tree_that_would_compile_or_fail_is_refused(
    packaged: Callable[[str], tuple[Any, Any, Path]],
    route: str,
    damage: Callable[[Path], Any],
    words: str,
    tmp_path: Path,
) -> None:
    tree = Path(shutil.copytree(packaged(route)[2], tmp_path / "tree"))
    damage(tree)
    problems = recognise(ROUTES[route][2], tree)
    assert any(words in problem for problem in problems), problems


def test_a_saved_graph_that_was_not_compiled_here_is_refused(
    packaged: Callable[[str], tuple[Any, Any, Path]], tmp_path: Path
) -> None:
    world, plan, _ = packaged("partition")
    built = Path(shutil.copytree(world.out(plan, "compile"), tmp_path / "compiled"))
    compiler = "2.15.141.0"
    assert len(matched_graphs(built, compiler)) == 2
    with pytest.raises(ToolFailed, match=r"pinned to 2\.16"):
        matched_graphs(built, "2.16")
    first = min((built / "compiled").glob("*.neff"))
    content = first.read_bytes()
    first.write_bytes(b"another compile's")
    with pytest.raises(ToolFailed, match="is of no graph that was compiled here"):
        matched_graphs(built, compiler)
    first.write_bytes(content)
    entry = entries(built)[0]
    (entry.folder / "compile_flags.json").write_text('["--target=trn1", "-O3"]')
    with pytest.raises(ToolFailed, match="does not give the flags key"):
        matched_graphs(built, compiler)


def test_a_wrong_path_fails_instead_of_compiling_anew(
    packaged: Callable[[str], tuple[Any, Any, Path]], tmp_path: Path
) -> None:
    tree = packaged("nxdi")[2]
    (tmp_path / "python").write_text("#!/bin/sh\necho started $NEURON_COMPILED_ARTIFACTS $@\n")
    (tmp_path / "python").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    right = _serve(tree, env)
    assert right.returncode == 0
    assert f"started {tree}" in right.stdout
    assert "--tensor-parallel-size 2 --max-model-len 64 --max-num-seqs 2" in right.stdout
    wrong = _serve(tree, {**env, "NEURON_COMPILED_ARTIFACTS": str(tmp_path)})
    assert wrong.returncode == 78
    assert "would compile the model anew" in wrong.stderr
    assert "started" not in wrong.stdout
    lacking = Path(shutil.copytree(tree, tmp_path / "tree"))
    (lacking / "weights" / "tp1_sharded_checkpoint.safetensors").unlink()
    assert _serve(lacking, env).returncode == 78


def test_the_start_script_runs_on_a_read_only_tree(
    packaged: Callable[[str], tuple[Any, Any, Path]], tmp_path: Path
) -> None:
    tree = Path(shutil.copytree(packaged("nxdi")[2], tmp_path / "tree"))
    for path in [tree, *tree.rglob("*")]:
        path.chmod(0o555 if path.is_dir() or path.name == "serve.sh" else 0o444)
    (tmp_path / "python").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "python").chmod(0o755)
    assert _serve(tree, {"PATH": f"{tmp_path}:{os.environ['PATH']}"}).returncode == 0
    for path in [tree, *tree.rglob("*")]:
        path.chmod(0o755)


def test_partition_without_a_device_fails_with_the_runtimes_words(
    make_world: Callable[..., Any], model: Path
) -> None:
    world = make_world(instance="inf2.8xlarge", sdk="2.20.1")
    shutil.copytree(model, world.home / "model")
    plan = world.plan(_recipe("partition"))
    with pytest.raises(ToolFailed) as caught:
        run_until(plan, "package", world.tools)
    assert "!(num_devices > 0)" in caught.value.why


def test_another_compiler_than_the_pinned_one_is_refused_before_anything_runs(
    make_world: Callable[..., Any], model: Path
) -> None:
    world = make_world(instance="inf2.8xlarge", sdk="2.26.1")
    shutil.copytree(model, world.home / "model")
    plan = world.plan(_recipe("nxdi"))
    with pytest.raises(EnvironmentFault, match=r"pinned to neuronx-cc 2\.23\.6484\.0"):
        run_until(plan, "package", world.tools)


def test_without_the_tools_the_image_is_named(
    make_world: Callable[..., Any], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(instance="inf2.8xlarge", sdk="2.28.0")
    shutil.copytree(model, world.home / "model")
    plan = world.plan(_recipe("nxdi").replace("sim-", ""))
    tools = world.tools
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(EnvironmentFault, match="inference_demo") as caught:
        run_until(plan, "package", tools)
    assert "pytorch-inference-vllm-neuronx:0.13.0" in caught.value.fix


def test_without_a_device_the_verdict_is_unverified_and_says_so(
    packaged: Callable[[str], tuple[Any, Any, Path]],
) -> None:
    world, plan, _ = packaged("nxdi")
    with pytest.raises(NotAccepted) as caught:
        build(plan, world.tools)
    assert exit_code_of(caught.value) is ExitCode.VERIFICATION_FAILED
    assert "no Neuron device is here" in str(caught.value.verdict["summary"])
    done = build(plan, world.tools, allow_unverified=True)
    assert (done.decision, done.proof) == ("UNVERIFIED", "SKIPPED")
    assert done.artifact is not None
    statements = world.registry.statements(done.artifact)
    verdict = next(each.predicate for each in statements if each.predicate_type == VERDICT)
    assert verdict["verified_on_device"] is False
    assert verdict["devices"] == []


def test_the_probe_calls_the_vendors_check_with_our_own_reference(
    packaged: Callable[[str], tuple[Any, Any, Path]],
    simulators: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    del simulators
    world, plan, tree = packaged("nxdi")
    run_until(plan, "reference", world.tools)
    reference = world.out(plan, "reference")
    monkeypatch.setenv("NEURON_SIMULATOR_MACHINE", str(world.home / "bin" / "machine.json"))
    for name in [each for each in sys.modules if each.startswith("neuronx_distributed_inference")]:
        monkeypatch.delitem(sys.modules, name)
    scripts = ROOT / "compile/lmi_compile/backends/neuron/scripts"
    monkeypatch.syspath_prepend(str(scripts))
    path = scripts / "probe_nxdi.py"
    spec = importlib.util.spec_from_file_location("probe_nxdi", path)
    assert spec is not None
    assert spec.loader is not None
    probe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(probe)
    prompts = probe._check(tree, reference, 64)
    assert prompts
    assert [each["detail"] for each in prompts if not each["passed"]] == []
    candidate = tmp_path / "candidate"
    candidate.mkdir()
    params = next(each.step.run.params for each in plan.steps if each.step.name == "judge")
    inputs = {"reference": reference, "candidate": candidate}
    for passed, decision in ((True, "ACCEPT"), (False, "REGRESSION")):
        told = {"devices": ["neuron0"], "ran": True, "reason": "", "prompts": prompts}
        prompts[0]["passed"] = passed
        (candidate / "outputs.json").write_text(json.dumps(told))
        judging.run(params, inputs, tmp_path)
        verdict = json.loads((tmp_path / "verdict.json").read_bytes())
        assert (verdict["decision"], verdict["verified_on_device"]) == (decision, True)


def _serve(tree: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    script = str(tree / "serve.sh")
    return subprocess.run([script], env=env, capture_output=True, text=True, check=False)


def _contents(tree: Path) -> dict[str, bytes]:
    files = [path for path in tree.rglob("*") if path.is_file()]
    return {path.relative_to(tree).as_posix(): path.read_bytes() for path in files}


def _edit(tree: Path, name: str, **changes: object) -> None:
    content = json.loads((tree / name).read_bytes()) | changes
    (tree / name).unlink()
    (tree / name).write_text(json.dumps(content))


def _property(tree: Path, name: str, value: str | None) -> None:
    path = tree / "serving.properties"
    lines = [each for each in path.read_text().splitlines() if not each.startswith(f"{name}=")]
    path.unlink()
    path.write_text("\n".join([*lines, *([f"{name}={value}"] if value else [])]) + "\n")
