"""The process that imports modelopt: quantise, calibrate, export. Started by `modelopt.py`."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import modelopt.torch.quantization as mtq  # noqa: TID253 - this process exists to import it
import torch  # noqa: TID253 - as above
from modelopt.torch.export import export_tensorrt_llm_checkpoint  # noqa: TID253 - as above
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: TID253 - as above
from transformers.utils import logging  # noqa: TID253 - as above

from lmi_compile.quantize.config_gate import rope_of

_KV_BITS = {"FP8": (4, 3), "INT8": 8}


def main(request: str) -> None:
    """Make the checkpoints that the file `request` describes, one after the other."""
    logging.disable_progress_bar()
    for asked in json.loads(Path(request).read_bytes()):
        _make(asked["params"], asked["inputs"], asked["out"])


def _make(params: dict[str, Any], inputs: dict[str, str], out: str) -> None:
    directory = Path(inputs["model"])
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, local_files_only=True, attn_implementation="sdpa"
    ).eval()
    _prepare(model, json.loads((directory / "config.json").read_bytes()))
    if params["format"] != "none":
        windows = _windows(directory, Path(inputs["calibration"]), params)
        print(f"calibrating on {len(windows)} windows", flush=True)  # noqa: T201 - progress
        with torch.inference_mode():
            mtq.quantize(model, quantizer_config(params), _loop(windows))
    with torch.inference_mode():
        export_tensorrt_llm_checkpoint(
            model,
            params["decoder"],
            getattr(torch, params["dtype"]),
            out,
            inference_tensor_parallel=params["tp_size"],
            inference_pipeline_parallel=1,
        )


def quantizer_config(params: dict[str, Any]) -> dict[str, Any]:
    """Modelopt's configuration for a format of `data/cells.json`; all its defaults in the open."""
    scheme = params["format"].partition("_kv_")[0]
    config: dict[str, Any]
    match scheme:
        case "int8_sq":
            config = copy.deepcopy(mtq.INT8_SMOOTHQUANT_CFG)
            # the library's own default is alpha 1.0
            config["algorithm"] = {"method": "smoothquant", "alpha": params["alpha"]}
        case "fp8":
            config = copy.deepcopy(mtq.FP8_DEFAULT_CFG)
        case "int4_awq":
            config = copy.deepcopy(mtq.INT4_AWQ_CFG)
            for entry in config["quant_cfg"]:
                sizes = (entry.get("cfg") or {}).get("block_sizes")
                if sizes:
                    sizes[-1] = params["group_size"]
        case _:
            raise ValueError(scheme)
    if params["kv_cache_quant_algo"]:
        bits = _KV_BITS[params["kv_cache_quant_algo"]]
        entry = {"quantizer_name": "*[kv]_bmm_quantizer", "cfg": {"num_bits": bits, "axis": None}}
        config["quant_cfg"] = [*config["quant_cfg"], {**entry, "enable": True}]
    return config


def _prepare(model: Any, config: dict[str, Any]) -> None:  # noqa: ANN401 - transformers is untyped
    """Say to modelopt what transformers 5 no longer spells its way."""
    model.config.architectures = [type(model).__name__]
    base, scaling = rope_of(config)
    if base is not None:
        model.config.__dict__["rope_theta"] = base
        model.config.__dict__["rope_scaling"] = scaling


def _windows(directory: Path, calibration: Path, params: dict[str, Any]) -> list[torch.Tensor]:
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    lines = (calibration / "lambada" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    windows = []
    for line in lines[: params["num_samples"]]:
        ids = tokenizer.encode(json.loads(line)["text"], verbose=False)[: params["max_seq_len"]]
        windows.append(torch.tensor([ids]))
    return windows


def _loop(windows: list[torch.Tensor]) -> Callable[[Any], None]:
    def forward(model: Any) -> None:  # noqa: ANN401 - transformers is untyped
        for number, window in enumerate(windows, start=1):
            model(input_ids=window, use_cache=False)
            if number % 8 == 0:
                print(f"  window {number} of {len(windows)}", flush=True)  # noqa: T201 - progress

    return forward
