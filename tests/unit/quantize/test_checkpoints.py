"""Real checkpoints by nvidia-modelopt on a CPU: whole, equal over TP degrees, the model's own."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_decoders import LLAMA3_ROPE, make_decoder
from tiny_llama import make_tokenizer

from lmi_compile.errors import EnvironmentFault, ToolFailed, VerificationFailed
from lmi_compile.feasibility.families.find import shape_of
from lmi_compile.feasibility.memory import checkpoint_bytes
from lmi_compile.feasibility.question import Question
from lmi_compile.quantize import calibration, candidate, evaluation, judging, modelopt
from lmi_compile.quantize.cells import table
from lmi_compile.quantize.checkpoint import read_merged
from lmi_compile.quantize.weights import check_weights, compare_weights

FAMILIES = tuple(table()["families"])
FORMATS = tuple(table()["formats"])
TINY_LIMITS = {"int8_sq": 0.02, "int8_sq_kv_int8": 0.02}  # docs/checkpoints.md
pytestmark = pytest.mark.slow


def _degrees(family: str, name: str) -> tuple[int, ...]:
    wide = name in {"none", "fp8"} or (family == "llama" and name != "int4_awq")
    return (1, 2, 4) if wide else (1, 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every cell of the table, made in one process; `<family>-<format>-<tp>`."""
    try:
        site = modelopt.find_modelopt()
    except EnvironmentFault:
        pytest.skip("needs nvidia-modelopt (make dev)")
    root = tmp_path_factory.mktemp("checkpoints")
    (root / "calibration").mkdir()
    asked = {"dataset": calibration.BUILT_IN, "num_samples": 4, "max_seq_len": 32}
    calibration.run(asked, {}, root / "calibration")
    requests = []
    for family in FAMILIES:
        scaled = {"rope_parameters": LLAMA3_ROPE} if family == "llama" else {}
        make_decoder(root / family, family, make_tokenizer(), **scaled)
        requests += [
            _request(root, family, name, degree)
            for name in FORMATS
            for degree in _degrees(family, name)
        ]
    modelopt.run_child(requests, root, site)
    for request in requests:
        modelopt.repair_config(Path(request["out"]))
        modelopt.check_config(Path(request["out"]), root / _family(request), request["params"])
    return root


def _family(request: dict[str, Any]) -> str:
    return Path(request["out"]).name.partition("-")[0]


def _request(root: Path, family: str, name: str, degree: int) -> dict[str, Any]:
    found = table()["formats"][name]
    return {
        "params": {
            "decoder": table()["families"][family]["decoder"],
            "format": name,
            "quant_algo": found["quant_algo"],
            "kv_cache_quant_algo": found["kv_cache_quant_algo"],
            "group_size": 128,
            "alpha": 0.8,
            "dtype": "float16",
            "tp_size": degree,
            "num_samples": 4,
            "max_seq_len": 32,
        },
        "inputs": {"model": str(root / family), "calibration": str(root / "calibration")},
        "out": str(root / f"{family}-{name}-{degree}"),
    }


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.uint8) if tensor.dtype == torch.float8_e4m3fn else tensor


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_degree_merges_to_the_same_bits(family: str, name: str, made: Path) -> None:
    first = read_merged(made / f"{family}-{name}-1")
    for degree in _degrees(family, name)[1:]:
        other = read_merged(made / f"{family}-{name}-{degree}")
        assert set(other.tensors) == set(first.tensors)
        for tensor, value in other.tensors.items():
            assert torch.equal(_bits(value), _bits(first.tensors[tensor])), tensor


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_weights_are_the_models(family: str, name: str, made: Path) -> None:
    report = compare_weights(
        read_merged(made / f"{family}-{name}-2"), candidate._weights(made / family)
    )
    assert report.differing == ()
    assert (report.quantised == 0) == (name == "none")
    limit = TINY_LIMITS.get(name, table()["weight_error_limits"].get(name))
    check_weights(report, limit)


