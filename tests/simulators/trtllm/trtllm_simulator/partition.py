"""Stands in for /opt/djl/partition/trt_llm_partition.py of LMI 0.30, 0.32 and 0.33.

0.33's way with properties is its source's (djl-serving 8b3b685b): quantisation, calibration and LLM
keys are taken out, the rest goes to trtllm-build's parser as `--key value`, unknown ones dropped.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from trtllm_simulator.carried import parts_of
from trtllm_simulator.engines import check_build, hf_pretrained, read_config, write_engine
from trtllm_simulator.machine import Machine, fail, maybe_killed, unquoted
from trtllm_simulator.parsers import build_parser, script_parser, table

_QUANT = ("quant_algo", "kv_cache_quant_algo", "group_size", "smoothquant_val", "clamp_val",
          "use_meta_recipe", "has_zero_point", "exclude_modules")  # fmt: skip
_CALIB = ("device", "calib_dataset", "calib_batches", "calib_batch_size", "calib_max_seq_length",
          "random_seed", "tokenizer_max_seq_length")  # fmt: skip
_LLM = ("dtype", "revision", "trust_remote_code")
_ALGOS = ("FP8", "W8A8_SQ_PER_CHANNEL", "W8A8_SQ_PER_TENSOR_PLUGIN", "W4A16_AWQ", "W4A16", "W8A16",
          "W4A16_GPTQ", "W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN", "INT8",
          "W8A8_SQ_PER_CHANNEL_PER_TENSOR_PLUGIN",
          "W8A8_SQ_PER_TENSOR_PER_TOKEN_PLUGIN")  # fmt: skip
_TOOLKIT_DTYPE = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


def main(machine: Machine, argv: list[str]) -> None:
    """Partition, or refuse."""
    options = table(f"partition-{machine.partition_table}")["options"]
    args = script_parser(options, "trt_llm_partition.py").parse_args(argv)
    maybe_killed(machine, "trt_llm_partition.py")
    properties = _properties(Path(args.properties_dir))
    if machine.partition_table == "0.33":
        _with_the_llm_class(machine, args, properties)
    else:
        _with_the_toolkit(machine, args, properties)


def _properties(folder: Path) -> dict[str, str]:
    path, found = folder / "serving.properties", {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("#") or not line.strip():
                continue
            key, value = line.strip().split("=", 1)
            found[key.strip().removeprefix("option.")] = value.strip()
    return found


def _with_the_llm_class(machine: Machine, args: Any, properties: dict[str, str]) -> None:
    if "pre_quant_scales" in properties:
        fail("TypeError: QuantConfig.__init__() got an unexpected keyword argument "
             "'pre_quant_scales'")  # fmt: skip
    quant = {key: properties.pop(key) for key in _QUANT if key in properties}
    calib = {key: properties.pop(key) for key in _CALIB if key in properties}
    llm = {key: properties.pop(key) for key in _LLM if key in properties}
    for name in ("quant_algo", "kv_cache_quant_algo"):
        if name in quant and quant[name].upper() not in _ALGOS:
            fail(f"ValueError: '{quant[name].upper()}' is not a valid QuantAlgo")
    if "max_rolling_batch_size" in properties:
        properties["max_batch_size"] = properties["max_rolling_batch_size"]
    flat = [part for key, value in properties.items() for part in (f"--{key}", value)]
    built, _ = build_parser(machine.build_table).parse_known_args(flat)
    if args.model_path is None:
        unquoted("LLM(model=None)")
    model = Path(args.model_path)
    if quant and "calib_dataset" in calib and not Path(calib["calib_dataset"]).is_dir():
        fail(f"Couldn't reach '{calib['calib_dataset']}' on the Hub (OfflineModeIsEnabled)")
    algo = {name: quant.get(name) for name in ("quant_algo", "kv_cache_quant_algo")}
    pretrained = hf_pretrained(
        model,
        llm.get("dtype", "float16"),
        args.tensor_parallel_degree,
        args.pipeline_parallel_degree,
        algo,
    )
    if pretrained["mapping"]["world_size"] > machine.gpus > 0:
        unquoted(f"{pretrained['mapping']['world_size']} ranks on {machine.gpus} GPUs")
    check_build(machine, pretrained, built)
    out = Path(args.trt_llm_model_repo)
    stands_for = {"hf": read_config(model)}
    parts = parts_of(model, pretrained["mapping"]["world_size"])
    write_engine(machine, out, pretrained, _limits(built), stands_for, parts)
    for path in model.glob("tokenizer*"):  # LLM.save keeps no other file of the model
        shutil.copyfile(path, out / path.name)
    source = Path(args.properties_dir) / "serving.properties"
    if not source.exists():
        fail(f"FileNotFoundError: [Errno 2] No such file or directory: '{source}'")
    kept = [line for line in source.read_text().splitlines() if "option.model_id" not in line]
    (out / "serving.properties").write_text("\n".join(kept) + "\n", encoding="utf-8")


def _limits(built: Any) -> dict[str, Any]:
    names = ("max_batch_size", "max_input_len", "max_seq_len", "max_num_tokens", "max_beam_width")
    return {name: getattr(built, name) for name in names} | {
        "gather_context_logits": built.gather_context_logits
    }


def _with_the_toolkit(machine: Machine, args: Any, properties: dict[str, str]) -> None:
    """The toolkit is closed: what it makes of most keys is not known, and they pass."""
    model = args.model_path or properties.get("model_id")
    if model is None:
        fail("KeyError: 'model_id'")
    method = properties.get("quantize")
    if method not in {None, "smoothquant", "awq", "fp8"}:
        unquoted(f"quantize={method}")
    smooth = (
        properties.get("smoothquant_per_token") == "true",
        properties.get("smoothquant_per_channel") == "true",
    )
    names = {
        (True, True): "W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN",
        (False, False): "W8A8_SQ_PER_TENSOR_PLUGIN",
        (False, True): "W8A8_SQ_PER_CHANNEL_PER_TENSOR_PLUGIN",
        (True, False): "W8A8_SQ_PER_TENSOR_PER_TOKEN_PLUGIN",
    }
    algo = {"smoothquant": names[smooth], "fp8": "FP8", "awq": "W4A16_AWQ"}.get(str(method))
    pretrained = hf_pretrained(
        Path(model),
        _TOOLKIT_DTYPE.get(properties.get("dtype", "fp16"), "float16"),
        args.tensor_parallel_degree,
        args.pipeline_parallel_degree,
        {"quant_algo": algo, "kv_cache_quant_algo": None},
    )
    built, _ = build_parser(machine.build_table).parse_known_args([])
    built.use_fp8_context_fmha = (
        "enable" if properties.get("use_fp8_context_fmha") == "true" else "disable"
    )
    check_build(machine, pretrained, built)
    limits = {
        "max_batch_size": int(properties.get("max_rolling_batch_size", "256")),
        "max_input_len": int(properties.get("max_input_len", "1024")),
        "max_seq_len": int(properties.get("max_output_len", "512")),
        "max_num_tokens": int(properties.get("max_num_tokens", "16384")),
    }
    folder = Path(args.trt_llm_model_repo) / "tensorrt_llm"
    stands_for = {"hf": read_config(Path(model))}
    parts = parts_of(Path(model), pretrained["mapping"]["world_size"])
    write_engine(machine, folder / "1", pretrained, limits, stands_for, parts)
    (folder / "1" / "model.cache").write_bytes(b"timing")
    (folder / "config.pbtxt").write_text('backend: "tensorrtllm"\n', encoding="utf-8")
    for path in sorted(Path(model).iterdir()):
        if path.suffix == ".json" and path.name != "model.safetensors.index.json":
            shutil.copyfile(path, folder / path.name)
    (folder / "note.json").write_text(json.dumps({"simulated": True}), encoding="utf-8")
