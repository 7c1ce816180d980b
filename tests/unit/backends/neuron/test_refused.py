"""Deliberately wrong calls: each is refused, in the real tool's own words where it has any."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}
DEMO = "--model-type llama --task-type causal-lm run --model-path MODEL --compiled-model-path OUT"
GOOD = f"{DEMO} --torch-dtype bfloat16 --tp-degree 2 --batch-size 1 --seq-len 4096 --prompt x"
COMPILE = f"{GOOD} --save-sharded-checkpoint --compile-only"
EXPORT = "--model MODEL --task text-generation --tensor_parallel_size 2 --instance_type inf2 OUT"
PARTITION = "--model-dir PROPERTIES --model-id MODEL --save-mp-checkpoint-path OUT"
CC = "compile --framework XLA --target inf2 GRAPH"
NCC_EOOM = "NCC_EOOM001: The combined memory needed for the model tensors exceeds"
LNC = "NCC_EARG001: This error occurs when you attempt to use a Logical Neuron Core (LNC)"
CHOICE = "invalid choice"
UNKNOWN = "unrecognized arguments"

# What is called, with which arguments, on which machine, and the words of the refusal.
WRONG: list[tuple[str, str, dict[str, Any], str]] = [
    ("inference_demo", COMPILE.replace("llama", "mistral"), {}, CHOICE),
    ("inference_demo", COMPILE.replace("llama", "falcon"), {}, CHOICE),
    ("inference_demo", COMPILE.replace("causal-lm", "fill-mask"), {}, CHOICE),
    ("inference_demo", COMPILE.replace("--prompt x", ""), {}, "--prompt"),
    ("inference_demo", COMPILE.replace("--tp-degree", "--tensor-parallel-size"), {}, UNKNOWN),
    ("inference_demo", f"{COMPILE} --target inf2", {}, UNKNOWN),
    ("inference_demo", f"{COMPILE} --compiler-args=-O1", {}, UNKNOWN),
    ("inference_demo", COMPILE.replace("bfloat16", "bf16"), {}, CHOICE),
    ("inference_demo", COMPILE.replace("4096", "4k"), {}, "invalid int value"),
    (
        "inference_demo",
        f"{COMPILE} --max-context-length 8192",
        {},
        "AssertionError: max_context_length cannot be more than max_length",
    ),
    (
        "inference_demo",
        f"{COMPILE} --context-encoding-buckets 128 8192",
        {},
        "AssertionError: Context bucket 8192 should be <= 4096",
    ),
    (
        "inference_demo",
        f"{COMPILE} --token-generation-buckets 8192",
        {},
        "AssertionError: Token generation bucket 8192 should be <= 4096",
    ),
    (
        "inference_demo",
        f"{COMPILE} --quantized",
        {},
        "AssertionError: quantized_checkpoints_path is required",
    ),
    ("inference_demo", f"{COMPILE} --quantization-type awq", {}, CHOICE),
    (
        "inference_demo",
        f"{COMPILE} --quantized --quantized-checkpoints-path OUT/q --quantization-dtype int4",
        {},
        "QuantizedDtype",
    ),
    (
        "inference_demo",
        f"{COMPILE} --logical-neuron-cores 2 --logical-nc-config 2",
        {},
        "not allowed with argument",
    ),
    ("inference_demo", f"{COMPILE} --logical-nc-config 2", {}, LNC),
    ("inference_demo", COMPILE.replace("--batch-size 1", "--batch-size 64"), {}, NCC_EOOM),
    ("inference_demo", COMPILE, {"fail": "instructions"}, "Too many instructions after unroll"),
    ("inference_demo", COMPILE, {"fail": "killed"}, "neuronx-cc failed with -9"),
    ("inference_demo", GOOD, {}, "!(num_devices > 0)"),
    (
        "inference_demo",
        GOOD.replace("--tp-degree 2", "--tp-degree 24"),
        {"devices": 32, "instance": "trn1.32xlarge"},
        "Unsupported topology. Supported number of Neuron Cores is 1, 2, 8, 16 or a multiple",
    ),
    ("inference_demo", COMPILE.replace("MODEL", "hub/id"), {}, "does not appear to have a file"),
    ("optimum", EXPORT.replace("inf2", "inf1"), {}, CHOICE),
    ("optimum", EXPORT.replace("--instance_type inf2", ""), {}, "--instance_type"),
    ("optimum", EXPORT.replace("_parallel_", "-parallel-"), {}, UNKNOWN),
    ("optimum", f"{EXPORT} --auto_cast matmult", {}, CHOICE),
    ("optimum", f"{EXPORT} -O1 -O2", {}, "not allowed with argument"),
    ("optimum", f"{EXPORT} --quantize int8", {}, UNKNOWN),
    ("optimum", EXPORT.replace("text-generation", "fill-mask"), {}, "exports no llama"),
    ("partition", PARTITION, {}, "!(num_devices > 0)"),
    ("partition", f"{PARTITION} --tp 2", {"devices": 2}, UNKNOWN),
    (
        "partition dtype=bfloat16",
        PARTITION,
        {"devices": 2},
        "bfloat16 is not one of ['fp32', 'fp16', 'bf16']",
    ),
    (
        "partition rolling_batch=auto batch_size=2",
        PARTITION,
        {"devices": 2},
        "Dynamic batching and rolling batch cannot be enabled at the same time",
    ),
    (
        "partition model_loader=tnx partition_schema=optimum",
        PARTITION,
        {"devices": 2},
        "Transformers NeuronX model loader does not support optimum cache partitioning",
    ),
    (
        "partition model_loader=optimum",
        PARTITION,
        {"devices": 2},
        "Optimum model loader does not support non-optimum cache partitioning",
    ),
    (
        "partition model_loader=vllm",
        PARTITION,
        {"devices": 2},
        "vLLM model loader does not support ahead of time compilation",
    ),
    (
        "partition group_query_attention=shard-heads",
        PARTITION,
        {"devices": 2},
        "shard-heads is not a valid value for group_query_attention",
    ),
    ("partition quantize=smoothquant", PARTITION, {"devices": 2}, "['static_int8']"),
    ("partition n_positions=4k", PARTITION, {"devices": 2}, "n_positions: 4k"),
    ("neuronx_cc", CC.replace("--target inf2", ""), {}, "--target"),
    ("neuronx_cc", CC.replace("inf2", "inf1"), {}, CHOICE),
    ("neuronx_cc", f"{CC} --auto-cast matmul", {}, CHOICE),
    ("neuronx_cc", f"{CC} --model-type transformer-inference", {}, CHOICE),
    ("neuronx_cc", f"{CC} --lnc 2", {}, LNC),
    ("neuronx_cc", f"{CC} --fast-math none", {}, "neuron-cc (Inf1) only"),
    ("neuronx_cc", f"{CC} --cache_dir /tmp", {}, UNKNOWN),
    ("neuronx_cc", f"{CC} -O4", {}, CHOICE),
    ("neuronx_cc", CC, {"fail": "killed"}, "failed with -9"),
    ("neuron_cc", "compile g.pb --framework XLA --fast-math all none", {}, "exclude one another"),
    ("neuron_cc", "compile g.pb --framework PYTORCH", {}, CHOICE),
    ("neuron_cc", "compile g.pb --framework XLA --target inf1", {}, UNKNOWN),
]
TRACES: list[tuple[str, dict[str, Any], str]] = [
    ("torch_neuronx", {}, "!(num_devices > 0)"),
    ("torch_neuronx", {"cpu_backend": True}, "please supply compiler argument target"),
    ("torch_neuronx", {"cpu_backend": True, "compiler_args": "--target inf1"}, CHOICE),
    ("torch_neuronx", {"cpu_backend": True, "compiler_args": "--target inf2 --lnc 2"}, LNC),
    ("torch_neuronx", {"target": "inf2"}, "unexpected keyword argument 'target'"),
    ("torch_neuronx", {"fallback": True}, "unexpected keyword argument 'fallback'"),
    ("torch_neuron", {"compiler_args": "--fast-math none"}, "must be a list"),
    ("torch_neuron", {"compiler_args": ["--auto-cast", "matmult"]}, UNKNOWN),
    ("torch_neuron", {"cpu_backend": True}, "unexpected keyword argument 'cpu_backend'"),
]


def test_there_are_enough_of_them() -> None:
    assert len(WRONG) + len(TRACES) >= 40


@pytest.mark.parametrize("case", WRONG, ids=lambda case: f"{case[0]}: {case[3]}"[:60])
def test_a_wrong_call_is_refused_in_the_tools_words(
    case: tuple[str, str, dict[str, Any], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    simulators: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del simulators
    tool, arguments, machine, words = case
    run = _tool(tool, machine, tmp_path, monkeypatch)
    with pytest.raises(SystemExit) as ended:
        run(_filled(arguments, tmp_path))
    assert ended.value.code not in (0, None)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tool", "arguments", "machine"),
    [
        ("inference_demo", COMPILE, {}),
        ("optimum", EXPORT, {}),
        ("partition", PARTITION, {"devices": 2}),
        ("neuronx_cc", CC, {}),
        ("neuron_cc", "compile g.pb --framework XLA --fast-math none", {}),
    ],
)
def test_the_call_that_the_wrong_ones_start_from_is_accepted(
    tool: str,
    arguments: str,
    machine: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    simulators: None,
) -> None:
    del simulators
    monkeypatch.chdir(tmp_path)
    assert _tool(tool, machine, tmp_path, monkeypatch)(_filled(arguments, tmp_path)) == 0


@pytest.mark.parametrize(("module", "keywords", "words"), TRACES)
def test_a_wrong_trace_call_is_refused(
    module: str,
    keywords: dict[str, Any],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    simulators: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del simulators
    torch = importlib.import_module("torch")
    _machine({}, tmp_path, monkeypatch)
    sys.modules.pop(module, None)
    trace = importlib.import_module(module).trace
    with pytest.raises((SystemExit, RuntimeError, TypeError, ValueError)) as caught:
        trace(torch.nn.ReLU(), (torch.ones(2),), **keywords)
    assert words in f"{caught.value} {capsys.readouterr().err}"


def _tool(
    tool: str, machine: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[str]], int]:
    name, *properties = tool.split()
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps(LLAMA))
    (folder / "out").mkdir()
    (folder / "graph.hlo").write_bytes(b"")
    (folder / "properties").mkdir()
    lines = ["engine=Python", "option.entryPoint=djl_python.transformers_neuronx"]
    lines += [f"option.{each}" for each in properties]
    (folder / "properties" / "serving.properties").write_text("\n".join(lines) + "\n")
    _machine(machine, folder, monkeypatch)
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "inf2")
    monkeypatch.setenv("BASE_COMPILE_WORK_DIR", str(folder / "nxd"))
    for loaded in [each for each in sys.modules if each.partition(".")[0] == "optimum"]:
        monkeypatch.delitem(sys.modules, loaded)
    known = {"optimum": "optimum.exporters.neuron.__main__"}
    main: Callable[[list[str]], int] = importlib.import_module(
        known.get(name, f"neuron_simulator.{name}")
    ).main
    return main


def _machine(given: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = {"sdk": "2.28.0", "devices": 0, "instance": "inf2.48xlarge", "fail": None, **given}
    (folder / "machine.json").write_text(json.dumps(machine))
    monkeypatch.setenv("NEURON_SIMULATOR_MACHINE", str(folder / "machine.json"))


def _filled(arguments: str, folder: Path) -> list[str]:
    places = {"MODEL": "model", "OUT": "out", "PROPERTIES": "properties", "GRAPH": "graph.hlo"}
    words = []
    for word in arguments.split():
        head, slash, rest = word.partition("/")
        words.append(f"{folder / places[head]}{slash}{rest}" if head in places else word)
    return words
