"""The whole flow on a CUDA device, where there is one: nothing of it runs without."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lmi import Lmi, write_recipe

# An instance type with a device of each architecture that the toolchain builds for.
INSTANCES = {80: "ml.p4d.24xlarge", 86: "ml.g5.xlarge", 89: "ml.g6.xlarge", 90: "ml.p5.4xlarge"}
FP8_SM = 89

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture
def instance() -> str:
    major, minor = torch.cuda.get_device_capability()
    return INSTANCES[10 * major + minor]


@pytest.mark.parametrize("changes", [(), ("dtype=bfloat16",), ("shapes.max_batch_size=3",)])
def test_a_model_is_compiled_judged_and_proven_on_the_device(
    lmi: Lmi, make_tiny_llama: Callable[..., Path], instance: str, changes: tuple[str, ...]
) -> None:
    make_tiny_llama(lmi.home / "model")
    recipe = write_recipe(lmi.home / "tiny.yaml", "./model")
    wanted = ("toolchain=aoti-torch-2.13-cuda", f"target={{instance_type: {instance}}}", *changes)
    ended = lmi("build", recipe.name, "--json", *(f"--set={one}" for one in wanted))
    assert ended.code == 0, ended.err
    built = ended.json()
    assert (built["decision"], built["proof"]) == ("ACCEPT", "PROVEN")


def test_fp8_multiplies_on_the_tensor_cores(
    lmi: Lmi, make_tiny_llama: Callable[..., Path], instance: str
) -> None:
    major, minor = torch.cuda.get_device_capability()
    assert 10 * major + minor >= FP8_SM, "an FP8 product needs Ada or newer: run this on one"
    make_tiny_llama(lmi.home / "model")
    recipe = write_recipe(lmi.home / "tiny.yaml", "./model")
    wanted = (
        "toolchain=aoti-torch-2.13-cuda",
        f"target={{instance_type: {instance}}}",
        "quantization={method: fp8, fp8: {per_token: true}}",
    )
    ended = lmi("build", recipe.name, "--json", *(f"--set={one}" for one in wanted))
    assert ended.code == 0, ended.err
    assert ended.json()["proof"] == "PROVEN"
