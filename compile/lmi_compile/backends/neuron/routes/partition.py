"""LMI 0.30 `partition`: on a host with a device of the same family, in the image that serves.

Flags: djl-serving 0.30.0-dlc, serving/docker/partition/partition.py; properties:
djl_python/properties_manager/tnx_properties.py of the same branch.
"""

from lmi_artifacts.digest import JSONValue
from lmi_compile.backend import Order
from lmi_compile.backends.neuron.environment import KEPT_CACHE
from lmi_compile.backends.neuron.ground import Ground
from lmi_compile.backends.neuron.routes import common
from lmi_compile.backends.neuron.shape_rules import context_length
from lmi_compile.common_steps import reference_step
from lmi_compile.feasibility.shape import Shape
from lmi_compile.step import Argv, Call, Resources, Step

# DJL's words; bfloat16 is refused there.
_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_LOADING_SECONDS = "3600"


def steps(order: Order, ground: Ground) -> tuple[Step, ...]:
    """Model, reference, properties, compile, package, candidate, judge, proof."""
    properties: dict[str, JSONValue] = dict(serving_properties(order, ground))
    return (
        *order.model.steps,
        reference_step(order.recipe),
        Step(
            name="properties",
            run=Call(
                function=f"{common.BACKEND}.work:write_properties",
                params={"properties": properties},
            ),
            outputs=("serving.properties",),
        ),
        Step(
            name="compile",
            retry=common.RETRY,
            run=Argv(argv=compile_argv(order)),
            env={"NEURON_COMPILE_CACHE_URL": f"{{out}}/{KEPT_CACHE}"},
            needs=("model", "properties"),
            outputs=("config.json", "compiled"),
            where="device",
            resources=Resources(
                accelerator=ground.instance.target,
                accelerator_count=order.recipe.tensor_parallel_degree,
                memory_bytes=common.compile_resources(ground).memory_bytes,
            ),
            identity=common.identity(order),
        ),
        common.tools_step({"route": ground.route, "tokens": 64}),
        common.package_step(
            order,
            ground,
            needs=("model", "compile", "tools"),
            outputs=("config.json", "compiled", "serving.properties"),
            extra={"properties": properties},
        ),
        common.candidate_step(order, ground, "probe_partition.py"),
        *common.closing_steps(order, ground),
    )


def compile_argv(order: Order) -> tuple[str, ...]:
    """The whole command line; the model is named here so that no path enters the properties."""
    return (
        "partition",
        "--model-dir",
        "{in:properties}",
        "--model-id",
        "{in:model}",
        "--save-mp-checkpoint-path",
        "{out}",
        "--tensor-parallel-degree",
        str(order.recipe.tensor_parallel_degree),
        "--skip-copy",
    )


def serving_properties(order: Order, ground: Ground) -> dict[str, str]:
    """Every value that is compiled in, written the same for compiling and for serving."""
    recipe = order.recipe
    properties = {
        "engine": "Python",
        "option.entryPoint": "djl_python.transformers_neuronx",
        "option.model_loader": "tnx",
        "option.partition_schema": "safetensors",
        "option.dtype": _DTYPES[recipe.dtype],
        "option.tensor_parallel_degree": str(recipe.tensor_parallel_degree),
        "option.n_positions": str(recipe.shapes.max_seq_len),
        "option.rolling_batch": "tnx",  # what `auto` means in this container, written down
        "option.max_rolling_batch_size": str(recipe.shapes.max_batch_size),
        "option.context_length_estimate": _contexts(order),
        "option.neuron_optimize_level": "2",
        "option.model_loading_timeout": _LOADING_SECONDS,
    }
    if recipe.quantization.method == "int8_wo":
        properties["option.quantize"] = "static_int8"
    sharding = grouped_query_attention(ground.decoder, recipe.tensor_parallel_degree)
    if sharding is not None:
        properties["option.group_query_attention"] = sharding
    return properties


def grouped_query_attention(decoder: Shape | None, degree: int) -> str | None:
    """How transformers-neuronx shares key and value heads; None where every query has its own.

    Heads that divide among the cores are sharded; where a head divides among several cores it is
    replicated; else all are gathered.
    """
    if decoder is None or decoder.heads == decoder.kv_heads:
        return None
    if decoder.kv_heads % degree == 0:
        return "shard-over-heads"
    return "replicated-heads" if degree % decoder.kv_heads == 0 else "all-gather-heads"


def _contexts(order: Order) -> str:
    buckets = order.recipe.shapes.buckets.prefill or (context_length(order.recipe),)
    return ",".join(map(str, buckets))
