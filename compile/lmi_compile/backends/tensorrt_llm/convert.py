"""argv of TensorRT-LLM's own conversion and quantisation scripts, by generation."""

from lmi_compile.backends.tensorrt_llm.ask import Ask

CALIBRATION = "{in:calibration}/lambada"
_QFORMAT = {"fp8": "fp8", "awq": "int4_awq"}
_BY_QUANTIZE = frozenset(_QFORMAT)


def by_quantize(ask: Ask) -> bool:
    """Whether `quantize.py` makes the checkpoint, rather than the family's own script."""
    return ask.quantization.method in _BY_QUANTIZE


def checkpoint_argv(ask: Ask) -> tuple[str, ...]:
    """The command that makes the checkpoint where TensorRT-LLM is."""
    if by_quantize(ask):
        return _quantize(ask)
    if ask.family.hyphens:
        return _gemma(ask)
    return _convert(ask)


def _script(ask: Ask, name: str) -> str:
    return f"{ask.how.scripts}/{name}"


def _convert(ask: Ask) -> tuple[str, ...]:
    argv = [
        "python3",
        _script(ask, f"{ask.family.scripts[ask.how.generation]}/convert_checkpoint.py"),
        *("--model_dir", "{in:model}"),
        *("--output_dir", "{out}"),
        *("--dtype", ask.recipe.dtype),
        *("--tp_size", str(ask.tp)),
        *("--pp_size", str(ask.pp)),
        *("--workers", str(ask.world)),
    ]
    if ask.family.variant:
        argv += ["--gpt_variant", _variant(ask)]
    if ask.family.version_flag:
        argv += [ask.family.version_flag, _version(ask)]
    if ask.family.encoder_decoder:
        argv += ["--model_type", ask.family.model_type]
    if ask.family.moe:
        argv += ["--moe_tp_size", str(ask.tp), "--moe_ep_size", "1"]
    smooth = ask.quantization.smoothquant
    match ask.quantization.method:
        case "smoothquant" if smooth is not None:
            argv += ["--smoothquant", str(smooth.alpha), "--per_token", "--per_channel"]
        case "int8_wo" | "int4_wo":
            precision = ask.quantization.method.removesuffix("_wo")
            argv += ["--use_weight_only", "--weight_only_precision", precision]
        case "gptq":
            argv += ["--use_weight_only", "--weight_only_precision", "int4_gptq", "--per_group"]
            argv += ["--quant_ckpt_path", "{in:model}/model.safetensors"]
        case _:
            pass
    if ask.kv_cache_quant_algo == "INT8":
        argv.append("--int8_kv_cache")
    if ask.calibrates:
        argv += ["--calib_dataset", CALIBRATION, *_calibration_size(ask)]
    return tuple(argv)


def _calibration_size(ask: Ask) -> tuple[str, ...]:
    """Most convert scripts take no size, and none before 0.15: they read 512 samples."""
    calibration = ask.quantization.calibration
    if ask.how.generation == "0.12" or not ask.family.calibration_size or calibration is None:
        return ()
    return (
        *("--calib_size", str(calibration.num_samples)),
        *("--calib_max_seq_length", str(calibration.max_seq_len)),
    )


def _variant(ask: Ask) -> str:
    return "santacoder" if "santacoder" in ask.recipe.model.id.lower() else str(ask.family.variant)


def _version(ask: Ask) -> str:
    """Baichuan's version and size, as the script spells them."""
    name = ask.recipe.model.id.lower()
    return f"v{'2' if 'baichuan2' in name else '1'}_{'13b' if '13b' in name else '7b'}"


def _gemma(ask: Ask) -> tuple[str, ...]:
    argv = [
        "python3",
        _script(ask, f"{ask.family.scripts[ask.how.generation]}/convert_checkpoint.py"),
        *("--ckpt-type", "hf"),
        *("--model-dir", "{in:model}"),
        *("--output-model-dir", "{out}"),
        *("--dtype", ask.recipe.dtype),
        *("--world-size", str(ask.tp)),
    ]
    match ask.quantization.method:
        case "int8_wo" | "int4_wo":
            precision = ask.quantization.method.removesuffix("_wo")
            argv += ["--use-weight-only-with-precision", precision]
        case _:
            pass
    return tuple(argv)


def _quantize(ask: Ask) -> tuple[str, ...]:
    calibration = ask.quantization.calibration
    samples = calibration.num_samples if calibration else 512
    length = calibration.max_seq_len if calibration else 512
    seed = calibration.seed if calibration else 1234
    argv = [
        "python3",
        _script(ask, "examples/quantization/quantize.py"),
        *("--model_dir", "{in:model}"),
        *("--output_dir", "{out}"),
        *("--dtype", ask.recipe.dtype),
        *("--qformat", _QFORMAT[ask.quantization.method]),
        *("--calib_dataset", CALIBRATION),
        *("--calib_size", str(samples)),
        *("--calib_max_seq_length", str(length)),
        *("--seed", str(seed)),
        *("--tp_size", str(ask.tp)),
        *("--pp_size", str(ask.pp)),
    ]
    if ask.kv_cache_quant_algo is not None:
        argv += ["--kv_cache_dtype", ask.kv_cache_quant_algo.lower()]
    return tuple(argv)
