"""optimum-neuron: `python -m optimum.exporters.neuron` from a local directory.

The module has the parser of `optimum-cli export neuron` without its shell. Flags: optimum-neuron
0.4.5, optimum/commands/export/neuronx.py. A decoder's dtype is its config.json's; --auto-cast=none
and -O2 are fixed inside.
"""

from lmi_compile.backend import Order
from lmi_compile.backends.neuron.ground import Ground
from lmi_compile.backends.neuron.routes import common
from lmi_compile.common_steps import reference_step
from lmi_compile.step import Argv, Step

_STORED_TARGET = {"inf2": "trn1", "trn1": "trn1", "trn1n": "trn1", "trn2": "trn2"}


def steps(order: Order, ground: Ground) -> tuple[Step, ...]:
    """Model, reference, compile, package, candidate, judge, proof."""
    ranks = range(order.recipe.tensor_parallel_degree)
    name = "checkpoint/weights/tp{}_sharded_checkpoint.safetensors"
    weights = tuple(name.format(rank) for rank in ranks)
    target = _STORED_TARGET[ground.instance.target]
    return (
        *order.model.steps,
        reference_step(order.recipe),
        Step(
            name="compile",
            retry=common.RETRY,
            run=Argv(argv=compile_argv(order, ground)),
            env=common.compiler_env(ground, override=target),
            needs=("model",),
            outputs=("model.pt", "config.json", "neuron_config.json", *weights),
            where="toolchain",
            resources=common.compile_resources(ground),
            identity=common.identity(order),
        ),
        common.tools_step({"route": ground.route, "tokens": 64}),
        common.package_step(
            order,
            ground,
            needs=("model", "compile", "tools"),
            outputs=("model.pt", "config.json", "neuron_config.json", *weights),
        ),
        common.candidate_step(order, ground, "probe_optimum.py"),
        *common.closing_steps(order, ground),
    )


def compile_argv(order: Order, ground: Ground) -> tuple[str, ...]:
    """The whole command line."""
    recipe = order.recipe
    return (
        "python",
        "-m",
        "optimum.exporters.neuron",
        "--model",
        "{in:model}",
        "--task",
        "text-generation",
        "--batch_size",
        str(recipe.shapes.max_batch_size),
        "--sequence_length",
        str(recipe.shapes.max_seq_len),
        "--tensor_parallel_size",
        str(recipe.tensor_parallel_degree),
        "--instance_type",
        ground.instance.target,
        "{out}",
    )
