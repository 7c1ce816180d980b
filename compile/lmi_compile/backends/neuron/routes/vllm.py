"""vLLM Neuron of SDK 2.33: the compile cache of one engine start, made on the CPU.

Environment and arguments: SDK vllm-neuron/docs/model-dev/cpu-development.md @ 81ce03ae. Its own
example starts the server, which does not end; the script starts the same engine and ends.
"""

from lmi_compile.backend import Order
from lmi_compile.backends.neuron.ground import Ground
from lmi_compile.backends.neuron.routes import common
from lmi_compile.common_steps import reference_step
from lmi_compile.step import Argv, Step


def steps(order: Order, ground: Ground) -> tuple[Step, ...]:
    """Model, reference, tools, compile, package, candidate, judge, proof."""
    recipe = order.recipe
    return (
        *order.model.steps,
        reference_step(recipe),
        common.tools_step({"route": ground.route, "tokens": 64}),
        Step(
            name="compile",
            retry=common.RETRY,
            run=Argv(
                argv=(
                    "python",
                    "{in:tools}/vllm_compile.py",
                    "--model",
                    "{in:model}",
                    "--tensor-parallel-size",
                    str(recipe.tensor_parallel_degree),
                    "--max-model-len",
                    str(recipe.shapes.max_seq_len),
                    "--max-num-seqs",
                    str(recipe.shapes.max_batch_size),
                )
            ),
            env={
                "VLLM_NEURON_CPU_COMPILE": "1",
                "NEURON_PLATFORM_TARGET_OVERRIDE": ground.instance.target,
                "VLLM_CACHE_ROOT": "{out}",
            },
            needs=("tools", "model"),
            outputs=("neuron/compile_cache",),
            where="toolchain",
            resources=common.compile_resources(ground),
            identity=common.identity(order),
        ),
        common.package_step(
            order,
            ground,
            needs=("model", "compile", "tools"),
            outputs=("config.json", "neuron/compile_cache", "serve.sh"),
        ),
        common.candidate_step(order, ground, "probe_vllm.py"),
        *common.closing_steps(order, ground),
    )
