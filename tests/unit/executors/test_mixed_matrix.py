"""One matrix of twelve builds by four backends, on the host, in containers and on a Ray cluster.

Small random models throughout. TensorRT-LLM's and Neuron's tools are simulators, as their
toolchains say; aoti compiles for real, in float32, bfloat16 and with int8 weights.
"""

import json
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dockerd import Engine, host_mounts
from flows import (
    MEASURED,
    container_flags,
    differing,
    install_simulator,
    path_with,
    toolchain_with_image,
)
from lmi import Ended, Lmi
from raycluster import ENV, ray_cluster

from lmi_artifacts.digest import digest_bytes

pytestmark = [pytest.mark.slow, pytest.mark.scale]
TESTBED = Path(__file__).parent / "testbed.py"
SIMULATORS = Path(__file__).parents[2] / "simulators"
HOST = "lmi-test/host"
SHAPES = "max_input_len: 24, max_seq_len: 64"
RECIPES = {
    "plain": 'backend: "null"\ntarget: {cpu: x86-64-v2}\n'
    "matrix: {dtype: [float32, float16, bfloat16]}\n",
    "aoti": "backend: aoti\ntarget: {cpu: x86-64-v3}\nmatrix: {dtype: [float32, bfloat16]}\n",
    "aoti-int8": "backend: aoti\ntarget: {cpu: x86-64-v3}\ndtype: float32\n"
    "quantization: {method: int8_wo}\n",
    "aoti-tuned": "backend: aoti\ntarget: {cpu: x86-64-v3}\ndtype: float32\n",
    "trtllm": "backend: tensorrt-llm\ntarget: {instance_type: ml.g5.12xlarge}\ndtype: float16\n"
    "tensor_parallel_degree: 2\nmatrix: {shapes.max_batch_size: [1, 2, 3]}\n",
    "neuron": "backend: neuron\ntarget: {instance_type: ml.inf2.8xlarge}\ndtype: float32\n"
    "tensor_parallel_degree: 2\nmatrix: {shapes.max_batch_size: [1, 2]}\n",
}
# Nine builds read one model, the fine-tune another; each step that builds share is there once.
ONCE = {
    "fetch": 2,
    "model": 3,  # the null backend has its own
    "reference": 3,  # as above
    "convert": 1,  # of three engines at one degree
    "logits-engine": 1,
}


