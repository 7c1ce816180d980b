"""The neuron backend's plan: rules first, then the steps of the toolchain's route."""

from collections.abc import Mapping
from typing import assert_never

from lmi_artifacts.digest import JSONValue
from lmi_compile.backend import Order
from lmi_compile.backends.neuron import environment
from lmi_compile.backends.neuron.ground import ground_of, route_of
from lmi_compile.backends.neuron.routes import nxdi, optimum, partition, trace, vllm
from lmi_compile.step import Step

READS_MODEL = True


def steps(order: Order) -> tuple[Step, ...]:
    """The whole way, by the route of the recipe's toolchain.

    Raises:
        RecipeImpossible: a rule refuses the recipe; it says why and what would fit.
    """
    ground = ground_of(order)
    match ground.route:
        case "nxdi":
            return nxdi.steps(order, ground)
        case "optimum":
            return optimum.steps(order, ground)
        case "partition":
            return partition.steps(order, ground)
        case "trace" | "trace-inf1":
            return trace.steps(order, ground)
        case "vllm":
            return vllm.steps(order, ground)
        case _:
            assert_never(ground.route)


def preflight(order: Order) -> None:
    """The toolchain's programs, in the pinned version of their compiler.

    Raises:
        EnvironmentFault: one of them is not here, or has another version.
    """
    environment.require(order.toolchain, route_of(order))


def serving(order: Order) -> Mapping[str, JSONValue]:
    """The container that serves it, and the hardware and compiler that it loads with."""
    ground = ground_of(order)
    return {
        "contract": environment.CONTRACTS[ground.route],
        "container": order.toolchain.to_json()["serves"],
        "hardware": {
            "target": ground.instance.target,
            "neuron_cores": order.recipe.tensor_parallel_degree,
            "logical_nc_config": ground.instance.lnc,
            "instance_type": f"ml.{ground.instance.name}",
        },
        "versions": dict(order.toolchain.versions),
    }
