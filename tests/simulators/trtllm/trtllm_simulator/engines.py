"""What a simulated build checks and writes: one file for each rank and the engine's config.json.

A simulated engine file says what it stands for and carries its part of the weights, so that the
simulated runtime can compute it and needs nothing else, as a real one.
Texts are TensorRT-LLM's own, as its source or an issue of it quotes them.
"""

import json
from pathlib import Path
from typing import Any

from trtllm_simulator.carried import write_rank
from trtllm_simulator.machine import Machine, fail, unquoted

_FP8_SM = 89
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def check_build(machine: Machine, pretrained: dict[str, Any], args: Any) -> None:
    """Refuse what the real build refuses on this machine."""
    quantization = pretrained.get("quantization") or {}
    if machine.gpus == 0:
        fail("RuntimeError: CUDA error: no CUDA-capable device is detected")
    fp8 = "FP8" in {quantization.get("quant_algo"), quantization.get("kv_cache_quant_algo")}
    if fp8 and machine.sm < _FP8_SM:
        fail("Networks with FP8 precision require hardware with FP8 support.")
    attention = args.use_fp8_context_fmha == "enable" and quantization.get("quant_algo") == "FP8"
    if attention and machine.sm < _FP8_SM:
        fail("FP8 FMHA cannot be enabled except on Ada or Hopper or Blackwell Arch.")
    int8_kv = quantization.get("kv_cache_quant_algo") == "INT8"
    if int8_kv and args.use_paged_context_fmha == "enable":
        fail("RuntimeError: Paged Context FMHA doesn't work with int8 kv cache currently.")
    if args.gather_context_logits and (args.max_draft_len or 0) > 0:
        fail("RuntimeError: Gather context logits is not support with draft len > 0.")
    if args.multiple_profiles == "enable" and args.opt_num_tokens is not None:
        fail("RuntimeError: multiple_profiles is enabled, while opt_num_tokens is set.")
    if args.max_seq_len is not None and args.max_input_len > args.max_seq_len:
        unquoted(f"max_input_len {args.max_input_len} is above max_seq_len {args.max_seq_len}")


def write_engine(
    machine: Machine,
    out: Path,
    pretrained: dict[str, Any],
    limits: dict[str, Any],
    stands_for: dict[str, Any],
    parts: list[bytes],
) -> None:
    """Write the engine; a rank that fails leaves the ranks before it, as the real tool does.

    Args:
        machine: that builds it.
        out: the engine's directory.
        pretrained: the checkpoint's config.json.
        limits: the build's.
        stands_for: `hf`, a Hugging Face config.json, or `checkpoint`, a checkpoint's.
        parts: of the weights, by rank.
    """
    out.mkdir(parents=True, exist_ok=True)
    world = pretrained["mapping"]["world_size"]
    needed = _bytes_of(pretrained) // world
    if needed > machine.memory_bytes:
        text = f"Requested amount of GPU memory ({needed} bytes) could not be allocated."
        fail(f"{text}\nTypeError: a bytes-like object is required, not 'NoneType'")
    for rank in range(world):
        if rank == machine.fail_rank:
            fail("RuntimeError: Engine building failed, please check error log.")
        about = {
            "simulated_rank": rank,
            "tensorrt": machine.tensorrt,
            "sm": machine.sm,
            **stands_for,
        }
        write_rank(out / f"rank{rank}.engine", about, parts[rank])
    if limits["max_seq_len"] is None:
        limits["max_seq_len"] = pretrained.get("max_position_embeddings") or 2048
    limits["max_num_tokens"] = min(
        limits["max_num_tokens"], limits["max_seq_len"] * limits["max_batch_size"]
    )
    config = {
        "version": machine.tensorrt_llm,
        "pretrained_config": pretrained,
        "build_config": limits,
    }
    (out / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def _bytes_of(pretrained: dict[str, Any]) -> int:
    """Bytes of the weights by the config alone; enough to tell 70B from 7B."""
    hidden, layers = pretrained["hidden_size"], pretrained["num_hidden_layers"]
    inner = pretrained.get("intermediate_size") or 4 * hidden
    quantised = (pretrained.get("quantization") or {}).get("quant_algo")
    width = 1 if quantised else _BYTES.get(pretrained["dtype"], 2)
    return layers * (4 * hidden * hidden + 3 * hidden * inner) * width


def read_config(model: Path) -> dict[str, Any]:
    """A Hugging Face model's config.json."""
    loaded: dict[str, Any] = json.loads((model / "config.json").read_bytes())
    return loaded


def hf_pretrained(model: Path, dtype: str, tp: int, pp: int, quantization: Any) -> dict[str, Any]:
    """A checkpoint's config.json as a conversion writes it, from the model's."""
    config = read_config(model)

    def first(*names: str) -> Any:
        return next((config[name] for name in names if config.get(name) is not None), None)

    heads = first("num_attention_heads", "n_head", "num_heads")
    if heads is None:
        unquoted("the model's config.json names no attention heads")
    if heads % tp:
        unquoted(f"{heads} attention heads do not divide by tp_size {tp}")
    hidden = first("hidden_size", "n_embd", "d_model")
    return {
        "architecture": (config.get("architectures") or ["?"])[0],
        "dtype": dtype,
        "logits_dtype": "float32",
        "vocab_size": first("vocab_size", "padded_vocab_size"),
        "hidden_size": hidden,
        "max_position_embeddings": first("max_position_embeddings", "n_positions", "seq_length"),
        "num_hidden_layers": first("num_hidden_layers", "n_layer", "num_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": first("num_key_value_heads", "num_kv_heads") or heads,
        "intermediate_size": first("intermediate_size", "n_inner", "ffn_hidden_size", "d_ff"),
        "mapping": {"world_size": tp * pp, "tp_size": tp, "pp_size": pp},
        "quantization": quantization,
    }
