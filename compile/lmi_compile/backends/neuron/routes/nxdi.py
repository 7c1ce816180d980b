"""NxD Inference: `inference_demo ... run --compile-only` on any host, per-rank weights saved.

Flags: neuronx-distributed-inference 0.8.16251, inference_demo.py @ cd3abf3. The compiler's own
flags, `--auto-cast=none` among them, are written by NxD Inference and cannot be passed.
"""

from lmi_compile.backend import Order
from lmi_compile.backends.neuron.facts import nxdi_model_type
from lmi_compile.backends.neuron.ground import Ground
from lmi_compile.backends.neuron.routes import common
from lmi_compile.backends.neuron.shape_rules import context_length
from lmi_compile.common_steps import reference_step
from lmi_compile.step import Argv, Step

_PROBE = "probe_nxdi.py"
_FP8 = {"XLA_HANDLE_SPECIAL_SCALAR": "1", "UNSAFE_FP8FNCAST": "1"}


def steps(order: Order, ground: Ground) -> tuple[Step, ...]:
    """Model, reference, compile, package, candidate, judge, proof."""
    ranks = order.recipe.tensor_parallel_degree
    weights = tuple(f"weights/tp{rank}_sharded_checkpoint.safetensors" for rank in range(ranks))
    return (
        *order.model.steps,
        reference_step(order.recipe),
        Step(
            name="compile",
            retry=common.RETRY,
            run=Argv(argv=compile_argv(order, ground)),
            env=_env(order, ground),
            needs=("model",),
            outputs=("model.pt", "neuron_config.json", *weights),
            where="toolchain",
            resources=common.compile_resources(ground),
            identity=common.identity(order),
        ),
        common.tools_step({"route": ground.route, "tokens": 64}),
        common.package_step(
            order,
            ground,
            needs=("model", "compile", "tools"),
            outputs=("model.pt", "neuron_config.json", "config.json", "serve.sh", *weights),
        ),
        common.candidate_step(order, ground, _PROBE),
        *common.closing_steps(order, ground),
    )


def compile_argv(order: Order, ground: Ground) -> tuple[str, ...]:
    """The whole command line; shapes are those that the vLLM plugin itself would compile."""
    shapes = order.recipe.shapes
    argv = [
        "inference_demo",
        "--model-type",
        nxdi_model_type(str(ground.config["model_type"])),
        "--task-type",
        "causal-lm",
        "run",
        "--model-path",
        "{in:model}",
        "--compiled-model-path",
        "{out}",
        "--torch-dtype",
        order.recipe.dtype,
        "--tp-degree",
        str(order.recipe.tensor_parallel_degree),
        "--batch-size",
        str(shapes.max_batch_size),
        "--ctx-batch-size",
        "1",
        "--max-context-length",
        str(context_length(order.recipe)),
        "--seq-len",
        str(shapes.max_seq_len),
        "--pad-token-id",
        str(_pad_token(ground)),
        "--enable-bucketing",
    ]
    if shapes.max_batch_size > 1:
        argv.append("--is-continuous-batching")
    for flag, buckets in (
        ("--context-encoding-buckets", shapes.buckets.prefill),
        ("--token-generation-buckets", shapes.buckets.decode),
    ):
        argv += [flag, *map(str, buckets)] if buckets else []
    if ground.instance.lnc > 1:
        argv += ["--logical-nc-config", str(ground.instance.lnc)]
    argv += _quantization(order)
    return (*argv, "--save-sharded-checkpoint", "--compile-only", "--prompt", "unused")


def _quantization(order: Order) -> list[str]:
    quantization = order.recipe.quantization
    argv: list[str] = []
    if quantization.method != "none":
        dtype = {"int8_wo": "int8", "fp8": "f8e4m3"}[quantization.method]
        argv += ["--quantized", "--quantized-checkpoints-path", "{tmp}/quantized"]
        argv += ["--quantization-dtype", dtype, "--quantization-type", "per_channel_symmetric"]
    if quantization.kv_cache_dtype == "fp8":
        argv += ["--kv-cache-quant", "--kv-quant-dtype", "float8_e4m3fn"]
    return argv


def _env(order: Order, ground: Ground) -> dict[str, str]:
    quantization = order.recipe.quantization
    in_fp8 = quantization.method == "fp8" or quantization.kv_cache_dtype == "fp8"
    return common.compiler_env(ground) | (_FP8 if in_fp8 else {})


def _pad_token(ground: Ground) -> int:
    """The model's padding token, else the first that ends a text."""
    for name in ("pad_token_id", "eos_token_id"):
        found = ground.config.get(name)
        if isinstance(found, list) and found:
            found = found[0]
        if isinstance(found, int):
            return found
    return 0
