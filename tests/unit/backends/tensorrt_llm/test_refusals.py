"""Thirty wrong command lines, refused; the text is argparse's own or one of TensorRT-LLM's."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from trtllm_running import Bench, write_calibration
from trtllm_simulator.machine import Machine

BUILD = ["trtllm-build", "--checkpoint_dir", "CK", "--output_dir", "OUT"]
SIZES = ["--max_batch_size", "4", "--max_input_len", "512", "--max_seq_len", "1024"]
CONVERT = [
    "python3",
    "x/llama/convert_checkpoint.py",
    "--model_dir",
    "MODEL",
    "--output_dir",
    "OUT",
]
QUANTIZE = ["python3", "x/quantization/quantize.py", "--model_dir", "MODEL", "--output_dir", "OUT"]
PARTITION = [
    *("python3", "/opt/djl/partition/trt_llm_partition.py", "--properties_dir", "PROPS"),
    *("--trt_llm_model_repo", "OUT", "--model_path", "MODEL", "--tensor_parallel_degree", "1"),
]
DEGREES = ["--pipeline_parallel_degree", "1"]
UNKNOWN = "the real tool's words are not known here"
NEW = Machine(tensorrt_llm="1.2.1")
LMI = Machine(tensorrt_llm="0.21.0rc1", build_table="0.20.0")
OLD = Machine(
    tensorrt_llm="0.12.0", build_table="0.12.0", script_table="0.12.0.dev2024080600",
    partition_table="0.30",
)  # fmt: skip
FP8_CHECKPOINT = {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}
INT8_KV = {"quant_algo": None, "kv_cache_quant_algo": "INT8"}

CASES = [
    (NEW, [*BUILD, "--max_output_len", "512"], None, {}, "unrecognized arguments"),
    (NEW, [*BUILD, "--tp_size", "2"], None, {}, "unrecognized arguments: --tp_size 2"),
    (NEW, [*BUILD, "--auto_parallel", "2"], None, {}, "unrecognized arguments"),
    (OLD, [*BUILD, "--kv_cache_type", "paged"], None, {}, "unrecognized arguments"),
    (NEW, [*BUILD, "--enable_xqa", "enable"], None, {}, "unrecognized arguments"),
    (NEW, [*BUILD, "--max_batch_size", "four"], None, {}, "invalid int value: 'four'"),
    (NEW, [*BUILD, "--gemm_plugin", "on"], None, {}, "invalid choice: 'on'"),
    (NEW, [*BUILD, "--kv_cache_type", "blocked"], None, {}, "invalid choice: 'blocked'"),
    (OLD, [*BUILD, "--gemm_plugin", "nvfp4"], None, {}, "invalid choice: 'nvfp4'"),
    (NEW, [*BUILD, "--max_seq_len"], None, {}, "expected one argument"),
    (NEW, [*BUILD, "--use_fp8_context_fmha"], None, {}, "expected one argument"),
    (NEW, ["trtllm-build", "--checkpoint_dir", "nowhere"], None, {}, "No such file or directory"),
    (NEW, [*BUILD, *SIZES], FP8_CHECKPOINT, {}, "require hardware with FP8 support"),
    (NEW, [*BUILD, *SIZES, "--use_paged_context_fmha", "enable"], INT8_KV, {},
     "Paged Context FMHA doesn't work with int8 kv cache currently."),
    (NEW, [*BUILD, *SIZES, "--multiple_profiles", "enable", "--opt_num_tokens", "64"], None, {},
     "multiple_profiles is enabled, while opt_num_tokens is set."),
    (NEW, [*BUILD, *SIZES, "--gather_context_logits", "--max_draft_len", "4"], None, {},
     "Gather context logits is not support with draft len > 0."),
    (NEW, [*BUILD, "--max_input_len", "2048", "--max_seq_len", "512"], None, {}, UNKNOWN),
    (replace(NEW, gpus=0), [*BUILD, *SIZES], None, {}, "no CUDA-capable device is detected"),
    (replace(NEW, memory_bytes=1000), [*BUILD, *SIZES], None, {},
     "a bytes-like object is required, not 'NoneType'"),
    (replace(NEW, fail_rank=0), [*BUILD, *SIZES], None, {},
     "Engine building failed, please check error log."),
    (NEW, [*CONVERT, "--max_batch_size", "4"], None, {}, "unrecognized arguments"),
    (NEW, [*CONVERT, "--dtype", "fp16"], None, {}, "invalid choice: 'fp16'"),
    (OLD, [*CONVERT, "--calib_size", "512"], None, {}, "unrecognized arguments: --calib_size 512"),
    (OLD, [*CONVERT, "--dtype", "auto"], None, {}, "invalid choice: 'auto'"),
    (NEW, [*CONVERT, "--smoothquant", "half"], None, {}, "invalid float value: 'half'"),
    (NEW, [*CONVERT, "--smoothquant", "0.5", "--per_token", "--per_channel"], None, {},
     "OfflineModeIsEnabled"),
    (NEW, [*QUANTIZE, "--qformat", "smoothquant"], None, {}, "invalid choice: 'smoothquant'"),
    (NEW, [*QUANTIZE, "--qformat", "fp8"], None, {}, "require hardware with FP8 support"),
    (LMI, PARTITION, None, {}, "the following arguments are required: --pipeline_parallel_degree"),
    (LMI, [*PARTITION, *DEGREES, "--save-mp-checkpoint-path", "x"], None, {}, "unrecognized"),
    (LMI, [*PARTITION, *DEGREES], None, {"option.max_input_len": "long"}, "invalid int value"),
    (LMI, [*PARTITION, *DEGREES], None, {"option.quant_algo": "smoothquant"},
     "'SMOOTHQUANT' is not a valid QuantAlgo"),
    (LMI, [*PARTITION, *DEGREES], None, {"option.pre_quant_scales": "true"},
     "unexpected keyword argument 'pre_quant_scales'"),
]  # fmt: skip


def test_there_are_thirty() -> None:
    assert len(CASES) >= 30


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[-1][:40])
def test_a_wrong_command_is_refused(
    case: tuple[Machine, list[str], dict[str, str] | None, dict[str, str], str],
    hf_model: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine, argv, quantization, properties, text = case
    bench = Bench(root=tmp_path, machine=machine, places={})
    places = {
        "MODEL": hf_model("llama-2-7b.json"),
        "CK": _checkpoint(bench, quantization),
        "OUT": tmp_path / "out",
        "PROPS": tmp_path / "props",
    }
    places["PROPS"].mkdir()
    lines = "".join(f"{name}={value}\n" for name, value in properties.items())
    (places["PROPS"] / "serving.properties").write_text(lines, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        bench.run([str(places.get(part, part)) for part in argv])
    assert ended.value.code != 0
    assert text in capsys.readouterr().err


def _checkpoint(bench: Bench, quantization: dict[str, str] | None) -> Path:
    folder = bench.fresh("checkpoint")
    config = {
        "architecture": "LlamaForCausalLM",
        "dtype": "float16",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "intermediate_size": 11008,
        "max_position_embeddings": 4096,
        "mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1},
        "quantization": quantization or {},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "rank0.safetensors").write_bytes(b"")
    return folder


@pytest.mark.parametrize("kind", ["missing", "extra"])
def test_a_checkpoint_without_its_ranks_is_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(root=tmp_path, machine=NEW, places={})
    folder = _checkpoint(bench, None)
    if kind == "missing":
        (folder / "rank0.safetensors").unlink()
    else:
        (folder / "rank1.safetensors").write_bytes(b"")
    with pytest.raises(SystemExit):
        bench.run(["trtllm-build", "--checkpoint_dir", str(folder), *SIZES])
    assert "ranks" in capsys.readouterr().err


def test_the_convert_scripts_read_the_calibration_directory_by_its_name(
    hf_model: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(root=tmp_path, machine=OLD, places={})
    model = str(hf_model("llama-2-7b.json"))
    argv = [*CONVERT[:3], model, "--output_dir", str(tmp_path / "out"), "--smoothquant", "0.5"]
    good = write_calibration(tmp_path / "good") / "lambada"
    bench.run([*argv, "--calib_dataset", str(good)])
    other = good.rename(tmp_path / "mine")
    with pytest.raises(SystemExit):
        bench.run([*argv, "--calib_dataset", str(other)])
    assert "Invalid key: None" in capsys.readouterr().err
