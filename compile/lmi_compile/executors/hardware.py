"""Which kind of device a step asks for, and how many."""

from dataclasses import dataclass
from typing import Literal

from lmi_compile.step import Step

# What neuronx-cc calls its targets; every other accelerator of the catalogue is NVIDIA's.
_NEURON = ("inf1", "inf2", "trn1", "trn1n", "trn2", "trn3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """Devices of one kind.

    Attributes:
        kind: whose they are.
        name: `A10G`, or a Neuron target such as `inf2`.
        count: GPUs, or NeuronCores.
    """

    kind: Literal["gpu", "neuron"]
    name: str
    count: int


def devices_of(step: Step) -> Devices | None:
    """The devices that `step` needs; None where it needs none."""
    name, count = step.resources.accelerator, step.resources.accelerator_count
    if name is None or not count:
        return None
    return Devices(kind="neuron" if name in _NEURON else "gpu", name=name, count=count)


def is_simulated(step: Step) -> bool:
    """The step's tools are stand-ins: they open no device."""
    return step.identity.get("simulated") is True
