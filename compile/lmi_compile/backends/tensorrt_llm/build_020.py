"""argv of trtllm-build 0.20 to 1.2."""

from lmi_compile.backends.tensorrt_llm.ask import Ask, Limits

_SWITCH = {True: "enable", False: "disable"}


def build_argv(ask: Ask, limits: Limits, checkpoint: str, *, logits: bool) -> tuple[str, ...]:
    """The command that builds every rank.

    Both context FMHA switches are written because their defaults changed to `enable` in 0.20.

    Args:
        ask: what is asked for.
        limits: of this engine; all four are always written.
        checkpoint: name of the step that made it.
        logits: give context logits back (the verification engine); generation logits are asked
            for at run time in these versions.
    """
    argv = [
        "trtllm-build",
        *("--checkpoint_dir", f"{{in:{checkpoint}}}"),
        *("--output_dir", "{out}"),
        *("--gpt_attention_plugin", "auto"),
        *("--gemm_plugin", "auto"),
        *("--remove_input_padding", "enable"),
        *("--kv_cache_type", "paged"),
        *("--use_paged_context_fmha", _SWITCH[ask.paged_context_fmha]),
        *("--use_fp8_context_fmha", _SWITCH[ask.fp8_context_fmha]),
        *("--max_beam_width", "1"),
        *("--max_batch_size", str(limits.max_batch_size)),
        *("--max_input_len", str(limits.max_input_len)),
        *("--max_seq_len", str(limits.max_seq_len)),
        *("--max_num_tokens", str(limits.max_num_tokens)),
        *("--workers", str(ask.world)),
    ]
    if ask.family.moe:
        argv += ["--moe_plugin", "auto"]
    if logits:
        argv.append("--gather_context_logits")
    return tuple(argv)
