"""The whole way on simulated machines: real argv, real probe, real package, real verdict.

The engines are stand-ins that compute on the CPU what they stand for. Their toolchains say
`simulated: true`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from lmi import Lmi
from tiny_llama import make_tiny_llama
from trtllm_simulator.install import install

TOOLCHAINS = Path(__file__).parents[1] / "simulators" / "trtllm" / "toolchains"
LMI_033 = {"tensorrt_llm": "0.21.0rc1", "build_table": "0.20.0"}
LMI_030 = {
    "tensorrt_llm": "0.12.0",
    "tensorrt": "10.3.0",
    "build_table": "0.12.0",
    "script_table": "0.12.0.dev2024080600",
    "partition_table": "0.30",
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lmi(tmp_path_factory: pytest.TempPathFactory) -> Lmi:
    """One home: the model's own outputs are the same for every toolchain."""
    return Lmi(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def recipe(lmi: Lmi) -> Path:
    return _recipe(lmi)


def _recipe(lmi: Lmi) -> Path:
    make_tiny_llama(lmi.home / "model", vocab_size=300)
    path = lmi.home / "tiny.yaml"
    path.write_text(
        "apiVersion: lmi-compile/v1\nname: tiny\nmodel: {id: ./model}\nbackend: tensorrt-llm\n"
        "toolchain: sim-trtllm-lmi-0.33\ntarget: {instance_type: ml.g5.12xlarge}\n"
        "dtype: float16\ntensor_parallel_degree: 2\n"
        "shapes: {max_batch_size: 2, max_input_len: 32, max_seq_len: 64}\n",
        encoding="utf-8",
    )
    return path


def _run(lmi: Lmi, recipe: Path, machine: dict[str, Any], *more: str) -> Any:
    tools = install(lmi.home / "bin", **machine)
    path = f"{tools}:{Path(sys.executable).parent}:/usr/bin:/bin"
    return lmi(recipe, "--toolchains", TOOLCHAINS, "--json", *more, PATH=path)


@pytest.mark.parametrize(
    ("toolchain", "machine"),
    [("sim-trtllm-lmi-0.33", LMI_033), ("sim-trtllm-lmi-0.30", LMI_030)],
)
def test_engines_are_built_packaged_and_accepted(
    toolchain: str, machine: dict[str, Any], lmi: Lmi, recipe: Path
) -> None:
    ended = _run(lmi, recipe, machine, "--until", "judge", "--set", f"toolchain={toolchain}")
    assert ended.code == 0, ended.err
    verdict = json.loads((Path(ended.json()["path"]) / "verdict.json").read_bytes())
    assert verdict["decision"] == "ACCEPT", verdict["summary"]
    assert {"engine", "candidate", "judge"} <= set(ended.json()["seconds"])
    package = Path(_run(lmi, recipe, machine, "--until", "package", "--set",
                        f"toolchain={toolchain}").json()["path"])  # fmt: skip
    root = package if toolchain.endswith("0.33") else package / "tensorrt_llm" / "1"
    assert {"rank0.engine", "rank1.engine"} <= {path.name for path in root.iterdir()}


# The first three are seen before anything is built, the others by the tool that builds.
FAILURES: tuple[tuple[dict[str, Any], int, list[str]], ...] = (
    ({**LMI_033, "tensorrt_llm": "0.21.0"}, 8, ["tensorrt_llm is 0.21.0", "0.21.0rc1"]),
    ({**LMI_033, "gpus": 1}, 8, ["1 GPUs are visible, 2 are needed"]),
    ({**LMI_033, "sm": 80}, 8, ["is SM 80, the target is SM 86"]),
    ({**LMI_033, "fail_rank": 1}, 4, ["Engine building failed", "at least one rank failed"]),
    ({**LMI_033, "killed": "trt_llm_partition.py"}, 4, ["exit 137", "memory"]),
    ({**LMI_033, "memory_bytes": 1}, 4, ["Requested amount of GPU memory", "max_num_tokens"]),
)


def test_failures_name_their_causes_and_leave_nothing_in_the_way(tmp_path: Path) -> None:
    lmi = Lmi(home=tmp_path)
    recipe = _recipe(lmi)
    for machine, code, words in FAILURES:
        ended = _run(lmi, recipe, machine, "--until", "engine")
        assert ended.code == code, (machine, ended.err)
        for word in words:
            assert word in ended.err
        staging = lmi.home / "cache" / "staging"
        assert not staging.exists() or not list(staging.glob("*/out/rank*"))
    good = _run(lmi, recipe, LMI_033, "--until", "engine", "--set", "name=again")
    assert good.code == 0, good.err
    assert "engine" in good.json()["seconds"]


def test_a_step_that_this_recipe_cannot_have_is_skipped(lmi: Lmi, recipe: Path) -> None:
    ended = _run(lmi, recipe, LMI_033, "--until", "checkpoint", "--set",
                 "quantization={method: smoothquant}")  # fmt: skip
    assert ended.code == 0, ended.err
    assert ended.json()["decision"] == "SKIPPED"
    assert "plugin layout" in ended.json()["reason"]
    assert "SKIPPED" in ended.err
