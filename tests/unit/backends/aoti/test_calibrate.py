"""Calibration: the text, the samples, what is seen, and texts that cannot be used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from lmi_compile.backends.aoti import calibrate
from lmi_compile.backends.aoti.ranges import observe, read_ranges
from lmi_compile.errors import ModelFault, Unsupported, exit_code_of

PARAMS = {"num_samples": 4, "max_seq_len": 16, "seed": 7}
TEXT = "the thing is and the other thing on the ground; " * 40
MakeLlama = Callable[..., Path]


@pytest.fixture(scope="module")
def model(make_tiny_llama: MakeLlama, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("calibrate") / "model")


def _run(model: Path, folder: Path, content: bytes, **changes: int) -> Path:
    dataset, out = folder / "text.txt", folder / f"out{changes.get('seed', 7)}"
    dataset.write_bytes(content)
    out.mkdir()
    calibrate.run({**PARAMS, **changes}, {"model": model, "dataset": dataset}, out)
    return out


def test_ranges_are_those_of_the_inputs_of_every_layer(model: Path, tmp_path: Path) -> None:
    found = read_ranges(_run(model, tmp_path, TEXT.encode()))
    loaded = AutoModelForCausalLM.from_pretrained(model)
    layers = {
        name
        for name, module in loaded.named_modules()
        if type(module) is torch.nn.Linear and name != "lm_head"
    }
    assert set(found.inputs) == layers
    for layer in range(2):
        prefix = f"model.layers.{layer}"
        attention = [f"{prefix}.self_attn.{one}_proj" for one in ("k", "q", "v")]
        assert found.norms[f"{prefix}.input_layernorm"] == attention
        mlp = [f"{prefix}.mlp.gate_proj", f"{prefix}.mlp.up_proj"]
        assert found.norms[f"{prefix}.post_attention_layernorm"] == mlp
    assert len(found.norms) == 4
    same = found.inputs["model.layers.0.self_attn.q_proj"]
    assert torch.equal(same, found.inputs["model.layers.0.self_attn.v_proj"])
    assert (same > 0).all()


def test_ranges_of_the_cache_are_those_of_keys_after_rotation_and_of_values(
    model: Path, tmp_path: Path
) -> None:
    found = read_ranges(_run(model, tmp_path, TEXT.encode()))
    loaded = AutoModelForCausalLM.from_pretrained(model)
    cached = observe(loaded, [torch.arange(9)]).cache
    with torch.no_grad():
        held = loaded(torch.arange(9)[None], use_cache=True).past_key_values.layers
    ends = [[layer.keys.abs().max(), layer.values.abs().max()] for layer in held]
    assert torch.allclose(cached, torch.tensor(ends))
    assert found.cache.shape == (2, 2)
    assert "cache" not in found.inputs


def test_the_seed_chooses_and_the_same_seed_chooses_the_same(model: Path, tmp_path: Path) -> None:
    text = " ".join(f"{number * 7919} thing" for number in range(400)).encode()
    first = read_ranges(_run(model, tmp_path, text)).inputs
    (tmp_path / "again").mkdir()
    again = read_ranges(_run(model, tmp_path / "again", text)).inputs
    other = read_ranges(_run(model, tmp_path, text, seed=8)).inputs
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    told = json.loads((tmp_path / "out7" / "calibration.json").read_text(encoding="utf-8"))
    assert (told["num_samples"], told["layers"], told["norms"]) == (4, 14, 4)


@pytest.mark.parametrize(
    ("content", "changes", "says"),
    [
        (b"", {}, "empty"),
        (b" \n\t ", {}, "empty"),
        (b"\xff\xfe nothing", {}, "not UTF-8"),
        (b"the thing", {}, "too short"),
        (TEXT.encode(), {"num_samples": 4000}, "too short"),
    ],
)
def test_a_text_that_cannot_be_used(
    model: Path, tmp_path: Path, content: bytes, changes: dict[str, int], says: str
) -> None:
    with pytest.raises(Unsupported, match=says) as caught:
        _run(model, tmp_path, content, **changes)
    assert exit_code_of(caught.value) == 3
    assert not list((tmp_path / "out7").iterdir())


def test_a_model_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match=r"tokenizer\.json"):
        _run(tmp_path / "nowhere", tmp_path, TEXT.encode())


class _Leaking(LlamaForCausalLM):
    """A layer's norm is read by something that is no module."""

    def forward(self, *given: Any, **named: Any) -> Any:
        read: list[torch.Tensor] = []
        norm = self.model.layers[0].input_layernorm
        handle = norm.register_forward_hook(lambda *call: read.append(call[2].sum(-1)))
        out = super().forward(*given, **named)
        handle.remove()
        out.logits = out.logits + read[0][..., None]
        return out


def test_a_norm_that_something_else_reads_is_not_folded() -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    config = LlamaConfig(vocab_size=50, num_attention_heads=4, num_key_value_heads=2, **sizes)
    samples = [torch.arange(9)]
    torch.manual_seed(0)
    assert len(observe(LlamaForCausalLM(config).eval(), samples).norms) == 2
    with pytest.raises(Unsupported, match="cannot go into its norms"):
        observe(_Leaking(config).eval(), samples)
