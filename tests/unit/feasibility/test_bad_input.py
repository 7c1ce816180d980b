"""Configs and recipes that cannot be planned with: one message, every problem, no traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmi_compile.errors import CompileError, ModelFault
from lmi_compile.feasibility.answer import answer
from lmi_compile.feasibility.families.find import FAMILIES, shape_of
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.reading import read_question
from lmi_recipes.errors import RecipeInvalid, UnknownTarget
from lmi_recipes.reading import read_recipe
from lmi_recipes.target import load_instance

Asker = Callable[..., Question]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_config_without_its_fields_names_all_of_them(family: str) -> None:
    if family == "resnet":
        assert shape_of({"model_type": family}) is not None  # every field has a default
        return
    with pytest.raises(ModelFault) as caught:
        shape_of({"model_type": family})
    assert caught.value.what.count("is missing") >= 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_attention_heads": 0}, ("num_attention_heads must be between 1",)),
        ({"num_hidden_layers": 10**12}, ("num_hidden_layers must be between 1 and 10000",)),
        ({"hidden_size": -4096}, ("hidden_size must be between",)),
        ({"hidden_size": "4096"}, ("hidden_size must be a whole number, not '4096'",)),
        ({"hidden_size": 4096.0}, ("hidden_size must be a whole number",)),
        ({"vocab_size": True}, ("vocab_size must be a whole number, not True",)),
        ({"vocab_size": [1] * 1000}, ("vocab_size must be a whole number", "...")),
        ({"tie_word_embeddings": "no"}, ("tie_word_embeddings must be true or false",)),
        ({"num_key_value_heads": 5}, ("32 heads are not a multiple of 5 KV heads",)),
        ({"hidden_size": 4097}, ("4097 is not a multiple of 32 heads",)),
        ({"num_attention_heads": 0, "num_hidden_layers": 10**12, "vocab_size": None},
         ("num_attention_heads", "num_hidden_layers", "vocab_size is missing")),
    ],
)  # fmt: skip
def test_absurd_values_are_told_together(
    llama_config: dict[str, Any], changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(ModelFault) as caught:
        shape_of(llama_config | changes)
    assert all(word in caught.value.what for word in words)


_VALUES = st.integers(-2, 4096) | st.sampled_from(
    [None, True, False, 10**12, 1.5, "", "x", [], [1, "x"], [64, 128], {}, {"0": "a"}]
)
_NAMES = (
    "hidden_size", "num_attention_heads", "num_key_value_heads", "num_hidden_layers", "head_dim",
    "intermediate_size", "vocab_size", "n_embd", "n_head", "n_layer", "d_model", "d_kv", "d_ff",
    "num_heads", "num_layers", "layer_types", "sliding_window", "mlp_only_layers", "depths",
    "hidden_sizes", "id2label", "architectures", "num_experts", "num_experts_per_tok",
    "decoder_sparse_step", "moe_intermediate_size", "patch_size", "image_size", "bias",
)  # fmt: skip


@given(
    family=st.sampled_from(sorted(FAMILIES)),
    config=st.dictionaries(st.sampled_from(_NAMES), _VALUES),
)
def test_any_config_gives_a_shape_or_a_model_fault(family: str, config: dict[str, Any]) -> None:
    try:
        shape = shape_of({"model_type": family, **config})
    except ModelFault:
        return
    assert shape is not None
    assert shape.parameters >= 0


@given(
    batch=st.integers(1, 65536), seq=st.integers(2, 1 << 24), degree=st.integers(1, 4096),
    tokens=st.none() | st.integers(1, 1 << 24),
)  # fmt: skip
def test_any_limits_get_an_answer(batch: int, seq: int, degree: int, tokens: int | None) -> None:
    shape = shape_of({
        "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4,
        "num_hidden_layers": 2, "intermediate_size": 128, "vocab_size": 100,
    })  # fmt: skip
    assert shape is not None
    asked = Question(
        shape=shape, backend="tensorrt-llm", dtype="float16", method="none", kv_dtype="auto",
        tensor_parallel=degree, pipeline_parallel=1, batch=batch, input_len=seq - 1, seq_len=seq,
        num_tokens=tokens, instance=load_instance("ml.g5.48xlarge"),
    )  # fmt: skip
    json.dumps(answer(asked), allow_nan=False)


def _recipe(folder: Path, config: dict[str, Any] | str, **changes: str) -> Path:
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / "config.json").write_text(text)
    fields = {"instance": "ml.g5.2xlarge", "shapes": "{max_seq_len: 512}"} | changes
    path = folder / "recipe.yaml"
    path.write_text(
        "apiVersion: lmi-compile/v1\nname: own\n"
        "model: {id: owner/model, config: config.json}\n"
        "backend: tensorrt-llm\ntoolchain: trtllm-lmi-0.33\n"
        f"target: {{instance_type: {fields['instance']}}}\n"
        f"dtype: float16\nshapes: {fields['shapes']}\n"
    )
    return path


def test_an_unknown_instance_tells_the_nearest(
    tmp_path: Path, llama_config: dict[str, Any]
) -> None:
    path = _recipe(tmp_path, llama_config, instance="ml.g5.2xlage")
    with pytest.raises(UnknownTarget, match=r"did you mean ml\.g5\.2xlarge"):
        read_question(read_recipe(path))


def test_a_bad_config_and_a_bad_instance_are_one_message(tmp_path: Path) -> None:
    path = _recipe(tmp_path, {"model_type": "llama", "hidden_size": 0}, instance="ml.g5.9xlarge")
    with pytest.raises(CompileError) as caught:
        read_question(read_recipe(path))
    assert "no target is named 'ml.g5.9xlarge'" in caught.value.what
    assert "hidden_size must be between" in caught.value.what
    assert "vocab_size is missing" in caught.value.what


def test_contradictory_limits_are_one_message(tmp_path: Path, llama_config: dict[str, Any]) -> None:
    shapes = "{max_seq_len: 512, max_input_len: 600, max_batch_size: 0}"
    with pytest.raises(RecipeInvalid) as caught:
        read_recipe(_recipe(tmp_path, llama_config, shapes=shapes))
    assert {one.field for one in caught.value.problems} == {
        "shapes.max_input_len",
        "shapes.max_batch_size",
    }


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_type": NaN}', "\0"])
def test_a_config_that_is_no_json_object_is_the_models_fault(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelFault):
        read_question(read_recipe(_recipe(tmp_path, text)))


def test_an_unknown_family_without_files_is_refused(tmp_path: Path) -> None:
    path = _recipe(tmp_path, {"model_type": "deepseek_v2"})
    with pytest.raises(ModelFault, match="family 'deepseek_v2' is not known"):
        read_question(read_recipe(path))


def test_without_a_config_there_is_no_answer_and_a_reason(tmp_path: Path) -> None:
    path = _recipe(tmp_path, "{}")
    path.write_text(path.read_text().replace(", config: config.json", ""))
    assert read_question(read_recipe(path)) == (
        None,
        "no config.json to compute with: name one under model.config",
    )
