"""Weights must be exactly what the graphs read: named, shaped, finite."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from lmi_compile.backends.aoti import weights
from lmi_compile.errors import ModelFault

Tensors = dict[str, torch.Tensor]
Convert = Callable[[Path], Tensors]
MakeModel = Callable[[Callable[[Tensors], None]], Path]
MakeLlama = Callable[..., Path]
NORM = "model.norm.weight"


@pytest.fixture
def convert(built: SimpleNamespace, tmp_path: Path) -> Callable[[Path], Tensors]:
    """The worker on a model directory; returns what it wrote."""

    def run(model: Path) -> Tensors:
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        weights.run({}, {"model": model, "compile": built.compile}, out)
        return load_file(out / "weights.safetensors")

    return run


@pytest.fixture
def model(built: SimpleNamespace, tmp_path: Path) -> Callable[[Callable[[Tensors], None]], Path]:
    """A checkpoint with changed tensors."""

    def make(change: Callable[[Tensors], None]) -> Path:
        folder = tmp_path / "model"
        folder.mkdir()
        tensors = load_file(built.model / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")
        return folder

    return make


def test_any_float_type_is_cast(built: SimpleNamespace, convert: Convert, model: MakeModel) -> None:
    def narrow(tensors: Tensors) -> None:
        tensors.update({name: tensor.bfloat16() for name, tensor in tensors.items()})

    original = load_file(built.model / "model.safetensors")
    written = convert(model(narrow))
    assert all(torch.equal(written[name], original[name].bfloat16().float()) for name in original)


def test_shards_are_read_through_their_index(
    built: SimpleNamespace, convert: Convert, tmp_path: Path
) -> None:
    tensors = load_file(built.model / "model.safetensors")
    folder = tmp_path / "sharded"
    folder.mkdir()
    weight_map = {name: f"model-{index % 2}.safetensors" for index, name in enumerate(tensors)}
    for shard in set(weight_map.values()):
        part = {name: tensors[name] for name, file in weight_map.items() if file == shard}
        save_file(part, folder / shard)
    index = json.dumps({"metadata": {}, "weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    written = convert(folder)
    assert all(torch.equal(written[name], tensors[name]) for name in tensors)
    (folder / "model-1.safetensors").unlink()
    with pytest.raises(ModelFault, match=r"names model-1\.safetensors"):
        weights.run({}, {"model": folder, "compile": built.compile}, folder)


def test_a_tied_head_may_be_stored_and_must_be_equal(convert: Convert, model: MakeModel) -> None:
    embedding = "model.embed_tokens.weight"
    folder = model(lambda it: it.update({"lm_head.weight": it[embedding].clone()}))
    assert "lm_head.weight" not in convert(folder)
    shutil.rmtree(folder)
    folder = model(lambda it: it.update({"lm_head.weight": it[embedding] + 1}))
    with pytest.raises(ModelFault, match=r"ties lm_head\.weight"):
        convert(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda it: it.pop(NORM), f"lacks {NORM}"),
        (lambda it: it.update({"model.extra": torch.ones(3)}), "do not read: model.extra"),
        (lambda it: it.update({NORM: it[NORM][:-1].clone()}), r"has shape \[63\]"),
        (lambda it: it[NORM].fill_(float("nan")), f"{NORM} holds NaN"),
        (lambda it: it[NORM].fill_(float("inf")), f"{NORM} holds infinite"),
        (lambda it: it.update({NORM: it[NORM].double() * 1e300}), "too large a number"),
        (lambda it: it.update({NORM: it[NORM].to(torch.int8)}), "not a floating point type"),
    ],
)
def test_what_does_not_add_up_is_refused_by_name(
    convert: Convert, model: MakeModel, change: Callable[[Tensors], None], says: str
) -> None:
    with pytest.raises(ModelFault, match=says):
        convert(model(change))


@pytest.mark.parametrize("content", [b"", b"\x10\0\0\0\0\0\0\0{", b"no safetensors at all"])
def test_a_damaged_file_is_the_models_fault(
    convert: Convert, tmp_path: Path, content: bytes
) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelFault, match="cannot be read as safetensors"):
        convert(folder)


def test_a_directory_without_weights_is_the_models_fault(convert: Convert, tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match=r"no model\.safetensors"):
        convert(tmp_path)


def test_a_fine_tune_fits_the_same_graphs(
    built: SimpleNamespace, make_tiny_llama: MakeLlama, convert: Convert, tmp_path: Path
) -> None:
    tuned = make_tiny_llama(tmp_path / "tuned", seed=1)
    written = convert(tuned)
    assert set(written) == set(load_file(built.weights / "weights.safetensors"))
    assert torch.equal(written[NORM], load_file(tuned / "model.safetensors")[NORM])
