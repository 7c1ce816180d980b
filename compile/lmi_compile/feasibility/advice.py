"""Backends that we do not build, and when one would choose them."""

from lmi_artifacts.digest import JSONValue
from lmi_compile.feasibility.question import Question

_HOPPER = 90
_BLACKWELL = 100
_TRAINIUM2 = 3  # NeuronCore-v3
# Families that came after TensorRT-LLM 0.21, the last of LMI's engine containers.
_NEWER_THAN_ENGINES = frozenset({"gpt_oss", "qwen3_moe", "smollm3", "olmo2", "granite"})
_ENCODERS = "it generates nothing, so a server for generation has nothing to give"


def advice(question: Question) -> tuple[dict[str, JSONValue], ...]:
    """Each backend with whether one would choose it for this model and target, and why."""
    return tuple(
        {"backend": name, "choose": choose, "why": why}
        for name, (choose, why) in (
            ("vllm", _vllm(question)),
            ("tensorrt-llm>=1.3", _pytorch(question)),
            ("deepspeed", _deepspeed()),
            ("lmi-dist", _lmi_dist()),
        )
    )


def _vllm(question: Question) -> tuple[bool, str]:
    accelerator = question.instance.accelerator if question.instance else None
    if not question.shape.generates:
        return False, _ENCODERS
    if accelerator is None:
        return False, "a CPU target is served from a compiled package without a server of its own"
    if accelerator.neuroncore is not None:
        if accelerator.neuroncore >= _TRAINIUM2:
            return True, "the Neuron SDK's own way for new models on Trainium2 is vLLM Neuron"
        return False, "its Neuron plugin compiles while it loads on this generation"
    if question.shape.model_type in _NEWER_THAN_ENGINES:
        return True, f"{question.shape.model_type} is newer than the last engine container"
    newer = (accelerator.sm or 0) >= _BLACKWELL
    why = "its kernels are compiled when the endpoint starts; an engine is not"
    late = "the last engine container is from June 2025; Blackwell is served by vLLM"
    return newer, late if newer else why


def _pytorch(question: Question) -> tuple[bool, str]:
    accelerator = question.instance.accelerator if question.instance else None
    if accelerator is None or accelerator.vendor != "nvidia":
        return False, "it runs on NVIDIA GPUs only"
    if not question.shape.generates:
        return False, _ENCODERS
    if question.method == "smoothquant":
        return False, "its PyTorch backend has no SmoothQuant"
    if accelerator.sm is not None and accelerator.sm >= _HOPPER and question.method == "fp8":
        return True, "its FP8 kernels are the newest; no engine, and a container of one's own"
    return False, "it has no engine to ship, and no LMI container carries it"


def _deepspeed() -> tuple[bool, str]:
    return False, "its last LMI container is 0.27.0 with DeepSpeed 0.12.6"


def _lmi_dist() -> tuple[bool, str]:
    return False, "removed in LMI 0.33; the property is rewritten to vLLM with a warning"
