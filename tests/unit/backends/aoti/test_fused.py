"""Experts that a checkpoint stores one by one become the model's stacks, and nothing else moves."""

import json
from pathlib import Path

import pytest
import torch
from family_configs import DECODERS
from safetensors.torch import load_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from lmi_compile.backends.aoti import weights
from lmi_compile.backends.aoti.forms import PLAIN
from lmi_compile.backends.aoti.fused import renamed, stacks


@pytest.mark.slow
@pytest.mark.parametrize("shown", ["Mixtral", "Qwen2-MoE"])
def test_what_transformers_saves_is_read_back_bit_for_bit(shown: str, tmp_path: Path) -> None:
    (given,) = [family.config for family in DECODERS if family.shown == shown]
    config = CONFIG_MAPPING[given["model_type"]].from_dict(given)
    model = AutoModelForCausalLM.from_config(config)
    for folder in ("model", "compile", "out"):
        (tmp_path / folder).mkdir()
    model.save_pretrained(tmp_path / "model")
    expected = model.state_dict()
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert set(saved) != set(expected)
    described = {
        "tensors": {
            "weights.safetensors": {
                name: {"shape": list(tensor.shape), "dtype": "float32"}
                for name, tensor in expected.items()
            }
        },
        "quantization": PLAIN.to_json(),
        "model": {"tensor_parallel_degree": 1},
        "parallel": {"splits": {}},
        "dtype": "float32",
        "tied": {},
        "ignored": [],
    }
    (tmp_path / "compile" / "graphs.json").write_text(json.dumps(described), encoding="utf-8")
    inputs = {"model": tmp_path / "model", "compile": tmp_path / "compile"}
    weights.run({}, inputs, tmp_path / "out")
    written = load_file(tmp_path / "out" / "weights.safetensors")
    assert set(written) == set(expected)
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())


def test_experts_are_in_the_order_of_their_numbers_gate_before_up() -> None:
    stored = [
        f"l.mlp.experts.{n}.{part}.weight" for n in (10, 2) for part in ("up_proj", "gate_proj")
    ]
    assert stacks(stored) == {
        "l.mlp.experts.gate_up_proj": [
            ["l.mlp.experts.2.gate_proj.weight", "l.mlp.experts.2.up_proj.weight"],
            ["l.mlp.experts.10.gate_proj.weight", "l.mlp.experts.10.up_proj.weight"],
        ]
    }


def test_a_plain_models_names_are_left_alone() -> None:
    names = ["model.layers.0.mlp.gate_proj.weight", "lm_head.weight"]
    assert stacks(names) == {}
    assert [renamed(name) for name in names] == names
