"""What TensorRT-LLM cannot do, said before anything runs: why, and the nearest legal choice."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from lmi_artifacts.digest import JSONValue
from lmi_compile.backends.tensorrt_llm.arithmetic import memory_of
from lmi_compile.backends.tensorrt_llm.ask import Ask
from lmi_compile.backends.tensorrt_llm.facts import Gpus, families, gpu_instances, least_sm
from lmi_compile.errors import Unsupported
from lmi_recipes.errors import RecipeImpossible
from lmi_recipes.model import Recipe
from lmi_recipes.problems import Problem
from lmi_recipes.toolchain import TensorRtLlm, Toolchain

_WAY_OUT = (
    "TensorRT engines were removed upstream after 1.3.0rc20: quantise the model to a Hugging Face"
    " checkpoint (ModelOpt hf_ptq.py, --export_fmt hf) and serve it with the PyTorch backend and"
    " warmed kernel caches (TRTLLM_CACHE_DIR), or stay on trtllm-1.2.1"
)
_GIB = 1 << 30
_TASKS = ("text-generation", "text2text-generation")


def gpus_of(recipe: Recipe) -> Gpus:
    """The target's GPUs.

    Raises:
        Unsupported: the target is not an instance with GPUs that TensorRT-LLM builds for.
    """
    asked = recipe.target.instance_type
    known = gpu_instances()
    if asked is None:
        what = f"target {recipe.target.cpu}: TensorRT-LLM builds for NVIDIA GPUs"
        raise Unsupported(what, fix="write target: {instance_type: ml.g5.2xlarge}")
    if asked not in known:
        near = ", ".join(get_close_matches(asked, known, n=3, cutoff=0.6)) or "ml.g5.2xlarge"
        what = f"target {asked} is no instance with GPUs that TensorRT-LLM is known to build for"
        raise Unsupported(what, fix=f"the nearest are {near}")
    return known[asked]


def how_of(toolchain: Toolchain) -> TensorRtLlm:
    """The toolchain's TensorRT-LLM part.

    Raises:
        Unsupported: it has none, or its release can no longer build engines.
    """
    how = toolchain.tensorrt_llm
    if how is None:
        what = f"toolchain {toolchain.name} does not say what its TensorRT-LLM is like"
        raise Unsupported(what, fix="add its tensorrt_llm section")
    if not how.engines:
        version = toolchain.versions.get("tensorrt_llm", "1.3")
        what = f"toolchain {toolchain.name}: TensorRT-LLM {version} builds no engines"
        raise Unsupported(what, fix=_WAY_OUT)
    return how


def refuse(ask: Ask) -> None:
    """Refuse what the ask's toolchain, target or model cannot do, all of it at once.

    Raises:
        RecipeImpossible: with one problem for each thing that is wrong.
    """
    problems = [
        Problem(
            file=ask.recipe.name,
            field=field,
            value=value,
            message=message,
            nearest=nearest,
        )
        for field, value, message, nearest in _breaches(ask)
    ]
    if problems:
        raise RecipeImpossible(problems)


_Breach = tuple[str, str | None, str, str | None]


def _breaches(ask: Ask) -> Iterator[_Breach]:
    yield from _of_the_toolchain(ask)
    yield from _of_the_quantization(ask)
    yield from _of_smoothquant(ask)
    yield from _of_the_degrees(ask)
    yield from _of_the_limits(ask)
    yield from _of_memory(ask)


def _of_the_toolchain(ask: Ask) -> Iterator[_Breach]:
    task = ask.recipe.model.task
    if task not in _TASKS:
        yield "model.task", task, "TensorRT-LLM engines generate text", "text-generation"
    if ask.gpus.sm not in ask.toolchain.builds_for.sm:
        can = ", ".join(map(str, ask.toolchain.builds_for.sm))
        message = f"SM {ask.gpus.sm} ({ask.gpus.name}); the toolchain builds for {can}"
        yield "target.instance_type", ask.recipe.target.instance_type, message, None
    if ask.how.generation not in ask.family.scripts:
        message = f"TensorRT-LLM {ask.toolchain.versions['tensorrt_llm']} does not have this family"
        nearest = "trtllm-1.2.1" if "0.20" in ask.family.scripts else "trtllm-lmi-0.30"
        yield "model.id", ask.family.model_type, message, nearest
    if ask.family.encoder_decoder and ask.how.layout != "triton":
        message = "the LLM class has no encoder-decoder models"
        yield "toolchain", ask.toolchain.name, message, "trtllm-lmi-0.30"
    if ask.how.layout == "engine":
        for name, value in ask.recipe.runtime.items():
            message = "an engine directory has no serving.properties; give it to the server's start"
            yield f"runtime.{name}", str(value), message, None


def _of_the_quantization(ask: Ask) -> Iterator[_Breach]:
    method, kv = ask.quantization.method, ask.quantization.kv_cache_dtype
    has = ask.family.quantizations
    if method != "none" and method not in has:
        message = f"TensorRT-LLM has no {method} for {ask.family.model_type} ({ask.family.source})"
        yield "quantization.method", method, message, (*has, "none")[0]
    elif ask.gpus.sm < least_sm(method):
        message = f"{ask.gpus.name} is SM {ask.gpus.sm}; {method} needs SM {least_sm(method)}"
        legal = [each for each in has if least_sm(each) <= ask.gpus.sm]
        yield "quantization.method", method, message, (*legal, "none")[0]
    if kv == "fp8" and ask.gpus.sm < least_sm("fp8"):
        message = f"{ask.gpus.name} is SM {ask.gpus.sm}; an FP8 KV cache needs SM 89"
        yield "quantization.kv_cache_dtype", kv, message, "int8"
    if kv == "int8" and method == "fp8":
        message = "quantize.py pairs fp8 weights with an fp8 KV cache"
        yield "quantization.kv_cache_dtype", kv, message, "fp8"
    if ask.quantization.fp8 is not None and ask.quantization.fp8.per_token:
        message = "the tools that this backend calls fix FP8 activation scales by calibration"
        yield "quantization.fp8.per_token", "true", message, "false"
    carried = ask.config.get("quantization_config")
    if isinstance(carried, Mapping):
        yield from _of_a_quantised_model(method, carried)
    elif method == "gptq":
        message = "needs a model that GPTQ has quantised (config.json with quantization_config)"
        yield "quantization.method", method, message, "awq" if "awq" in has else "int4_wo"


def _of_a_quantised_model(method: str, carried: Mapping[str, JSONValue]) -> Iterator[_Breach]:
    """An own quantization_config overrides the flags silently."""
    theirs = str(carried.get("quant_method"))
    if theirs != method:
        message = f"the model is quantised already ({theirs}), which overrides every flag"
        yield "quantization.method", method, message, theirs if theirs == "gptq" else None
    elif carried.get("desc_act") is True:
        message = "GPTQ with desc_act=True is not implemented in TensorRT-LLM"
        yield "quantization.method", method, message, "awq"


def _of_smoothquant(ask: Ask) -> Iterator[_Breach]:
    smooth = ask.quantization.smoothquant
    if ask.quantization.method != "smoothquant" or smooth is None:
        return
    field = "quantization.smoothquant"
    if not smooth.per_channel:
        message = "per-tensor weights lose the model (TensorRT-LLM#1618: MMLU 54.5 to 29.4, #945)"
        yield f"{field}.per_channel", "false", message, "true"
    elif not smooth.per_token and ask.recipe.toolchain and ask.toolchain.route == "lmi-script":
        message = (
            "static activations are ModelOpt's W8A8_SQ_PER_CHANNEL, and LMI's script gives no way"
            " to set its alpha (the library's 1.0 costs twice the 0.8)"
        )
        yield f"{field}.per_token", "false", message, "true"
    elif smooth.per_token and not ask.family.plugin_smoothquant:
        message = f"the conversion script of {ask.family.model_type} has no --smoothquant"
        yield f"{field}.per_token", "true", message, "false"


def _of_the_degrees(ask: Ask) -> Iterator[_Breach]:
    field = "tensor_parallel_degree"
    if ask.world > ask.gpus.count:
        message = f"{ask.world} ranks, but {ask.recipe.target.instance_type} has {ask.gpus.count}"
        yield field, str(ask.tp), f"{message} GPUs", str(ask.gpus.count)
    if ask.family.hyphens and ask.pp > 1:
        message = f"the conversion script of {ask.family.model_type} has no pipeline stages"
        yield "pipeline_parallel_degree", str(ask.pp), message, "1"
    for name, wanted in (("attention heads", "heads"), ("inner columns", "inner")):
        value = _dimension(ask.config, wanted)
        if value is not None and value % ask.tp:
            legal = max(each for each in range(1, ask.tp + 1) if value % each == 0)
            yield field, str(ask.tp), f"does not divide the model's {value} {name}", str(legal)
    kv_heads = _dimension(ask.config, "kv_heads")
    if kv_heads and kv_heads % ask.tp and ask.tp % kv_heads:
        message = f"neither divides nor is a multiple of the model's {kv_heads} KV heads"
        yield field, str(ask.tp), message, str(kv_heads)
    group = 128
    inner, hidden = _dimension(ask.config, "inner"), _dimension(ask.config, "hidden")
    if ask.quantization.method == "awq" and inner and hidden:
        odd = [each for each in (hidden, hidden // ask.tp, inner // ask.tp) if each % 64]
        if odd:
            message = f"AWQ groups of {group} or 64 columns do not divide {odd[0]} columns per rank"
            yield "quantization.method", "awq", message, "int4_wo"


_DIMENSIONS = {
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "inner": ("intermediate_size", "ffn_hidden_size", "n_inner", "d_ff"),
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "multi_query_group_num"),
    "positions": ("max_position_embeddings", "n_positions", "seq_length", "model_max_length"),
}


def _dimension(config: Mapping[str, JSONValue], name: str) -> int | None:
    for key in _DIMENSIONS[name]:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _of_the_limits(ask: Ask) -> Iterator[_Breach]:
    limits = ask.limits
    if limits.max_num_tokens < limits.max_input_len:
        message = (
            f"a prompt of {limits.max_input_len} tokens does not fit one step without chunked"
            " context"
        )
        value = str(limits.max_num_tokens)
        yield "shapes.max_num_tokens", value, message, str(limits.max_input_len)
    positions = _dimension(ask.config, "positions")
    scaled = ask.config.get("rope_scaling")
    if positions and limits.max_seq_len > positions and not scaled and not _relative(ask):
        message = f"the model has {positions} positions and no RoPE scaling"
        yield "shapes.max_seq_len", str(limits.max_seq_len), message, str(positions)


def _relative(ask: Ask) -> bool:
    return ask.family.encoder_decoder


def _of_memory(ask: Ask) -> Iterator[_Breach]:
    memory = memory_of(ask)
    if memory is None or memory.fits:
        return
    message = (
        f"{memory.needed / _GIB:.1f} GiB a rank (weights {memory.weights / _GIB:.1f}, one sequence"
        f" of {ask.limits.max_seq_len} tokens {memory.sequence / _GIB:.1f}, workspace and runtime"
        f" {memory.reserve / _GIB:.1f}), {ask.gpus.name} has {memory.available / _GIB:.1f}"
    )
    wider = next((n for n in (2, 4, 8) if ask.tp < n <= ask.gpus.count), None)
    yield (
        "tensor_parallel_degree",
        str(ask.tp),
        message,
        str(wider) if wider else None,
    )


def family_of(config: Mapping[str, JSONValue]) -> str:
    """The model type, when there is a family for it.

    Raises:
        Unsupported: there is none.
    """
    found = str(config.get("model_type"))
    aliases = {"RefinedWeb": "falcon", "RefinedWebModel": "falcon"}
    found = aliases.get(found, found)
    if found not in families():
        near = ", ".join(get_close_matches(found, families(), n=2, cutoff=0.4))
        what = f"model type {found}: no TensorRT-LLM conversion is known here"
        raise Unsupported(what, fix=f"the nearest families are {near}" if near else "use aoti")
    return found
