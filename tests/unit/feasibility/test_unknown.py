"""A family that nobody taught us is bounded by its files' headers, and marked."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lmi_compile.errors import ModelFault
from lmi_compile.feasibility.answer import answer
from lmi_compile.feasibility.families.find import shape_of
from lmi_compile.feasibility.memory import weight_bytes
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.unknown import estimate
from lmi_recipes.target import load_instance

_CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 3, "intermediate_size": 128, "vocab_size": 100,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tensors of a Llama in two files, under a name that is nobody's."""
    tensors = {
        "embed_tokens.weight": torch.zeros(100, 64),
        "lm_head.weight": torch.zeros(100, 64),
        "norm.weight": torch.zeros(64),
    }
    for layer in range(3):
        tensors |= {
            f"layers.{layer}.q.weight": torch.zeros(64, 64),
            f"layers.{layer}.k.weight": torch.zeros(32, 64),
            f"layers.{layer}.v.weight": torch.zeros(32, 64),
            f"layers.{layer}.o.weight": torch.zeros(64, 64),
            f"layers.{layer}.up.weight": torch.zeros(128, 64),
            f"layers.{layer}.gate.weight": torch.zeros(128, 64),
            f"layers.{layer}.down.weight": torch.zeros(64, 128),
            f"layers.{layer}.norm1.weight": torch.zeros(64),
            f"layers.{layer}.norm2.weight": torch.zeros(64),
        }
    names = sorted(tensors)
    save_file({name: tensors[name] for name in names[:9]}, tmp_path / "a.safetensors")
    save_file({name: tensors[name] for name in names[9:]}, tmp_path / "b.safetensors")
    return tmp_path


def _asked(shape: Any, degree: int) -> Question:
    return Question(
        shape=shape, backend="tensorrt-llm", dtype="float16", method="none", kv_dtype="auto",
        tensor_parallel=degree, pipeline_parallel=1, batch=1, input_len=16, seq_len=32,
        num_tokens=None, instance=load_instance("ml.g5.12xlarge"),
    )  # fmt: skip


@pytest.mark.parametrize("config", [_CONFIG | {"model_type": "mystery"}, {"model_type": "mystery"}])
def test_the_estimate_bounds_the_real_model(folder: Path, config: dict[str, Any]) -> None:
    real = shape_of(_CONFIG)
    assert real is not None
    guess = estimate(config, folder)
    assert not guess.exact
    assert guess.parameters == real.parameters
    assert (guess.layers, guess.hidden, guess.vocabulary) == (3, 64, 100)
    for degree in (1, 2):
        assert weight_bytes(_asked(guess, degree)) >= weight_bytes(_asked(real, degree))


def test_the_answer_says_that_it_is_an_estimate(folder: Path) -> None:
    found = answer(_asked(estimate(_CONFIG | {"model_type": "mystery"}, folder), 1))
    assert found["fits"] is True
    assert "bounded from above" in json.dumps(found["warnings"])
    assert found["model"]["exact"] is False  # type: ignore[index,call-overload]


def test_a_damaged_file_is_told(folder: Path) -> None:
    (folder / "b.safetensors").write_bytes(b"\x08\0\0")
    with pytest.raises(ModelFault, match=r"b\.safetensors"):
        estimate({"model_type": "mystery"}, folder)
