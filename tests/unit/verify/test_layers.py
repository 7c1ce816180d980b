"""The drill-down: the first layer at which packaged weights leave the noise band."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lmi_verify import layers
from lmi_verify.errors import OutputsUnusable


@pytest.fixture
def explained(model_dir: Path, reference_dir: Path, tmp_path: Path) -> Callable[..., dict]:
    def run(change: Callable[[dict[str, torch.Tensor]], object], rounding: str = "none") -> dict:
        tree, out = tmp_path / "tree", tmp_path / "out"
        tree.mkdir()
        out.mkdir()
        weights = load_file(model_dir / "model.safetensors")
        change(weights)
        save_file(weights, tree / "weights.safetensors")
        params = {"dtype": "float32", "rounding": rounding, "trust_remote_code": False}
        inputs = {"model": model_dir, "reference": reference_dir, "package": tree}
        layers.run(params, inputs, out)
        return json.loads((out / "layers.json").read_text())

    return run


def test_the_models_own_weights_leave_no_band(explained: Callable[..., dict]) -> None:
    found = explained(lambda weights: weights)
    assert found["first"] is None
    assert [each["error"] for each in found["layers"]] == [0.0] * len(found["layers"])
    names = [each["name"] for each in found["layers"]]
    assert {"model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm"} <= set(names)


def test_the_first_wrong_layer_and_the_changed_weight_are_named(
    explained: Callable[..., dict],
) -> None:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["model.layers.1.self_attn.o_proj.weight"] *= 1.01

    found = explained(change)
    assert found["first"] == "model.layers.1"
    assert found["tensors"][0]["name"] == "model.layers.1.self_attn.o_proj.weight"
    assert found["tensors"][0]["change"] == pytest.approx(0.01, rel=1e-3)


def test_eight_bits_are_inside_their_own_band_and_two_percent_are_not(
    explained: Callable[..., dict], tmp_path: Path
) -> None:
    def eight(weights: dict[str, torch.Tensor], spoil: float = 1.0) -> None:
        for name in list(weights):
            if weights[name].dim() > 1:
                scale = weights[name].abs().amax(1) / 127
                whole = torch.round(weights[name] / scale[:, None]).to(torch.int8)
                weights[name] = whole
                factor = spoil if "layers.0.mlp.down" in name else 1.0
                weights[name.removesuffix("weight") + "weight_scale"] = scale * factor

    assert explained(eight, "int8-rows")["first"] is None
    for folder in ("tree", "out"):
        shutil.rmtree(tmp_path / folder)
    found = explained(lambda weights: eight(weights, 1.1), "int8-rows")
    assert found["tensors"][0]["name"] == "model.layers.0.mlp.down_proj.weight"


def test_a_tree_of_other_names_is_refused(explained: Callable[..., dict]) -> None:
    def rename(weights: dict[str, torch.Tensor]) -> None:
        for name in list(weights):
            weights[f"other.{name}"] = weights.pop(name)

    with pytest.raises(OutputsUnusable, match="none of the model's names"):
        explained(rename)