def test_the_rotary_base_and_scaling_are_in_the_checkpoint(made: Path) -> None:
    llama = json.loads((made / "llama-none-1" / "config.json").read_bytes())
    assert llama["rotary_base"] == 500000.0
    assert llama["rotary_scaling"]["rope_type"] == "llama3"
    mistral = json.loads((made / "mistral-none-1" / "config.json").read_bytes())
    assert mistral["rotary_base"] == 50000.0
    assert {"rank", "quant_cfg"}.isdisjoint(mistral)
    assert not (made / "mistral-none-1" / "quant_cfg.json").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rotary_base", None), ("rotary_scaling", None), ("norm_epsilon", 1e-3),
        ("num_key_value_heads", 8), ("vocab_size", 513),
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_model_is_refused(
    field: str, value: object, made: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(made / "llama-none-1", tmp_path / "copy")
    config = json.loads((copy / "config.json").read_bytes())
    config.pop(field) if value is None else config.update({field: value})
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    params = _request(made, "llama", "none", 1)["params"]
    with pytest.raises(ToolFailed) as refused:
        modelopt.check_config(copy, made / "llama", params)
    assert field in refused.value.why


def _outputs(made: Path, tmp_path: Path, family: str, checkpoint: Path) -> dict[str, Any]:
    """The verdict on a checkpoint of `family`, with float16's gates."""
    places = {"model": made / family, "checkpoint": checkpoint}
    for name in ("checkpoint-reference", "checkpoint-candidate", "verdict"):
        places[name] = tmp_path / name
        places[name].mkdir()
    asked = {"trust_remote_code": False, "windows": 2}
    evaluation.run(asked, places, places["checkpoint-reference"])
    candidate.run({"format": "none"}, places, places["checkpoint-candidate"])
    params = {"dtype": "float16", "method": "none", "gates": {}, "shows": []}
    judging.run(params, places, places["verdict"])
    verdict: dict[str, Any] = json.loads((places["verdict"] / "verdict.json").read_bytes())
    return verdict


def test_a_good_checkpoint_is_accepted(made: Path, tmp_path: Path) -> None:
    verdict = _outputs(made, tmp_path, "qwen3", made / "qwen3-none-4")
    assert verdict["decision"] == "ACCEPT", verdict["summary"]


def test_gpt2_and_its_position_embedding_too(made: Path, tmp_path: Path) -> None:
    verdict = _outputs(made, tmp_path, "gpt2", made / "gpt2-none-2")
    assert verdict["decision"] == "ACCEPT", verdict["summary"]


def test_a_lost_rotary_base_shows_in_the_verdict(made: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(made / "mistral-none-1", tmp_path / "copy")
    config = json.loads((copy / "config.json").read_bytes())
    del config["rotary_base"]
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    verdict = _outputs(made, tmp_path, "mistral", copy)
    assert verdict["decision"] == "REGRESSION"


def test_a_swapped_shard_and_a_missing_rank_are_refused(made: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(made / "qwen2-none-2", tmp_path / "copy")
    one, two = copy / "rank0.safetensors", copy / "rank1.safetensors"
    first, second = load_file(one), load_file(two)
    name = "transformer.layers.0.mlp.fc.weight"
    first[name], second[name] = second[name], first[name]
    save_file(first, one)
    save_file(second, two)
    report = compare_weights(read_merged(copy), candidate._weights(made / "qwen2"))
    assert report.differing == (name,)
    with pytest.raises(VerificationFailed):
        check_weights(report, None)
    two.unlink()
    with pytest.raises(VerificationFailed) as refused:
        read_merged(copy)
    assert "rank1" in refused.value.why


def test_a_failed_export_leaves_nothing(made: Path, tmp_path: Path) -> None:
    request = _request(made, "llama", "int4_awq", 4)  # 512 / 4 columns and groups of 96
    params = {**request["params"], "group_size": 96}
    inputs = {name: Path(path) for name, path in request["inputs"].items()}
    with pytest.raises(ToolFailed):
        modelopt.run(params, inputs, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["none", "fp8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_planner_foretold_the_bytes(family: str, name: str, made: Path) -> None:
    """Tensor bytes of all ranks; a tiny model's norms and scales weigh more than a real one's."""
    config = json.loads((made / family / "config.json").read_bytes())
    shape = shape_of(config)
    assert shape is not None
    for degree in _degrees(family, name):
        question = Question(
            shape=shape, backend="tensorrt-llm", dtype="float16", kv_dtype="auto",
            method="none" if name == "none" else "fp8", tensor_parallel=degree,
            pipeline_parallel=1, batch=1, input_len=8, seq_len=16, num_tokens=16, instance=None,
        )  # fmt: skip
        found = 0
        for path in (made / f"{family}-{name}-{degree}").glob("rank*.safetensors"):
            found += sum(tensor.nbytes for tensor in load_file(path).values())
        assert checkpoint_bytes(question) == pytest.approx(found, rel=0.005), degree
