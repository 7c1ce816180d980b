"""What the routes share: identity, environment, and the steps around the compiler."""

from collections.abc import Mapping

from lmi_artifacts.digest import JSONValue
from lmi_compile.backend import Order
from lmi_compile.backends.neuron import facts
from lmi_compile.backends.neuron.ground import Ground
from lmi_compile.step import Argv, Call, Resources, Step

BACKEND = "lmi_compile.backends.neuron"
TREE = "package"
RETRY = (70,)  # neuronx-cc ends with it whatever its reason, a machine's bad moment among them


def identity(order: Order) -> dict[str, JSONValue]:
    """What of the toolchain decides a foreign step's bytes."""
    image = order.toolchain.image
    return {
        "toolchain": order.toolchain.name,
        "versions": dict(order.toolchain.versions),
        "image": None if image is None else {"reference": image.reference, "digest": image.digest},
        "simulated": order.toolchain.simulated,
    }


def compiler_env(ground: Ground, *, override: str | None = None) -> dict[str, str]:
    """The environment of every compiling step: the target, and a cache and work folder of its own.

    Args:
        ground: what is built on.
        override: the platform override where it is not the instance's target.
    """
    env = {
        "NEURON_PLATFORM_TARGET_OVERRIDE": override or ground.instance.target,
        "NEURON_COMPILE_CACHE_URL": "{tmp}/neuron-compile-cache",
        "BASE_COMPILE_WORK_DIR": "{tmp}/nxd",
        "NEURON_CC_FLAGS": "",
    }
    if ground.instance.lnc > 1:
        env["NEURON_LOGICAL_NC_CONFIG"] = str(ground.instance.lnc)
    return env


def compile_resources(ground: Ground) -> Resources:
    """Host memory to compile and shard: the checkpoint and its shards at once, and a reserve."""
    needs = ground.footprint
    memory = None
    if needs is not None:
        memory = needs.checkpoint_bytes + needs.weights_bytes + facts.host_reserve()
    return Resources(memory_bytes=memory)


def description(order: Order, ground: Ground) -> dict[str, JSONValue]:
    """What the packaged tree says of itself: hardware, shapes and the memory arithmetic."""
    recipe = order.recipe
    memory: JSONValue = None if ground.footprint is None else ground.footprint.to_json()
    return {
        "format": 1,
        "backend": "neuron",
        "route": ground.route,
        "toolchain": order.toolchain.name,
        "versions": dict(order.toolchain.versions),
        "target": ground.instance.target,
        "instance_type": f"ml.{ground.instance.name}",
        "tensor_parallel_degree": recipe.tensor_parallel_degree,
        "logical_nc_config": ground.instance.lnc,
        "dtype": recipe.dtype,
        "quantization": recipe.quantization.method,
        "max_batch_size": recipe.shapes.max_batch_size,
        "max_seq_len": recipe.shapes.max_seq_len,
        "core_bytes": ground.instance.bytes_per_core,
        "memory": memory,
        "simulated": order.toolchain.simulated,
    }


def tools_step(request: Mapping[str, JSONValue]) -> Step:
    """The scripts that run in the toolchain's own Python, and what they are asked."""
    return Step(
        name="tools",
        run=Call(
            function=f"{BACKEND}.work:write_tools",
            params={"request": dict(request)},
            data=(f"{BACKEND}.scripts",),
        ),
        outputs=("request.json",),
    )


def package_step(
    order: Order,
    ground: Ground,
    *,
    needs: tuple[str, ...],
    outputs: tuple[str, ...],
    extra: Mapping[str, JSONValue] | None = None,
) -> Step:
    """The served tree, recognised by the rules of its container before it is called finished."""
    return Step(
        name=TREE,
        run=Call(
            function=f"{BACKEND}.package:run",
            params={"description": description(order, ground), **(extra or {})},
            data=(f"{BACKEND}.scripts",),
        ),
        needs=needs,
        outputs=("lmi-neuron.json", *outputs),
    )


def candidate_step(order: Order, ground: Ground, script: str) -> Step:
    """The packaged tree's own outputs on a device; without one it says so and nothing else."""
    return Step(
        name="candidate",
        run=Argv(
            argv=(
                "python",
                f"{{in:tools}}/{script}",
                "--tree",
                f"{{in:{TREE}}}",
                "--reference",
                "{in:reference}",
                "--request",
                "{in:tools}/request.json",
                "--out",
                "{out}",
            )
        ),
        env={"NEURON_RT_NUM_CORES": str(order.recipe.tensor_parallel_degree)},
        needs=("tools", TREE, "reference"),
        outputs=("outputs.json",),
        tentative="without-device",
        where="device",
        resources=Resources(
            accelerator=ground.instance.target,
            accelerator_count=order.recipe.tensor_parallel_degree,
        ),
        identity=identity(order),
    )


def closing_steps(order: Order, ground: Ground) -> tuple[Step, ...]:
    """The judge and the proof."""
    limits: dict[str, JSONValue] = facts.tolerances(_limits_of(ground))
    return (
        Step(
            name="judge",
            run=Call(
                function=f"{BACKEND}.judging:run",
                params={
                    "dtype": order.recipe.dtype,
                    "method": order.recipe.quantization.method,
                    "route": ground.route,
                    "limits": limits,
                    "gates": dict(order.recipe.verify.gates),
                },
            ),
            needs=("reference", "candidate"),
            outputs=("verdict.json",),
        ),
        Step(
            name="proof",
            run=Call(function=f"{BACKEND}.proof:run", params={"route": ground.route}),
            needs=(TREE,),
            outputs=("proof.json",),
        ),
    )


def _limits_of(ground: Ground) -> str:
    return "nxdi" if ground.route in {"optimum", "partition"} else ground.route