@dataclass(frozen=True, kw_only=True)
class World:
    """What all three runs see at the same paths.

    Attributes:
        home: where a run works; put away afterwards, because vendors' tools write paths down.
        tools: the simulators' programs, for PATH.
        toolchains: a folder of toolchain files that name images.
    """

    home: Path
    tools: str
    toolchains: Path


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run of the matrix left behind; files and names of steps by key."""

    report: Any
    began: Counter[str]
    files: Mapping[str, Mapping[str, str]]
    names: Mapping[str, str]


@pytest.fixture(scope="module")
def world(
    engine: Engine,
    image_id: str,
    tmp_path_factory: pytest.TempPathFactory,
    make_tiny_llama: Callable[..., Path],
) -> World:
    tmp_path = tmp_path_factory.mktemp("mixed")
    toolchains = tmp_path / "toolchains"
    images = {"null": (HOST, image_id), "aoti-torch-2.13": (HOST, image_id)}
    names = {
        name: toolchain_with_image(toolchains, name, f"{image}:latest", digest)
        for name, (image, digest) in images.items()
    }
    tools = []
    for home, installer, machine, toolchain in (
        ("trtllm", "trtllm_simulator/install.py", {"tensorrt_llm": "1.2.1"}, "sim-trtllm-1.2.1"),
        ("neuron", "install.py", {"sdk": "2.28.0"}, "sim-neuron-nxdi-2.28"),
    ):
        source = SIMULATORS / home
        programs = install_simulator(source / installer, tmp_path / home, **machine)
        image = f"lmi-test/{home}"
        digest = engine.make_image(image, source, tools=programs)
        file = source / "toolchains" / f"{toolchain}.yaml"
        names[toolchain] = toolchain_with_image(toolchains, file, f"{image}:latest", digest)
        tools.append(str(programs))
    chosen = dict(zip(("plain", "aoti", "trtllm", "neuron"), names.values(), strict=True))
    make_tiny_llama(tmp_path / "model")
    make_tiny_llama(tmp_path / "tuned", seed=1)
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    for name, text in RECIPES.items():
        model = tmp_path / ("tuned" if name == "aoti-tuned" else "model")
        (recipes / f"{name}.yaml").write_text(
            f"apiVersion: lmi-compile/v1\nname: {name}\nmodel: {{id: {model}}}\n"
            f"toolchain: {chosen[name.partition('-')[0]]}\nshapes: {{{SHAPES}}}\n{text}",
            encoding="utf-8",
        )
    path = path_with(Path(":".join(tools)))
    return World(home=tmp_path / "home", tools=path, toolchains=toolchains)


def run(world: World, *more: str, **env: str) -> Run:
    """Build the whole matrix from an empty cache, with one thread: last digits follow them."""
    world.home.mkdir()
    ended = subprocess.run(
        [sys.executable, str(TESTBED), "matrix", str(world.home.parent / "recipes"), "--json",
         "--jobs", "2", "--allow-unverified", "--toolchains", str(world.toolchains), *more],
        cwd=world.home,
        env={**Lmi(home=world.home).env, "PATH": world.tools, "OMP_NUM_THREADS": "1", **env},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    report = Ended(code=0, out=ended.stdout, err=ended.stderr).json()
    lines = [line for line in ended.stderr.splitlines() if line.startswith("  ")]
    began = Counter(line.rpartition(": ")[2] for line in lines if not line.endswith(" s"))
    files, names = {}, {}
    for step in (world.home / "cache" / "steps").iterdir():
        names[step.name] = json.loads((step / "step.json").read_bytes())["name"]
        files[step.name] = dict(_files(step / "out"))
    world.home.rename(world.home.with_name(f"home-{uuid.uuid4().hex}"))
    return Run(report=report, began=began, files=files, names=names)


def _files(out: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(out.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(out)), digest_bytes(path.read_bytes()).hex


def same(one: Run, other: Run) -> None:
    """Hold two runs against each other: keys, digests, verdicts, and the bytes of every step."""
    for left, right in zip(one.report["builds"], other.report["builds"], strict=True):
        for field in ("name", "state", "plan_key", "artifact", "decision", "proof", "figures"):
            assert left[field] == right[field], (left["name"], field)
    assert one.files.keys() == other.files.keys()
    differ = {(one.names[key], name) for key, name in differing(one.files, other.files)}
    assert differ - MEASURED == set()


def shared_steps_were_built_once(run: Run) -> None:
    assert {name: run.began[name] for name in ONCE} == ONCE
    assert max(Counter(run.began).values()) <= len(run.report["builds"])


@pytest.fixture(scope="module")
def here(world: World) -> Run:
    return run(world)


def test_twelve_builds_of_four_backends_are_built(here: Run) -> None:
    builds = here.report["builds"]
    assert Counter(build["state"] for build in builds) == {"built": 12}
    decisions = {build["backend"]: build["decision"] for build in builds}
    assert decisions == {
        "null": "ACCEPT",
        "aoti": "ACCEPT",
        "tensorrt-llm": "ACCEPT",
        "neuron": "UNVERIFIED",  # no device, and its simulator computes nothing
    }
    shared_steps_were_built_once(here)


def test_they_are_the_same_in_containers(world: World, here: Run, engine: Engine) -> None:
    flags = container_flags(host_mounts())
    there = run(world, *flags, DOCKER_HOST=engine.url)
    same(here, there)
    shared_steps_were_built_once(there)
    assert engine.names() == []


def test_they_are_the_same_on_a_ray_cluster(
    world: World, here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", world.tools)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as `run` has it, for what a node starts
    with ray_cluster() as cluster:
        cluster.add("devices", 2, '{"accelerator_type:A10G": 1, "neuron_cores": 2}', gpus=2)
        far = run(world, "--executor", "ray", "--ray-address", cluster.address, **ENV)
    same(here, far)
    shared_steps_were_built_once(far)
