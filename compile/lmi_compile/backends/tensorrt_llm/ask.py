"""A recipe as TensorRT-LLM's tools need it said: resolved once, then turned into argv."""

from collections.abc import Mapping
from dataclasses import dataclass

from lmi_artifacts.digest import JSONValue
from lmi_compile.backends.tensorrt_llm.facts import Family, Gpus
from lmi_recipes.model import Quantization, Recipe
from lmi_recipes.toolchain import TensorRtLlm, Toolchain

_MOST_TOKENS_UNASKED = 8192  # trtllm-build's own default for --max_num_tokens since 0.12
_SM_FP8_ATTENTION = 89
QUANT_ALGO = {
    "none": None,
    "fp8": "FP8",
    "int8_wo": "W8A16",
    "int4_wo": "W4A16",
    "awq": "W4A16_AWQ",
    "gptq": "W4A16_GPTQ",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The four limits that are compiled into an engine; none is left to a default."""

    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    max_num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """All that decides an engine.

    Attributes:
        recipe: what is asked for.
        toolchain: the pinned toolchain.
        how: its TensorRT-LLM part.
        family: what TensorRT-LLM can do with the model.
        config: the model's config.json.
        gpus: the target's.
        limits: of the serving engine.
    """

    recipe: Recipe
    toolchain: Toolchain
    how: TensorRtLlm
    family: Family
    config: Mapping[str, JSONValue]
    gpus: Gpus
    limits: Limits

    @property
    def tp(self) -> int:
        """Tensor parallel degree."""
        return self.recipe.tensor_parallel_degree

    @property
    def pp(self) -> int:
        """Pipeline parallel degree."""
        return self.recipe.pipeline_parallel_degree

    @property
    def world(self) -> int:
        """Ranks."""
        return self.tp * self.pp

    @property
    def quantization(self) -> Quantization:
        """How it is quantised."""
        return self.recipe.quantization

    @property
    def quant_algo(self) -> str | None:
        """TensorRT-LLM's QuantAlgo."""
        smooth = self.quantization.smoothquant
        if self.quantization.method != "smoothquant" or smooth is None:
            return QUANT_ALGO[self.quantization.method]
        if smooth.per_token:
            return "W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN"
        return "W8A8_SQ_PER_CHANNEL"

    @property
    def kv_cache_quant_algo(self) -> str | None:
        """QuantAlgo of the KV cache."""
        kv = self.quantization.kv_cache_dtype
        return None if kv == "auto" else kv.upper()

    @property
    def calibrates(self) -> bool:
        """Whether activations have to be seen."""
        methods = {"smoothquant", "fp8", "awq"}
        return self.quantization.method in methods or self.kv_cache_quant_algo is not None

    @property
    def paged_context_fmha(self) -> bool:
        """Off with an int8 KV cache: the two fail together, and on is the default from 0.20."""
        return self.kv_cache_quant_algo != "INT8"

    @property
    def fp8_context_fmha(self) -> bool:
        """On where the model is FP8 and the GPU has it; the default from 0.20 is on everywhere."""
        return self.quantization.method == "fp8" and self.gpus.sm >= _SM_FP8_ATTENTION


def limits_of(recipe: Recipe) -> Limits:
    """The four limits, with `max_num_tokens` made explicit where the recipe leaves it open."""
    shapes = recipe.shapes
    most = shapes.max_batch_size * shapes.max_seq_len
    asked = shapes.max_num_tokens
    unasked = min(most, max(_MOST_TOKENS_UNASKED, shapes.max_input_len))
    return Limits(
        max_batch_size=shapes.max_batch_size,
        max_input_len=shapes.max_input_len,
        max_seq_len=shapes.max_seq_len,
        max_num_tokens=unasked if asked is None else asked,
    )


def logits_limits(limits: Limits) -> Limits:
    """The verification engine's: one sequence, whose prompt may fill it."""
    return Limits(
        max_batch_size=1,
        max_input_len=limits.max_seq_len,
        max_seq_len=limits.max_seq_len,
        max_num_tokens=limits.max_seq_len,
    )
