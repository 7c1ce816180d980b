"""What the arithmetic takes from elsewhere: each figure with its source or called an assumption."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lmi_recipes.model import BackendName, Dtype, QuantizationMethod

if TYPE_CHECKING:
    from lmi_recipes.instance import ComputeType

DTYPE_BYTES: dict[Dtype, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
DTYPE_COMPUTE: "dict[Dtype, ComputeType]" = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
}
# Of free memory, what the paged cache takes: `kv_cache_free_gpu_memory_fraction` of
# TensorRT-LLM's executor, whose documented default is 0.9.
KV_FRACTION = 0.9
# CUDA context, cuBLAS and NCCL workspaces of one rank. An assumption, not a measurement.
GPU_RESERVE = 1 << 30
# Neuron runtime and collectives of one core. An assumption, not a measurement.
NEURON_RESERVE = 512 << 20
# TensorRT-LLM's default for max_num_tokens (trtllm-build, all versions from 0.12).
DEFAULT_NUM_TOKENS = 8192
LOGIT_BYTES = 4  # logits_dtype float32, TensorRT-LLM's default; the others compute them so too


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """How a quantisation method stores one linear weight of `rows` by `columns`.

    Attributes:
        bits: of one weight.
        row_bytes: scales for each output channel.
        column_bytes: scales for each input channel (smoothers, AWQ's prequant scales).
        group: weights in a group along the input; 0 for no groups.
        group_bytes: scale, and zero point where there is one, of a group.
        tensor_bytes: scales of the whole matrix.
        compute: what it multiplies in; None follows the recipe's dtype.
    """

    bits: int
    row_bytes: int = 0
    column_bytes: int = 0
    group: int = 0
    group_bytes: int = 0
    tensor_bytes: int = 0
    compute: "ComputeType | None" = None


# TensorRT-LLM 0.12 to 1.2 checkpoints: int8 and int4 weight-only per channel in the model's dtype;
# AWQ and GPTQ in groups of 128; SmoothQuant per channel in float32; FP8 one float32 each for
# weights and activations. docs/checkpoints.md.
FORMATS: dict[QuantizationMethod, WeightFormat | None] = {
    "none": None,
    "int8_wo": WeightFormat(bits=8, row_bytes=2),
    "int4_wo": WeightFormat(bits=4, row_bytes=2),
    "awq": WeightFormat(bits=4, column_bytes=2, group=128, group_bytes=2),
    "gptq": WeightFormat(bits=4, group=128, group_bytes=4),
    "smoothquant": WeightFormat(bits=8, row_bytes=4, column_bytes=4, compute="int8"),
    "fp8": WeightFormat(bits=8, tensor_bytes=8, compute="fp8"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendFacts:
    """What a backend does with memory and with the machine.

    Attributes:
        cache: `paged` keeps what is used; `static` keeps the whole batch at full length.
        vendors: whose accelerators it runs on whatever its toolchain; empty for the CPU.
        doubled_head: a tied output head is stored a second time.
        degrees: how a recipe's degree above the heads is met: `divide` or `pad`.
        on_device: steps that need the accelerator, where there is one.
    """

    cache: Literal["paged", "static"]
    vendors: tuple[str, ...]
    doubled_head: bool
    heads: Literal["divide", "pad"]
    on_device: tuple[str, ...]


BACKEND_FACTS: dict[BackendName, BackendFacts] = {
    "null": BackendFacts(
        cache="static", vendors=(), doubled_head=False, heads="divide", on_device=()
    ),
    # Of a CUDA device its kernels are tuned and assembled on one.
    "aoti": BackendFacts(
        cache="static",
        vendors=(),
        doubled_head=False,
        heads="divide",
        on_device=("compile", "candidate", "proof"),
    ),
    # trtllm-build has no CPU-only build; a degree-8 engine can be built on one GPU.
    "tensorrt-llm": BackendFacts(
        cache="paged",
        vendors=("nvidia",),
        doubled_head=True,
        heads="divide",
        on_device=("calibrate", "build engine", "verify"),
    ),
    # NxDI pads query heads and replicates KV heads; it compiles on any large host.
    "neuron": BackendFacts(
        cache="static", vendors=("aws",), doubled_head=False, heads="pad", on_device=("verify",)
    ),
}

# Quantisation by CUDA architecture: TensorRT-LLM's support matrix for the engine backend.
SM_METHODS: dict[QuantizationMethod, tuple[int, str]] = {
    "fp8": (89, "FP8 needs Ada, Hopper or newer (sm_89)"),
    "smoothquant": (75, "INT8 tensor cores came with Turing (sm_75)"),
    "int8_wo": (75, "INT8 tensor cores came with Turing (sm_75)"),
    "int4_wo": (75, "the weight-only kernels need Turing (sm_75)"),
    "awq": (80, "the AWQ kernels need Ampere (sm_80)"),
    "gptq": (80, "the GPTQ kernels need Ampere (sm_80)"),
}
SM_KV = {"fp8": (89, "an FP8 KV cache needs Ada, Hopper or newer (sm_89)")}
BFLOAT16_SM = 80
# NeuronCore generations: v1 has no FP8; NxDI's quantisation is int8 and fp8 weights from v2 on.
NEURON_METHODS: dict[QuantizationMethod, int] = {"int8_wo": 2, "fp8": 2}
# Families whose column in TensorRT-LLM's precision.md lacks the method.
FAMILY_LACKS: dict[str, tuple[QuantizationMethod, ...]] = {
    "mixtral": ("smoothquant", "awq"),
    "qwen2": ("fp8",),
    "falcon": ("smoothquant", "gptq"),
    "phi": ("smoothquant", "fp8", "awq", "gptq"),
    "opt": ("smoothquant", "fp8", "awq", "gptq"),
    "t5": ("smoothquant", "fp8", "awq", "gptq"),
}
