"""The packaged tree: what is in it, and that nothing of it may be missing or of another build."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from lmi_artifacts.properties import parse_properties
from lmi_compile.backends.aoti.runtime import environment
from lmi_compile.backends.aoti.runtime.environment import RuntimeMismatch
from lmi_compile.backends.aoti.runtime.graphs import Graphs
from lmi_compile.backends.aoti.runtime.tensorfile import write_tensors


def _files(tree: Path) -> set[str]:
    return {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}


@pytest.fixture
def tree(built: SimpleNamespace, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(built.package, tmp_path / "tree"))


def _edit(tree: Path, change: Callable[[dict], None]) -> None:
    path = tree / "runtime.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    change(description)
    path.write_text(json.dumps(description), encoding="utf-8")


def test_the_root_is_what_a_serving_container_reads(built: SimpleNamespace) -> None:
    files = _files(built.package)
    assert {
        "serving.properties",
        "model.py",
        "runtime.json",
        "weights.safetensors",
        "constants.safetensors",
        "tokenizer.json",
        "graphs/prefill/model.so",
        "graphs/decode/model.so",
        "hf/config.json",
        "lmi_aoti_runtime/graphs.py",
    } <= files
    assert "config.json" not in files, "it would set djl-serving's recommender going"
    assert "lmi_aoti_runtime/handler.py" not in files
    assert parse_properties((built.package / "serving.properties").read_bytes()) == {
        "engine": "Python",
        "option.entryPoint": "model.py",
        "option.rolling_batch": "disable",
        "option.async_mode": "false",
        "minWorkers": "1",
        "maxWorkers": "1",
    }


def test_weights_have_the_checkpoints_names_and_the_tied_head_once(built: SimpleNamespace) -> None:
    ours, theirs = (
        load_file(built.package / "weights.safetensors"),
        load_file(built.model / "model.safetensors"),
    )
    assert set(ours) == set(theirs)
    assert "lm_head.weight" not in ours
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_deleting_or_cutting_any_file_is_noticed(built: SimpleNamespace, tree: Path) -> None:
    for name in sorted(_files(tree)):
        path, content = tree / name, (tree / name).read_bytes()
        path.unlink()
        with pytest.raises(RuntimeMismatch, match=name.rpartition("/")[2]):
            environment.load_description(tree)
        if name != "runtime.json":
            path.write_bytes(content + b" ")
            with pytest.raises(RuntimeMismatch, match="bytes instead of"):
                environment.load_description(tree)
        path.write_bytes(content)
    assert environment.load_description(tree) == environment.load_description(built.package)


@pytest.mark.parametrize(
    ("requirement", "value", "says"),
    [
        ("torch", "2.12.0", "compiled for torch 2.12.0, this process has torch 2.13.0"),
        ("torch_git", "0" * 40, "built from commit 0000"),
        ("machine", "aarch64", "compiled for aarch64 processors"),
        ("cpu_flags", ["avx2", "avx1024"], "processors with avx1024, this one has not"),
    ],
)
def test_a_foreign_environment_is_a_sentence_before_anything_is_loaded(
    tree: Path, requirement: str, value: object, says: str
) -> None:
    (tree / "graphs" / "prefill" / "model.so").write_bytes(b"\0" * 9)  # loading it would fail

    def change(description: dict) -> None:
        description["requires"][requirement] = value
        description["files"]["graphs/prefill/model.so"] = 9

    _edit(tree, change)
    with pytest.raises(RuntimeMismatch, match=says):
        Graphs(tree)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("model.norm.weight", lambda tensor: tensor[:-1], "model.norm.weight is"),
        ("model.norm.weight", lambda tensor: tensor.double(), "model.norm.weight is"),
        ("model.norm.weight", lambda _: None, "does not hold what the graphs want"),
    ],
)
def test_other_weights_than_the_graphs_want_are_refused(
    tree: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor | None], says: str
) -> None:
    path = tree / "weights.safetensors"
    tensors = load_file(path)
    changed = change(tensors.pop(name))
    if changed is not None:
        tensors[name] = changed.float() if changed.shape[0] == 63 else changed.half()
    path.unlink()
    write_tensors(path, tensors)
    _edit(tree, lambda it: it["files"].update({"weights.safetensors": path.stat().st_size}))
    with pytest.raises(RuntimeMismatch, match=says):
        Graphs(tree)


def test_the_tree_may_be_read_only(built: SimpleNamespace, tree: Path) -> None:
    for path in sorted(tree.rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = _files(tree)
    assert Graphs(tree).vocab_size == 300
    assert _files(tree) == before
    for path in tree.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    assert os.access(built.package, os.R_OK)
