"""SmolLM2-135M's TensorRT-LLM checkpoints at TP 1 and 3, by nvidia-modelopt on this CPU.

A few calibration windows and two evaluation windows, so that it costs about a minute; the figures
of quality are those of `make checkpoints`.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lmi import SmolLM2

from lmi_compile.errors import EnvironmentFault
from lmi_compile.quantize import calibration, candidate, evaluation, judging, modelopt
from lmi_compile.quantize.cells import table
from lmi_compile.quantize.checkpoint import read_merged
from lmi_compile.quantize.weights import check_weights, compare_weights

FORMATS = ("none", "int8_sq", "fp8_kv_fp8")
pytestmark = [pytest.mark.slow, pytest.mark.smollm2]


def _request(root: Path, model: Path, name: str, degree: int) -> dict[str, Any]:
    found = table()["formats"][name]
    params = {
        "decoder": "llama",
        "format": name,
        "quant_algo": found["quant_algo"],
        "kv_cache_quant_algo": found["kv_cache_quant_algo"],
        "group_size": None,
        "alpha": 0.8,
        "dtype": "float16",
        "tp_size": degree,
        "num_samples": 2,
        "max_seq_len": 64,
    }
    inputs = {"model": str(model), "calibration": str(root / "calibration")}
    return {"params": params, "inputs": inputs, "out": str(root / f"{name}-{degree}")}


@pytest.fixture(scope="module")
def model(smollm2: SmolLM2) -> Path:
    return Path(smollm2.lmi(smollm2.recipe, "--until", "model", "--json").json()["path"])


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All six checkpoints, made in one process, each held against the model's config."""
    try:
        site = modelopt.find_modelopt()
    except EnvironmentFault:
        pytest.skip("needs nvidia-modelopt (make dev)")
    root = tmp_path_factory.mktemp("smollm2-checkpoints")
    (root / "calibration").mkdir()
    asked = {"dataset": calibration.BUILT_IN, "num_samples": 2, "max_seq_len": 64}
    calibration.run(asked, {}, root / "calibration")
    requests = [_request(root, model, name, degree) for name in FORMATS for degree in (1, 3)]
    modelopt.run_child(requests, root, site)
    for request in requests:
        modelopt.repair_config(Path(request["out"]))
        modelopt.check_config(Path(request["out"]), model, request["params"])
    return root


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.uint8) if tensor.dtype == torch.float8_e4m3fn else tensor


@pytest.mark.parametrize("name", FORMATS)
def test_three_ranks_merge_to_the_bits_of_one(name: str, made: Path) -> None:
    assert len(list((made / f"{name}-3").glob("rank*.safetensors"))) == 3
    one, three = (read_merged(made / f"{name}-{degree}").tensors for degree in (1, 3))
    assert set(one) == set(three)
    assert [each for each in one if not torch.equal(_bits(one[each]), _bits(three[each]))] == []


def test_its_own_rotary_base_is_in_every_checkpoint(made: Path) -> None:
    for name in FORMATS:
        config = json.loads((made / f"{name}-3" / "config.json").read_bytes())
        assert config["rotary_base"] == 100000.0
        assert config["mapping"]["tp_size"] == 3


def test_the_checkpoint_of_three_ranks_is_accepted_before_any_engine(
    made: Path, model: Path, tmp_path: Path
) -> None:
    places = {"model": model, "checkpoint": made / "none-3"}
    for name in ("checkpoint-reference", "checkpoint-candidate", "verdict"):
        places[name] = tmp_path / name
        places[name].mkdir()
    asked = {"trust_remote_code": False, "windows": 2}
    evaluation.run(asked, places, places["checkpoint-reference"])
    candidate.run({"format": "none"}, places, places["checkpoint-candidate"])
    report = json.loads((places["checkpoint-candidate"] / "checkpoint.json").read_bytes())
    assert (report["exact"], report["differing"], report["quantised"]) == (213, [], 0)
    params = {"dtype": "float16", "method": "none", "gates": {}, "shows": []}
    judging.run(params, places, places["verdict"])
    verdict = json.loads((places["verdict"] / "verdict.json").read_bytes())
    assert verdict["decision"] == "ACCEPT", verdict["summary"]


def test_quantised_weights_are_the_models_as_far_as_the_format_goes(
    made: Path, model: Path
) -> None:
    right = candidate._weights(model)
    for name in FORMATS[1:]:
        report = compare_weights(read_merged(made / f"{name}-3"), right)
        assert report.differing == ()
        assert report.quantised == 150
        check_weights(report, table()["weight_error_limits"].get(name))
