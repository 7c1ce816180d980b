"""A step's resources in Ray's words, and which nodes of a cluster have them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmi_compile.executors.hardware import devices_of
from lmi_compile.step import Step

_TYPE = "accelerator_type:"
_SOME = 0.001  # a node has one of its type, for any number of tasks
_CATALOGUE = {"A100-40GB": "A100-40G", "A100-80GB": "A100-80G"}  # the catalogue's name -> Ray's
_SHOWN = ("CPU", "GPU", "neuron_cores", "memory")
_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a task asks of one node.

    Attributes:
        cpus: cores.
        gpus: GPUs.
        memory: bytes; 0 asks for none.
        others: custom resources by name.
    """

    cpus: int = 1
    gpus: int = 0
    memory: int = 0
    others: Mapping[str, float] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """As `RemoteFunction.options` takes them."""
        return {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "resources": dict(self.others),
            **({"memory": self.memory} if self.memory else {}),
        }

    def wanted(self) -> dict[str, float]:
        """As a node lists what it has."""
        asked = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory, **self.others}
        return {name: amount for name, amount in asked.items() if amount}

    def __str__(self) -> str:
        return _listed(self.wanted())


def ask_of(step: Step, nodes: Sequence[Mapping[str, float]] = ()) -> Ask:
    """What `step` asks for.

    Args:
        step: the step.
        nodes: what each node has. Ray counts NeuronCores and does not tell their generations
            apart; where somebody gave nodes `accelerator_type:inf2` and the like, it is asked for.
    """
    devices = devices_of(step)
    gpus, others = 0, dict[str, float]()
    if devices is not None and devices.kind == "gpu":
        gpus = devices.count
        others[_TYPE + _CATALOGUE.get(devices.name, devices.name)] = _SOME
    elif devices is not None:
        others["neuron_cores"] = devices.count
        if any(_TYPE + devices.name in node for node in nodes):
            others[_TYPE + devices.name] = _SOME
    resources = step.resources
    memory = resources.memory_bytes or 0
    return Ask(cpus=resources.cores or 1, gpus=gpus, memory=memory, others=others)


def fits(ask: Ask, nodes: Sequence[Mapping[str, float]]) -> bool:
    """Whether one of the nodes has all of it, busy or not."""
    wanted = ask.wanted()
    return any(
        all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes
    )


def describe(nodes: Sequence[Mapping[str, float]]) -> str:
    """What the cluster has, a line for each node."""
    if not nodes:
        return "the cluster has no nodes"
    return "\n".join(f"a node has {_listed(node)}" for node in nodes)


def _listed(amounts: Mapping[str, float]) -> str:
    shown = [_one(name, amounts[name]) for name in _SHOWN if amounts.get(name)]
    shown += [name for name in sorted(amounts) if name.startswith(_TYPE)]
    return ", ".join(shown)


def _one(name: str, amount: float) -> str:
    return f"{amount / _GIB:.1f} GiB memory" if name == "memory" else f"{amount:g} {name}"
