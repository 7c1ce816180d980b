import json
from pathlib import Path

import pytest

from lmi_compile.errors import ModelFault
from lmi_compile.models.files import INDEX, model_files, shard_map


def _touch(directory: Path, *names: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).write_text("{}", encoding="utf-8")
    return directory


def _index(directory: Path, weight_map: object) -> None:
    (directory / INDEX).write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")


def _refused(directory: Path) -> ModelFault:
    with pytest.raises(ModelFault) as caught:
        model_files(directory)
    assert str(directory) in caught.value.what
    assert caught.value.fix
    return caught.value


def test_only_the_files_that_decide_the_model_are_taken(tmp_path: Path) -> None:
    kept = ("LICENSE", "config.json", "generation_config.json", "merges.txt", "model.safetensors")
    kept = (*kept, "special_tokens_map.json", "tokenizer.json", "tokenizer.model", "vocab.json")
    _touch(tmp_path, *kept, "README.md", "train.py", "other.safetensors", "pytorch_model.bin")
    (tmp_path / "onnx").mkdir()
    found = model_files(tmp_path)
    assert found.form == "safetensors"
    assert found.weights == ("model.safetensors",)
    assert found.names == kept


def test_an_index_says_which_shards_are_the_weights(tmp_path: Path) -> None:
    _touch(tmp_path, "config.json", "model-1.safetensors", "model-2.safetensors", "x.safetensors")
    _index(tmp_path, {"a": "model-2.safetensors", "b": "model-1.safetensors"})
    found = model_files(tmp_path)
    assert found.weights == ("model-1.safetensors", "model-2.safetensors")
    assert INDEX in found.beside


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    _touch(tmp_path, "config.json", "model-1.safetensors")
    _index(tmp_path, {"a": "model-2.safetensors", "b": "model-1.safetensors"})
    assert "1 shards that are not there: model-2.safetensors" in _refused(tmp_path).why


@pytest.mark.parametrize(
    "weight_map", [None, {}, [], {"a": 1}, {"a": "../secret.safetensors"}, {"a": "model.bin"}]
)
def test_an_index_names_safetensors_files_beside_it(tmp_path: Path, weight_map: object) -> None:
    _index(tmp_path, weight_map)
    with pytest.raises(ModelFault, match="is not an index"):
        shard_map(tmp_path)


def test_one_gguf_is_a_model(tmp_path: Path) -> None:
    found = model_files(_touch(tmp_path, "m.gguf", "LICENSE", "config.json"))
    assert (found.form, found.names) == ("gguf", ("LICENSE", "m.gguf"))


def test_a_missing_directory_and_a_file_are_told_apart(tmp_path: Path) -> None:
    assert _refused(tmp_path / "none").why == "nothing has that path"
    _touch(tmp_path, "file")
    assert _refused(tmp_path / "file").why == "it is a file"


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ((), "no weights: no config.json with safetensors, and no GGUF file; there is: nothing"),
        (("config.json",), "there is: config.json"),
        (("config.json", "pytorch_model.bin"), "pickles, which run code"),
        (("model.pt",), "pickles, which run code"),
        (("model.safetensors",), "no config.json"),
        (("config.json", "weights.safetensors"), "neither model.safetensors nor"),
        (("a.gguf", "b.gguf"), "2 GGUF files: a.gguf, b.gguf"),
        (("config.json", "model.safetensors", "adapter_config.json"), "an adapter"),
    ],
)
def test_what_is_no_model_says_what_is_there(
    tmp_path: Path, names: tuple[str, ...], why: str
) -> None:
    assert why in _refused(_touch(tmp_path, *names)).why


def test_links_of_a_hub_cache_are_followed(tmp_path: Path) -> None:
    blobs = _touch(tmp_path / "blobs", "one", "two")
    snapshot = _touch(tmp_path / "snapshot")
    (snapshot / "config.json").symlink_to(blobs / "one")
    (snapshot / "model.safetensors").symlink_to(blobs / "two")
    assert model_files(snapshot).names == ("config.json", "model.safetensors")
