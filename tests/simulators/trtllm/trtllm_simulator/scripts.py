"""Stands in for TensorRT-LLM's convert_checkpoint.py of each family, and for quantize.py."""

import json
from pathlib import Path
from typing import Any

from trtllm_simulator.carried import parts_of
from trtllm_simulator.engines import hf_pretrained, read_config
from trtllm_simulator.machine import Machine, fail, maybe_killed, unquoted
from trtllm_simulator.parsers import script_parser, table

_SMOOTHQUANT = {
    (False, False): "W8A8_SQ_PER_TENSOR_PLUGIN",
    (False, True): "W8A8_SQ_PER_CHANNEL_PER_TENSOR_PLUGIN",
    (True, False): "W8A8_SQ_PER_TENSOR_PER_TOKEN_PLUGIN",
    (True, True): "W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN",
}
_QFORMAT = {"fp8": "FP8", "int8_sq": "W8A8_SQ_PER_CHANNEL", "int4_awq": "W4A16_AWQ",
            "int8_wo": "W8A16", "int4_wo": "W4A16", "full_prec": None}  # fmt: skip
_FP8_SM = 89


def main(machine: Machine, script: str, argv: list[str]) -> None:
    """Convert or quantise, or refuse.

    Args:
        machine: what is simulated.
        script: the script's path; its last two parts name it.
        argv: its arguments.
    """
    known = table(f"scripts-{machine.script_table}")
    name = "/".join(script.split("/")[-2:])
    if name not in known:
        fail(f"python3: can't open file '{script}': [Errno 2] No such file or directory")
    args = script_parser(known[name]["options"], Path(script).name).parse_args(argv)
    maybe_killed(machine, Path(script).name)
    given = vars(args)
    if name.startswith("gemma/"):
        given |= {"output_dir": given["output_model_dir"], "tp_size": given["world_size"]}
    if given.get("model_dir") is None:
        unquoted("no model is given")
    model = Path(given["model_dir"])
    if not (model / "config.json").is_file():
        unquoted(f"{model} is no Hugging Face model")
    algo = _quantization(machine, name, given, read_config(model))
    calibrated = bool(algo["quant_algo"]) and name.endswith("/quantize.py")
    if calibrated or "SQ" in str(algo["quant_algo"]):
        _check_calibration(machine, str(given.get("calib_dataset")))
    moe_tp, moe_ep = given.get("moe_tp_size", -1), given.get("moe_ep_size", -1)
    if moe_tp > 0 and moe_ep > 0 and moe_tp * moe_ep != given["tp_size"]:
        unquoted(f"moe_tp_size {moe_tp} x moe_ep_size {moe_ep} is not tp_size {given['tp_size']}")
    dtype = given.get("dtype") or "float16"
    tp, pp = int(given["tp_size"]), int(given.get("pp_size") or 1)
    pretrained = hf_pretrained(model, dtype, tp, pp, algo)
    pretrained["simulated_model"] = read_config(model)
    _write(Path(given["output_dir"]), pretrained, parts_of(model, tp * pp))


def _quantization(  # noqa: C901 - the real scripts look in this order
    machine: Machine, name: str, given: dict[str, Any], config: dict[str, Any]
) -> dict[str, Any]:
    kv = None
    if given.get("int8_kv_cache"):
        kv = "INT8"
    if given.get("fp8_kv_cache"):
        kv = "FP8"
    if name.endswith("quantize.py"):
        if given["qformat"] == "fp8" and machine.sm < _FP8_SM:
            fail("Networks with FP8 precision require hardware with FP8 support.")
        kv = given["kv_cache_dtype"].upper() if given["kv_cache_dtype"] else None
        return {"quant_algo": _QFORMAT[given["qformat"]], "kv_cache_quant_algo": kv}
    smooth = given.get("smoothquant")
    if smooth and config.get("model_type") == "mixtral":
        unquoted("SmoothQuant of a mixture of experts")
    if given.get("load_by_shard") and (smooth or given.get("int8_kv_cache")):
        unquoted("--load_by_shard with --smoothquant or --int8_kv_cache")
    algo = None  # the real scripts look in this order and ignore the later ones silently
    precision = given.get("use_weight_only_with_precision")
    if given.get("use_weight_only"):
        precision = given["weight_only_precision"]
    if precision:
        algo = {"int8": "W8A16", "int4": "W4A16", "int4_gptq": "W4A16_GPTQ"}[precision]
    elif given.get("use_fp8"):
        algo = "FP8"
    elif smooth:
        algo = _SMOOTHQUANT[given["per_token"], given["per_channel"]]
    return {"quant_algo": algo, "kv_cache_quant_algo": kv}


def _check_calibration(machine: Machine, dataset: str) -> None:
    """How the versions look a data set up: load_calib_dataset of models/convert_utils.py."""
    folder = Path(dataset)
    if not folder.is_dir():
        fail(f"Couldn't reach '{dataset}' on the Hub (OfflineModeIsEnabled)")
    if "cnn_dailymail" in dataset:
        fail("BuilderConfig '3.0.0' not found")
    if "lambada" not in dataset and machine.tensorrt_llm.startswith("0.12"):
        fail('KeyError: "Invalid key: None')
    for name in ("train.jsonl", "validation.jsonl"):
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        if not lines or not all(json.loads(line)["text"] for line in lines):
            unquoted(f"{name} holds no text")


def _write(out: Path, pretrained: dict[str, Any], parts: list[bytes]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(pretrained, indent=1), encoding="utf-8")
    for rank, part in enumerate(parts):
        (out / f"rank{rank}.safetensors").write_bytes(part)
