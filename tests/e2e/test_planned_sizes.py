"""What the plan says of SmolLM2 before the build, held against the build."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from lmi import SmolLM2

pytestmark = [pytest.mark.slow, pytest.mark.smollm2]

_LOAD = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from lmi_aoti_runtime.service import Service
body = {"inputs": "The capital of France is", "parameters": {"max_new_tokens": 1}}
service = Service(Path(sys.argv[1]))
service.reply(json.dumps(body).encode(), "application/json")
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024)
"""


def _planned(smollm2: SmolLM2) -> dict[str, int]:
    build: dict[str, int] = smollm2.lmi("plan", smollm2.recipe, "--json").json()["build"]
    return build


def test_the_checkpoint_has_the_planned_bytes(smollm2: SmolLM2) -> None:
    model = Path(smollm2.lmi(smollm2.recipe, "--until", "model", "--json").json()["path"])
    plan = smollm2.lmi("plan", smollm2.recipe, "--json").json()
    real = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    assert plan["model"]["parameters"] * 4 == pytest.approx(real, rel=0.005)
    assert plan["memory_per_rank"]["weights"] == pytest.approx(real, rel=0.005)


def test_the_package_has_the_planned_bytes(smollm2: SmolLM2) -> None:
    tree = Path(smollm2.built["path"])
    real = sum(file.stat().st_size for file in tree.rglob("*") if file.is_file())
    assert _planned(smollm2)["artifact_bytes"] == pytest.approx(real, rel=0.01)


def test_loading_it_takes_the_planned_memory(smollm2: SmolLM2) -> None:
    tree = smollm2.built["path"]
    said = subprocess.check_output([sys.executable, "-B", "-c", _LOAD, tree], text=True)
    assert _planned(smollm2)["load_bytes"] == pytest.approx(json.loads(said), rel=0.15)


def test_what_is_built_is_shown_as_cached(smollm2: SmolLM2) -> None:
    plan = smollm2.lmi("plan", smollm2.recipe, "--json").json()
    assert plan["cached_steps"] == [step["name"] for step in plan["steps"]]
