"""LMI's own partition script: its argv, and the serving.properties that it builds from."""

from lmi_compile.backends.tensorrt_llm.ask import Ask, Limits

_SWITCH = {True: "enable", False: "disable"}
_TOOLKIT_DTYPE = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}


def partition_argv(ask: Ask, properties: str) -> tuple[str, ...]:
    """The command; both degrees are required (the tutorial leaves one out).

    Args:
        ask: what is asked for.
        properties: name of the step that wrote serving.properties.
    """
    return (
        "python3",
        str(ask.how.partition_script),
        *("--properties_dir", f"{{in:{properties}}}"),
        *("--trt_llm_model_repo", "{out}"),
        *("--tensor_parallel_degree", str(ask.tp)),
        *("--pipeline_parallel_degree", str(ask.pp)),
        *("--model_path", "{in:model}"),
    )


def build_properties(ask: Ask, limits: Limits, *, logits: bool) -> dict[str, str]:
    """serving.properties for the build; what it serves with is written by the package step."""
    return (
        _llm_class_properties(ask, limits, logits=logits)
        if ask.how.generation == "0.20"
        else _toolkit_properties(ask, limits)
    )


def _llm_class_properties(ask: Ask, limits: Limits, *, logits: bool) -> dict[str, str]:
    """For 0.33: every key is a flag of trtllm-build or a field of QuantConfig or CalibConfig.

    A bare flag is on when its key is there, whatever its value: it is left out unless wanted.
    """
    properties = {
        "engine": "Python",
        "option.dtype": ask.recipe.dtype,
        "option.max_rolling_batch_size": str(limits.max_batch_size),
        "option.max_input_len": str(limits.max_input_len),
        "option.max_seq_len": str(limits.max_seq_len),
        "option.max_num_tokens": str(limits.max_num_tokens),
        "option.max_beam_width": "1",
        "option.gpt_attention_plugin": "auto",
        "option.gemm_plugin": "auto",
        "option.remove_input_padding": "enable",
        "option.kv_cache_type": "paged",
        "option.use_paged_context_fmha": _SWITCH[ask.paged_context_fmha],
        "option.use_fp8_context_fmha": _SWITCH[ask.fp8_context_fmha],
    }
    if ask.family.moe:
        properties["option.moe_plugin"] = "auto"
    if ask.recipe.model.trust_remote_code:
        properties["option.trust_remote_code"] = "true"
    if ask.quant_algo is not None:
        properties["option.quant_algo"] = ask.quant_algo
    if ask.kv_cache_quant_algo is not None:
        properties["option.kv_cache_quant_algo"] = ask.kv_cache_quant_algo
    smooth, calibration = ask.quantization.smoothquant, ask.quantization.calibration
    if smooth is not None:
        properties["option.smoothquant_val"] = str(smooth.alpha)
    if ask.calibrates and calibration is not None:
        properties["option.calib_dataset"] = "{in:calibration}/lambada"
        properties["option.calib_batches"] = str(calibration.num_samples)
        properties["option.calib_batch_size"] = "1"
        properties["option.calib_max_seq_length"] = str(calibration.max_seq_len)
        properties["option.random_seed"] = str(calibration.seed)
    if logits:
        properties["option.gather_context_logits"] = "true"
    return properties


def _toolkit_properties(ask: Ask, limits: Limits) -> dict[str, str]:
    """For 0.27 to 0.32: keys of the closed tensorrt_llm_toolkit (max_output_len is max_seq_len)."""
    properties = {
        "engine": "MPI",
        "option.rolling_batch": "trtllm",
        "option.dtype": _TOOLKIT_DTYPE[ask.recipe.dtype],
        "option.max_rolling_batch_size": str(limits.max_batch_size),
        "option.max_input_len": str(limits.max_input_len),
        "option.max_output_len": str(limits.max_seq_len),
        "option.max_num_tokens": str(limits.max_num_tokens),
    }
    if ask.recipe.model.trust_remote_code:
        properties["option.trust_remote_code"] = "true"
    smooth, calibration = ask.quantization.smoothquant, ask.quantization.calibration
    match ask.quantization.method:
        case "smoothquant" if smooth is not None:
            properties["option.quantize"] = "smoothquant"
            properties["option.smoothquant_alpha"] = str(smooth.alpha)
            for each in ("per_token", "per_channel"):
                properties[f"option.smoothquant_{each}"] = "true"
            if ask.config.get("num_key_value_heads") not in {
                None,
                ask.config.get("num_attention_heads"),
            }:
                properties["option.multi_query_mode"] = "true"
        case "fp8":
            properties["option.quantize"] = "fp8"
            properties["option.use_fp8_context_fmha"] = str(ask.fp8_context_fmha).lower()
        case "awq":
            properties["option.quantize"] = "awq"
            properties["option.q_format"] = "int4_awq"
        case _:
            pass
    if ask.quantization.method in {"fp8", "awq"} and calibration is not None:
        properties["option.calib_size"] = str(calibration.num_samples)
    return properties
