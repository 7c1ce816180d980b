import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lmi_compile.errors import ModelFault
from lmi_compile.models import convert
from lmi_compile.models.files import INDEX
from lmi_compile.models.identity import architecture_of, read_config

MakeFile = Callable[..., Path]


@pytest.fixture
def source(tiny_llama: Path, tmp_path: Path) -> Path:
    """A copy of a sound model directory, to be damaged."""
    return shutil.copytree(tiny_llama, tmp_path / "source")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def _convert(source: Path, out: Path, config: object = None) -> None:
    convert.run({"config": config}, {"fetch": source}, out)


def _refused(source: Path, out: Path, config: object = None) -> ModelFault:
    with pytest.raises(ModelFault) as caught:
        _convert(source, out, config)
    return caught.value


def test_a_directory_goes_through_without_a_second_copy(source: Path, out: Path) -> None:
    _convert(source, out, dict(read_config(source / "config.json")))
    assert {path.name for path in out.iterdir()} == {path.name for path in source.iterdir()}
    assert (out / "model.safetensors").samefile(source / "model.safetensors")


def test_a_directory_is_checked_without_torch(source: Path, out: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from lmi_compile.models import convert, fetch\n"
        "convert.run({'config': None}, {'fetch': Path(sys.argv[1])}, Path(sys.argv[2]))\n"
        "heavy = {'torch', 'transformers', 'numpy', 'safetensors', 'gguf', 'tokenizers'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    argv = [sys.executable, "-c", program, str(source), str(out)]
    subprocess.run(argv, check=True, timeout=300)
    assert (out / "config.json").is_file()


def test_a_missing_generation_config_is_made_from_the_config(source: Path, out: Path) -> None:
    (source / "generation_config.json").unlink()
    _convert(source, out)
    made = json.loads((out / "generation_config.json").read_text(encoding="utf-8"))
    assert made == {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}


def test_truncated_weights_are_refused_with_both_sizes(source: Path, out: Path) -> None:
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    fault = _refused(source, out)
    assert "model.safetensors is not a sound safetensors file" in fault.what
    assert "the file is truncated" in fault.why
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
def test_a_malformed_json_file_is_named(source: Path, out: Path, name: str) -> None:
    (source / name).write_text('{"a": }', encoding="utf-8")
    fault = _refused(source, out)
    assert name in fault.what
    assert "line 1, column 7" in fault.why


def test_a_model_without_a_tokenizer_is_refused(source: Path, out: Path) -> None:
    (source / "tokenizer.json").unlink()
    assert "no tokenizer.json" in _refused(source, out).what


def _shard(source: Path) -> dict[str, str]:
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    names = sorted(tensors)
    halves = {"model-1.safetensors": names[:4], "model-2.safetensors": names[4:]}
    for shard, members in halves.items():
        save_file({name: tensors[name] for name in members}, source / shard)
    return {name: shard for shard, members in halves.items() for name in members}


def test_shards_and_their_index_go_through(source: Path, out: Path) -> None:
    (source / INDEX).write_text(json.dumps({"weight_map": _shard(source)}), encoding="utf-8")
    _convert(source, out)
    assert {"model-1.safetensors", "model-2.safetensors", INDEX} < {p.name for p in out.iterdir()}


def test_an_index_that_is_wrong_about_a_tensor_is_refused(source: Path, out: Path) -> None:
    placed = _shard(source)
    first = min(placed)
    placed[first] = "model-2.safetensors"
    (source / INDEX).write_text(json.dumps({"weight_map": placed}), encoding="utf-8")
    fault = _refused(source, out)
    assert "do not agree" in fault.what
    assert f"1 tensors, first {first!r}" in fault.why


def test_another_architecture_than_the_recipes_is_refused_field_by_field(
    source: Path, out: Path
) -> None:
    wanted = dict(architecture_of(read_config(source / "config.json")))
    wanted["num_hidden_layers"] = 30
    del wanted["vocab_size"]
    fault = _refused(source, out, wanted)
    assert (
        fault.why
        == "num_hidden_layers: recipe 30, model 2; vocab_size: recipe 'nothing', model 300"
    )


def _gguf_source(path: Path, folder: Path) -> Path:
    folder.mkdir()
    shutil.copyfile(path, folder / path.name)
    (folder / "LICENSE").write_text("MIT\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def converted(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("converted")
    (root / "out").mkdir()
    _convert(_gguf_source(tiny_gguf, root / "source"), root / "out")
    return root / "out"


def test_a_gguf_becomes_a_hugging_face_directory(converted: Path) -> None:
    assert {path.name for path in converted.iterdir()} == {
        "LICENSE",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    config = read_config(converted / "config.json")
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["rms_norm_eps"] == 1e-05
    assert config["tie_word_embeddings"] is True
    assert "tiny" not in (converted / "config.json").read_text(encoding="utf-8")


def test_a_gguf_gives_its_own_weights_in_float32(converted: Path, tiny_gguf: Path) -> None:
    ours = load_file(converted / "model.safetensors")
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(tiny_gguf).tensors}
    assert len(ours) == len(theirs)
    assert {array.dtype for array in ours.values()} == {np.dtype(np.float32)}
    for name, theirs_name in (
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"),
        ("model.norm.weight", "output_norm.weight"),
    ):
        tensor = theirs[theirs_name]
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(ours[name], expected)


def test_what_transformers_loses_of_a_gguf_is_put_back(converted: Path) -> None:
    from tokenizers import Tokenizer  # noqa: PLC0415 - heavy, and only here

    tokenizer = Tokenizer.from_file(str(converted / "tokenizer.json"))
    assert tokenizer.encode("the  42").tokens == ["the", "ĠĠ", "4", "2"]
    assert tokenizer.encode("\n\n  42").tokens == ["ĊĊĠĠ", "4", "2"]
    generation = json.loads((converted / "generation_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"] == [0, 2]
    assert generation["bos_token_id"] == 1
    template = (converted / "chat_template.jinja").read_text(encoding="utf-8")
    assert template.startswith("{% for m in messages %}")


def test_the_same_gguf_gives_the_same_bytes(
    converted: Path, tiny_gguf: Path, tmp_path: Path, out: Path
) -> None:
    elsewhere = tmp_path / "another" / "place"
    elsewhere.parent.mkdir()
    _convert(_gguf_source(tiny_gguf, elsewhere), out)
    for path in converted.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_truncated_gguf_is_refused_before_torch_is_loaded(
    tiny_gguf: Path, tmp_path: Path, out: Path
) -> None:
    folder = _gguf_source(tiny_gguf, tmp_path / "gguf")
    whole = (folder / "tiny.gguf").read_bytes()
    (folder / "tiny.gguf").write_bytes(whole[: len(whole) // 2])
    program = (
        "import sys; from pathlib import Path; from lmi_compile.models import convert\n"
        "from lmi_compile.errors import ModelFault\n"
        "try: convert.run({'config': None}, {'fetch': Path(sys.argv[1])}, Path(sys.argv[2]))\n"
        "except ModelFault as fault: print(fault.why, 'torch' in sys.modules)\n"
    )
    argv = [sys.executable, "-c", program, str(folder), str(out)]
    done = subprocess.run(argv, check=True, timeout=300, capture_output=True, text=True)
    assert f"the file has {len(whole) // 2} bytes: it is truncated False" in done.stdout
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"pre": "bloom"}, "splits text as 'bloom', which cannot be restored"),
        ({"architecture": "clip"}, "does not read the architecture 'clip'"),
        ({"drop": "blk.0.ffn_up.weight"}, "model.layers.0.mlp.up_proj.weight"),
    ],
)
def test_a_gguf_that_would_come_out_wrong_is_refused(
    make_gguf: MakeFile, tmp_path: Path, out: Path, options: dict[str, str], text: str
) -> None:
    path = make_gguf(tmp_path / "m.gguf", **options)
    fault = _refused(_gguf_source(path, tmp_path / "source"), out)
    assert text in fault.what + fault.why
    assert "safetensors" in fault.fix
