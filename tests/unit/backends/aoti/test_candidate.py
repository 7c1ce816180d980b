"""The candidate's outputs come from the packaged tree alone."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from lmi_compile.backends.aoti import candidate
from lmi_compile.errors import VerificationFailed

TEXTS = {"short": "and the thing is", "one": "t"}
STEPS = 10


@pytest.fixture(scope="module")
def reference(built: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts with the model's own greedy continuation, by the probe contract."""
    folder = tmp_path_factory.mktemp("reference")
    tokenizer = Tokenizer.from_file(str(built.model / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(built.model).eval()
    tensors: dict[str, torch.Tensor] = {}
    for index, text in enumerate(TEXTS.values()):
        ids = torch.tensor(tokenizer.encode(text).ids)
        forced = model.generate(ids[None], min_new_tokens=STEPS, max_new_tokens=STEPS)
        tensors[f"{index:03d}.input_ids"] = ids
        tensors[f"{index:03d}.forced_ids"] = forced[0, len(ids) :].clone()
    save_file(tensors, folder / "prompts.safetensors")
    listing = {
        "format": 1,
        "digest": "sha256:00",
        "prompts": [{"id": name, "text": text} for name, text in TEXTS.items()],
    }
    (folder / "prompts.json").write_text(json.dumps(listing), encoding="utf-8")
    return folder


def test_its_outputs_are_the_models(
    built: SimpleNamespace, reference: Path, tmp_path: Path
) -> None:
    candidate.run({}, {"package": built.package, "reference": reference}, tmp_path)
    told = json.loads((tmp_path / "outputs.json").read_text(encoding="utf-8"))
    assert told["format"] == 2
    assert told["prompts_digest"] == "sha256:00"
    assert told["vocab_size"] == 300
    assert [prompt["id"] for prompt in told["prompts"]] == list(TEXTS)
    outputs, given = (
        load_file(tmp_path / "outputs.safetensors"),
        load_file(reference / "prompts.safetensors"),
    )
    model = AutoModelForCausalLM.from_pretrained(built.model).eval()
    for index in range(len(TEXTS)):
        number = f"{index:03d}"
        ids, forced = given[f"{number}.input_ids"], given[f"{number}.forced_ids"]
        with torch.no_grad():
            rows = model(torch.cat([ids, forced])[None]).logits[0]
        limit = 1e-5 * float(rows.abs().max())
        n = len(ids)
        assert (outputs[f"{number}.prompt_logits"] - rows[:n]).abs().max() <= limit
        expected = rows[n - 1 : n - 1 + STEPS]
        assert (outputs[f"{number}.forced_logits"] - expected).abs().max() <= limit
        generated = outputs[f"{number}.generated_ids"]
        assert torch.equal(generated, forced[: len(generated)])
    assert not list(built.package.rglob("__pycache__"))


def _damaged(built: SimpleNamespace, tmp_path: Path, name: str) -> Path:
    tree = Path(shutil.copytree(built.package, tmp_path / "tree", copy_function=os.link))
    (tree / name).unlink()
    return tree


@pytest.mark.parametrize("name", ["model.py", "lmi_aoti_runtime/sampling.py"])
def test_a_deleted_file_makes_it_fail(
    built: SimpleNamespace, reference: Path, tmp_path: Path, name: str
) -> None:
    tree = _damaged(built, tmp_path, name)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(VerificationFailed, match="could not run") as failure:
        candidate.run({}, {"package": tree, "reference": reference}, out)
    assert name.rpartition("/")[2].removesuffix(".py") in failure.value.why
    assert not (out / "outputs.json").exists()


def test_another_tokenizer_than_the_references_is_told_to_the_judge(
    built: SimpleNamespace, reference: Path, tmp_path: Path
) -> None:
    tree = _damaged(built, tmp_path, "tokenizer.json")
    content = json.loads((built.package / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["merges"] = []
    text = json.dumps(content)
    (tree / "tokenizer.json").write_text(text, encoding="utf-8")
    description = json.loads((tree / "runtime.json").read_text(encoding="utf-8"))
    description["files"]["tokenizer.json"] = len(text.encode())
    (tree / "runtime.json").unlink()
    (tree / "runtime.json").write_text(json.dumps(description), encoding="utf-8")
    candidate.run({}, {"package": tree, "reference": reference}, tmp_path)
    outputs = load_file(tmp_path / "outputs.safetensors")
    given = load_file(reference / "prompts.safetensors")
    assert not torch.equal(outputs["000.text_ids"], given["000.input_ids"])
