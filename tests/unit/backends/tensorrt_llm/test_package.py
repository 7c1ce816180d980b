"""The packaged tree: whole, the planned engine, recognised by its container; else refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trtllm_simulator.engines import hf_pretrained, write_engine
from trtllm_simulator.machine import Machine

from lmi_artifacts.properties import parse_properties
from lmi_artifacts.trtllm_container import recognised
from lmi_compile.backends.tensorrt_llm import package, proof
from lmi_compile.backends.tensorrt_llm.engine import read_engine
from lmi_compile.backends.tensorrt_llm.facts import failures
from lmi_compile.backends.tensorrt_llm.failures import explain
from lmi_compile.backends.tensorrt_llm.probes import device_report
from lmi_compile.errors import EnvironmentFault, ModelFault, ToolFailed, Unsupported

LIMITS = {"max_batch_size": 4, "max_input_len": 96, "max_seq_len": 192, "max_num_tokens": 192}
PLANNED = {
    "version": "0.21.0rc1",
    "encoder_decoder": False,
    "tp_size": 2,
    "pp_size": 1,
    "quant_algo": None,
    "kv_cache_quant_algo": None,
    "runtime": {"enable_kv_cache_reuse": True},
    **LIMITS,
}
MACHINE = Machine(tensorrt_llm="0.21.0rc1", build_table="0.20.0")


def _engine(folder: Path, model: Path, tp: int = 2) -> Path:
    algo = {"quant_algo": None, "kv_cache_quant_algo": None}
    pretrained = hf_pretrained(model, "float16", tp, 1, algo)
    write_engine(MACHINE, folder, pretrained, dict(LIMITS), {"hf": {}}, [b""] * tp)
    return folder


@pytest.fixture
def model(hf_model: Callable[[str], Path]) -> Path:
    return hf_model("llama-2-7b.json")


def _package(
    tmp_path: Path, model: Path, engine: Path, layout: str = "flat", **changes: Any
) -> Path:
    out = tmp_path / "tree"
    out.mkdir()
    params = {**PLANNED, "layout": layout, **changes}
    package.run(params, {"model": model, "engine": engine}, out)
    return out


def test_the_flat_tree_is_taken_for_engines_and_has_the_engines_own_degrees(
    tmp_path: Path, model: Path
) -> None:
    tree = _package(tmp_path, model, _engine(tmp_path / "engine", model))
    assert recognised(tree, "flat") == ()
    names = {path.name for path in tree.iterdir()}
    assert names >= {"rank0.engine", "rank1.engine", "tokenizer.json", "generation_config.json"}
    properties = parse_properties((tree / "serving.properties").read_bytes())
    assert properties["option.tensor_parallel_degree"] == "2"
    assert properties["option.max_rolling_batch_size"] == "4"
    assert properties["option.enable_kv_cache_reuse"] == "true"
    assert "option.model_id" not in properties
    out = tmp_path / "proof"
    out.mkdir()
    proof.run({"layout": "flat"}, {"package": tree}, out)
    assert json.loads((out / "proof.json").read_bytes())["decision"] == "SKIPPED"
    (tree / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    proof.run({"layout": "flat"}, {"package": tree}, out)
    assert json.loads((out / "proof.json").read_bytes())["decision"] == "REFUTED"


def test_the_triton_repository_keeps_its_form(tmp_path: Path, model: Path) -> None:
    repository = tmp_path / "repository"
    _engine(repository / "tensorrt_llm" / "1", model)
    (repository / "tensorrt_llm" / "config.pbtxt").write_text("", encoding="utf-8")
    assert recognised(repository, "triton")
    tree = _package(tmp_path, model, repository, "triton")
    assert recognised(tree, "triton") == ()
    assert (tree / "tensorrt_llm" / "1" / "rank1.engine").is_file()
    properties = parse_properties((tree / "serving.properties").read_bytes())
    assert (properties["engine"], properties["option.rolling_batch"]) == ("MPI", "trtllm")
    engine = read_engine(repository / "tensorrt_llm" / "1", PLANNED)
    t5 = package.serving_properties(engine, "triton", {}, rolling="disable")
    assert t5["option.rolling_batch"] == "disable"  # LMI's batcher takes no T5


def test_a_plain_engine_directory(tmp_path: Path, model: Path) -> None:
    tree = _package(tmp_path, model, _engine(tmp_path / "engine", model), "engine")
    assert recognised(tree, "engine") == ()
    assert not (tree / "serving.properties").exists()


def _missing(engine: Path) -> None:
    (engine / "rank1.engine").unlink()


def _same(engine: Path) -> None:
    (engine / "rank1.engine").write_bytes((engine / "rank0.engine").read_bytes())


def _stale(engine: Path) -> None:
    (engine / "rank2.engine").write_bytes(b"older")


def _empty(engine: Path) -> None:
    (engine / "rank0.engine").write_bytes(b"")


def _config(engine: Path) -> None:
    (engine / "config.json").unlink()


def _hf(engine: Path) -> None:
    (engine / "config.json").write_text("{}", encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (_missing, "rank1.engine of 2 ranks are missing"),
        (_same, "rank1.engine is byte for byte rank0.engine"),
        (_stale, "rank2.engine are more than its 2 ranks"),
        (_empty, "rank0.engine of 2 ranks are missing or empty"),
        (_config, "the engine has no config.json"),
        (_hf, "config.json is not an engine's"),
    ],
)
def test_an_engine_that_is_not_whole_is_refused(
    damage: Callable[[Path], None], text: str, tmp_path: Path, model: Path
) -> None:
    engine = _engine(tmp_path / "engine", model)
    damage(engine)
    with pytest.raises(ToolFailed) as refused:
        _package(tmp_path, model, engine)
    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"version": "0.12.0"}, EnvironmentFault, "built by TensorRT-LLM 0.21.0rc1"),
        ({"tp_size": 4}, ToolFailed, "tp_size: planned 4, built 2"),
        ({"quant_algo": "FP8"}, ToolFailed, "quant_algo: planned FP8, built None"),
        ({"max_seq_len": 4096}, ToolFailed, "max_seq_len: planned 4096, built 192"),
    ],
)
def test_an_engine_that_was_not_planned_is_refused(
    changes: dict[str, Any], kind: type[Exception], text: str, tmp_path: Path, model: Path
) -> None:
    with pytest.raises(kind) as refused:
        _package(tmp_path, model, _engine(tmp_path / "engine", model), **changes)
    assert text in str(refused.value)


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "generation_config.json", "tokenizer.json"]
)
def test_a_missing_tokenizer_file_is_named(name: str, tmp_path: Path, model: Path) -> None:
    engine = _engine(tmp_path / "engine", model)
    (model / name).unlink()
    with pytest.raises(ModelFault) as refused:
        _package(tmp_path, model, engine)
    assert name in refused.value.what


@pytest.mark.parametrize("entry", failures(), ids=lambda entry: entry["text"][:30])
def test_a_known_text_of_a_tool_gets_its_cause(entry: dict[str, str]) -> None:
    error = explain("engine", 1, f"loading\nRuntimeError: {entry['text']} more\n")
    assert error is not None
    assert type(error).__name__ == entry["kind"]
    assert entry["text"] in error.what
    assert error.why == entry["why"]
    assert entry["source"]


def test_a_killed_step_says_memory_and_an_unknown_text_says_nothing() -> None:
    for code in (-9, 137):
        error = explain("convert", code, "Loading checkpoint shards\n")
        assert isinstance(error, ToolFailed)
        assert "exit 137" in error.what
        assert "memory" in error.what
    assert explain("convert", 1, "something else") is None


GPU = {"name": "NVIDIA A10G", "sm": 86}


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({"tensorrt_llm": "1.2.0", "gpus": [GPU]}, "tensorrt_llm is 1.2.0, pinned is 1.2.1"),
        ({"tensorrt_llm": "1.2.1", "gpus": []}, "0 GPUs are visible, 1 are needed"),
        ({"tensorrt_llm": "1.2.1", "gpus": [{**GPU, "sm": 80}]}, "is SM 80, the target is SM 86"),
    ],
)
def test_another_place_than_the_toolchain_says_is_exit_8(found: dict[str, Any], text: str) -> None:
    expected = {"versions": {"tensorrt_llm": "1.2.1", "tensorrt": "host"}, "sm": 86, "gpus": 1}
    words = "; ".join(device_report.differences(found, expected))
    assert text in words
    error = explain("ground", 8, f"{device_report.WORD} {words}\n")
    assert isinstance(error, EnvironmentFault)
    assert text in error.why
    right = {"tensorrt_llm": "1.2.1", "tensorrt": "10", "gpus": [GPU]}
    assert device_report.differences(right, expected) == []


def test_fp8_on_ampere_is_the_recipes_fault() -> None:
    text = "Networks with FP8 precision require hardware with FP8 support."
    assert isinstance(explain("engine", 1, text), Unsupported)
