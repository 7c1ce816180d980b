import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmi_artifacts.digest import canonical_json
from lmi_compile.errors import ModelFault
from lmi_compile.models.identity import architecture_of, directory_digests, read_config


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_where_a_directory_lies_and_what_else_is_in_it_does_not_matter(
    tiny_llama: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    for path in tiny_llama.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "README.md").write_text("notes", encoding="utf-8")
    digests = directory_digests(other, _sha256)
    assert digests == directory_digests(tiny_llama, _sha256)
    assert list(digests) == sorted(digests)
    assert {"config.json", "model.safetensors", "tokenizer.json"} < digests.keys()


def test_a_changed_file_changes_its_digest(tiny_llama: Path, tmp_path: Path) -> None:
    for path in tiny_llama.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "tokenizer.json").open("ab") as stream:
        stream.write(b" ")
    before, after = (directory_digests(d, _sha256) for d in (tiny_llama, tmp_path))
    assert {name for name in before if before[name] != after[name]} == {"tokenizer.json"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{\n  "a": 1,\n  "b" 2\n}', "line 3, column 7"),
        (b'{"a": 1, "a": 2}', "'a' is there twice"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (rb'{"a": "\ud800"}', "half of a surrogate pair"),
        (b"[1]", "a list, not an object"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"", "line 1, column 1"),
    ],
)
def test_a_malformed_config_says_where(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ModelFault) as caught:
        read_config(path)
    assert caught.value.what == "config.json of the model cannot be read"
    assert why in caught.value.why
    assert str(path) in caught.value.why


def test_a_missing_config_is_the_models_fault(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match="No such file"):
        read_config(tmp_path / "config.json")


BASE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "rms_norm_eps": 1e-05,
    "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"},
    "vocab_size": 49152,
}


def test_a_fine_tune_has_the_architecture_of_its_base() -> None:
    fine_tune = {
        **BASE,
        "_name_or_path": "/home/me/model",
        "transformers_version": "5.1.0",
        "torch_dtype": "bfloat16",
        "dtype": "float32",
        "eos_token_id": [2, 3],
        "pad_token_id": None,
        "use_cache": False,
        "temperature": 0.6,
        "top_p": 0.9,
        "do_sample": True,
        "attention_dropout": 0.1,
        "id2label": {"0": "x"},
    }
    assert architecture_of(fine_tune) == architecture_of(BASE)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 575},
        {"hidden_act": "gelu"},
        {"rms_norm_eps": 1e-06},
        {"quantization_config": {"bits": 4}},
        {"sliding_window": 128},
        {"something_new": 1},
        {"architectures": ["LlamaModel"]},
        {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}},
        {"rope_parameters": {"rope_theta": 100000.0, "rope_type": "linear", "factor": 2.0}},
    ],
)
def test_what_changes_the_graph_or_is_unknown_changes_the_architecture(
    change: dict[str, object],
) -> None:
    assert architecture_of({**BASE, **change}) != architecture_of(BASE)


def test_rope_as_transformers_4_wrote_it_is_the_same_rope() -> None:
    old = {name: BASE[name] for name in BASE if name != "rope_parameters"}
    assert architecture_of({**old, "rope_theta": 100000}) == architecture_of(BASE)
    assert architecture_of({**old, "rope_theta": 1e5, "rope_scaling": None}) == architecture_of(
        BASE
    )
    scaled = {"rope_theta": 1e5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    assert architecture_of({**old, **scaled})["rope_scaling"] == scaled["rope_scaling"]
    partial = {"rope_theta": 1e5, "partial_rotary_factor": 0.5}
    assert architecture_of({**old, **partial}) != architecture_of(BASE)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(["rope_theta", "rope_parameters", "rope_scaling", "dtype", "hidden_size"]),
        _JSON,
    )
)
def test_the_architecture_is_canonical_whatever_the_config_holds(config: dict[str, object]) -> None:
    once = architecture_of(json.loads(json.dumps(config)))
    assert architecture_of(once) == once
    assert list(once) == sorted(once)
    assert canonical_json(once) == canonical_json(json.loads(canonical_json(once)))
