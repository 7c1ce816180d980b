"""The reference step: what it writes, and which models it refuses."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from lmi_verify import reference
from lmi_verify.errors import LimitsTooSmall, Malformed, ModelUnreadable, PromptSetUnknown
from lmi_verify.prompts import token_digest


@pytest.fixture
def broken(model_dir: Path, tmp_path: Path) -> Path:
    return shutil.copytree(model_dir, tmp_path / "model")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_prompts_cover_one_token_to_exactly_the_longest(reference_dir: Path) -> None:
    given = load_file(reference_dir / "prompts.safetensors")
    lengths = [len(given[f"{index:03d}.input_ids"]) for index in range(6)]
    assert lengths[0] == 1
    assert lengths[5] == 96
    assert all(len(given[f"{index:03d}.forced_ids"]) == 64 for index in range(6))


def test_the_digest_names_the_tokens(reference_dir: Path) -> None:
    asked = json.loads((reference_dir / "prompts.json").read_text())
    answered = json.loads((reference_dir / "outputs.json").read_text())
    given = load_file(reference_dir / "prompts.safetensors")
    parts = ("text_ids", "input_ids", "forced_ids", "rows")
    ids = [
        (each["id"], [given[f"{i:03d}.{part}"].tolist() for part in parts])
        for i, each in enumerate(asked["prompts"])
    ]
    digest = token_digest(
        asked["source_digest"], vocab_size=300, eos_token_ids=asked["eos_token_ids"], ids=ids
    )
    assert asked["digest"] == answered["prompts_digest"] == digest
    assert asked["vocab_size"] == answered["vocab_size"] == 300
    assert asked["forced_tokens"] == 64


def test_it_is_transformers_own_greedy_generation(model_dir: Path, reference_dir: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    given = load_file(reference_dir / "prompts.safetensors")
    made = load_file(reference_dir / "outputs.safetensors")
    answered = json.loads((reference_dir / "outputs.json").read_text())["prompts"]
    for index, answer in enumerate(answered):
        ids = given[f"{index:03d}.input_ids"][None]
        right = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=64, do_sample=False
        )[0, ids.shape[1] :]
        assert made[f"{index:03d}.generated_ids"].tolist() == right.tolist()
        assert answer["finish_reason"] == ("eos_token" if right[-1] == 1 else "length")


def test_forced_rows_predict_the_forced_ids(reference_dir: Path) -> None:
    given = load_file(reference_dir / "prompts.safetensors")
    made = load_file(reference_dir / "outputs.safetensors")
    for index in range(6):
        rows = made[f"{index:03d}.forced_logits"]
        assert rows.dtype == torch.float32
        assert rows.argmax(dim=1).tolist() == given[f"{index:03d}.forced_ids"].tolist()
        assert torch.equal(rows[0], made[f"{index:03d}.prompt_logits"][-1])


def test_a_continuation_stops_at_the_models_end_token_and_forcing_goes_on(
    broken: Path, reference_dir: Path, reference_params: Mapping[str, object], out: Path
) -> None:
    usual = load_file(reference_dir / "prompts.safetensors")["001.forced_ids"].tolist()
    end = usual[20]
    content = json.loads((broken / "generation_config.json").read_text())
    content["eos_token_id"] = [end, 1]
    (broken / "generation_config.json").write_text(json.dumps(content))
    reference.run(reference_params, {"model": broken}, out)
    answered = json.loads((out / "outputs.json").read_text())["prompts"][1]
    stopped = load_file(out / "outputs.safetensors")["001.generated_ids"].tolist()
    assert stopped == usual[: usual.index(end) + 1]
    assert answered["finish_reason"] == "eos_token"
    assert load_file(out / "prompts.safetensors")["001.forced_ids"].tolist() == usual
    assert json.loads((out / "prompts.json").read_text())["eos_token_ids"] == [end, 1]


def test_small_limits_shrink_the_forced_part_and_say_so(
    model_dir: Path, reference_params: Mapping[str, object], out: Path
) -> None:
    params = {**reference_params, "max_input_len": 8, "max_seq_len": 12}
    reference.run(params, {"model": model_dir}, out)
    given = load_file(out / "prompts.safetensors")
    assert json.loads((out / "prompts.json").read_text())["forced_tokens"] == 6
    assert len(given["005.input_ids"]) == len(given["005.forced_ids"]) == 6


@pytest.mark.parametrize(
    ("max_input_len", "max_seq_len", "expected"),
    [
        (512, 1024, (512, 64)),
        (512, 512, (448, 64)),
        (128, 128, (64, 64)),
        (100, 40, (20, 20)),
        (1, 2, (1, 1)),
    ],
)
def test_budget(max_input_len: int, max_seq_len: int, expected: tuple[int, int]) -> None:
    found = reference.budget(max_input_len=max_input_len, max_seq_len=max_seq_len, forced_tokens=64)
    assert found == expected
    assert sum(found) <= max_seq_len


@pytest.mark.parametrize(("max_input_len", "max_seq_len"), [(0, 64), (8, 1), (8, 0)])
def test_no_room_at_all_is_the_recipes_fault(max_input_len: int, max_seq_len: int) -> None:
    with pytest.raises(LimitsTooSmall, match="shapes"):
        reference.budget(max_input_len=max_input_len, max_seq_len=max_seq_len, forced_tokens=64)


def truncate(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def garbage(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"\xff" * 200)


def drop_weight(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


def reshape_weight(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(32)
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


def nan_weight(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    weights["model.layers.0.self_attn.q_proj.weight"][3, 3] = np.nan
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


def lost_shard(model: Path) -> None:
    names = load_file(model / "model.safetensors")
    content = {"weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    (model / "model.safetensors.index.json").write_text(json.dumps(content))


def unknown_architecture(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": "nosuch"}')


def small_embedding(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:100].clone()
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    content = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**content, "vocab_size": 100}))


@pytest.mark.parametrize(
    ("damage", "file", "why"),
    [
        (truncate, "model.safetensors", "incomplete metadata"),
        (garbage, "model.safetensors", "header"),
        (lambda model: (model / "model.safetensors").unlink(), "model.safetensors", "no such file"),
        (lambda model: (model / "tokenizer.json").unlink(), "tokenizer.json", "no such file"),
        (lambda model: (model / "tokenizer.json").write_text("{"), "tokenizer.json", "property"),
        (lambda model: (model / "config.json").unlink(), "config.json", "model_type"),
        (drop_weight, "model.safetensors", "first is model.layers.1.mlp.up_proj.weight"),
        (reshape_weight, "model.safetensors", r"model.norm.weight has the shape \[32\]"),
        (nan_weight, "model.safetensors", "layers.0.self_attn.q_proj.weight holds NaN"),
        (lost_shard, "model-00001-of-00001.safetensors", "no such file"),
        (unknown_architecture, "config.json", "nosuch"),
        (small_embedding, "model", "does not run"),
    ],
)
def test_a_model_that_is_not_whole_is_refused_by_file(
    broken: Path,
    out: Path,
    reference_params: Mapping[str, object],
    damage: Callable[[Path], object],
    file: str,
    why: str,
) -> None:
    damage(broken)
    with pytest.raises(ModelUnreadable, match=why) as caught:
        reference.run(reference_params, {"model": broken}, out)
    assert caught.value.path.name == file
    assert list(out.iterdir()) == []


def test_another_digest_of_the_prompts_is_refused(
    model_dir: Path, out: Path, reference_params: Mapping[str, object]
) -> None:
    with pytest.raises(PromptSetUnknown, match="not sha256:00"):
        reference.run(
            {**reference_params, "prompts_digest": "sha256:00"}, {"model": model_dir}, out
        )


def test_a_missing_parameter_is_named(model_dir: Path, out: Path) -> None:
    with pytest.raises(Malformed, match=r"params\.prompts must be there"):
        reference.run({}, {"model": model_dir}, out)
