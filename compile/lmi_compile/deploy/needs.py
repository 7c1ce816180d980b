"""How many accelerators an artifact takes, read from its manifest."""

import math
from dataclasses import dataclass
from typing import Final

from lmi_artifacts.manifest import Manifest

# NeuronCores of one device: Inferentia2 and Trainium1 have two; Inferentia1 has four, and a
# container is given whole devices, so that too many is safe and too few is not.
_CORES_PER_DEVICE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one copy of a model takes.

    Attributes:
        gpus: CUDA devices.
        neuron: Neuron devices.
    """

    gpus: int = 0
    neuron: int = 0

    @property
    def accelerators(self) -> int:
        """Devices of whichever kind."""
        return self.gpus + self.neuron


def needs_of(manifest: Manifest) -> Needs:
    """Read the manifest's `serving.hardware`."""
    match manifest.serving.get("hardware"):
        case {"neuron_cores": int(cores)}:
            return Needs(neuron=math.ceil(cores / _CORES_PER_DEVICE))
        case {"gpus": int(devices)} | {"devices": int(devices)} | {"world_size": int(devices)}:
            return Needs(gpus=devices)
        case _:
            return Needs()
