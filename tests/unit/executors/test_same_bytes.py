"""The same recipe and toolchain give the same keys and bytes on the host and in a container.

The null backend's are in test_matrix.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from dockerd import Engine, host_mounts
from flows import (
    build,
    container_flags,
    install_simulator,
    path_with,
    same_where_it_counts,
    toolchain_with_image,
)
from raycluster import ENV, ray_cluster

SIMULATORS = Path(__file__).parents[2] / "simulators"
IMAGE = "lmi-test/host:latest"
pytestmark = pytest.mark.slow


@pytest.mark.scale
def test_aoti_compiles_and_is_tried_in_its_toolchains_image(
    engine: Engine, image_id: str, tmp_path: Path, make_tiny_llama: Callable[..., Path]
) -> None:
    """As for the torch of a published container; here the image has this machine's own."""
    name = toolchain_with_image(tmp_path / "toolchains", "aoti-torch-2.13", IMAGE, image_id)
    make_tiny_llama(tmp_path / "model")
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        f"apiVersion: lmi-compile/v1\nname: tiny\nmodel: {{id: {tmp_path}/model}}\n"
        f"toolchain: {name}\nbackend: aoti\ntarget: {{cpu: x86-64-v3}}\ndtype: float32\n"
        "shapes: {max_input_len: 24, max_seq_len: 48}\n",
        encoding="utf-8",
    )
    arguments = ["--toolchains", tmp_path / "toolchains", *container_flags(host_mounts())]
    there = build(tmp_path / "home", recipe, *arguments, DOCKER_HOST=engine.url)
    contained = {name for name, ran in there.ran.items() if ran["executor"] == "container"}
    assert contained == {"compile", "candidate"}
    # A container may not watch another process: this machine has the same torch, and proves.
    assert (there.said["decision"], there.said["proof"]) == ("ACCEPT", "PROVEN")
    assert {there.ran[name]["image"] for name in contained} == {image_id}
    assert engine.names() == []


@pytest.mark.scale
def test_null_in_a_container_on_a_node(
    engine: Engine, image_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = toolchain_with_image(tmp_path / "toolchains", "null", IMAGE, image_id)
    arguments = ["--toolchains", tmp_path / "toolchains", "--set", f"toolchain={name}"]
    here = build(tmp_path / "home", "null-demo", *arguments)
    monkeypatch.setenv("DOCKER_HOST", engine.url)  # each node's own
    with ray_cluster() as cluster:
        where = ["--executor", "ray+container", "--ray-address", cluster.address]
        flags = [*where, *container_flags(host_mounts())[2:]]
        there = build(tmp_path / "home", "null-demo", *arguments, *flags, **ENV)
    same_where_it_counts(here, there)
    ran = there.ran["compile"]
    assert (ran["executor"], ran["inner"]["executor"]) == ("ray", "container")
    assert ran["inner"]["image"] == image_id
    assert there.ran["model"]["inner"] == {"executor": "local"}
    assert engine.names() == []


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A simulated machine, and a small recipe for it."""

    home: str
    installer: str
    machine: Mapping[str, object]
    toolchain: str
    recipe: str
    until: str
    in_image: frozenset[str]


TRTLLM = Simulated(
    home="trtllm",
    installer="trtllm_simulator/install.py",
    machine={"tensorrt_llm": "0.21.0rc1", "build_table": "0.20.0"},
    toolchain="sim-trtllm-lmi-0.33",
    recipe="backend: tensorrt-llm\ntarget: {instance_type: ml.g5.12xlarge}\ndtype: float16\n"
    "shapes: {max_batch_size: 2, max_input_len: 32, max_seq_len: 64}\n",
    until="candidate",
    in_image=frozenset({"ground", "engine", "logits-engine", "candidate"}),
)
NEURON = Simulated(
    home="neuron",
    installer="install.py",
    machine={"sdk": "2.28.0", "instance": "inf2.8xlarge"},
    toolchain="sim-neuron-nxdi-2.28",
    recipe="backend: neuron\ntarget: {instance_type: ml.inf2.8xlarge}\ndtype: float32\n"
    "shapes: {max_batch_size: 2, max_seq_len: 64}\n",
    until="package",
    in_image=frozenset({"compile"}),
)


@pytest.mark.parametrize("case", [TRTLLM, NEURON], ids=lambda case: case.home)
def test_simulators(
    case: Simulated, engine: Engine, tmp_path: Path, make_tiny_llama: Callable[..., Path]
) -> None:
    home = SIMULATORS / case.home
    tools = install_simulator(home / case.installer, tmp_path / "bin", **case.machine)
    image = engine.make_image(f"lmi-test/{case.home}", home, tools=tools)
    source = home / "toolchains" / f"{case.toolchain}.yaml"
    folder = tmp_path / "toolchains"
    name = toolchain_with_image(folder, source, f"lmi-test/{case.home}:latest", image)
    make_tiny_llama(tmp_path / "model", vocab_size=300)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        f"apiVersion: lmi-compile/v1\nname: tiny\nmodel: {{id: {tmp_path}/model}}\n"
        f"toolchain: {name}\ntensor_parallel_degree: 2\n{case.recipe}",
        encoding="utf-8",
    )
    arguments = ["--toolchains", folder, "--until", case.until]
    here = build(tmp_path / "home", recipe, *arguments, PATH=path_with(tools))
    flags = container_flags(host_mounts())
    there = build(tmp_path / "home", recipe, *arguments, *flags, DOCKER_HOST=engine.url)
    same_where_it_counts(here, there)
    contained = {name for name, ran in there.ran.items() if ran["executor"] == "container"}
    assert contained == case.in_image
    assert {there.ran[name]["image"] for name in contained} == {image}
    assert engine.names() == []
