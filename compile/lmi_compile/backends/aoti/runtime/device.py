"""Where the graphs run: this processor, or a CUDA device of the architecture they are for."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch

from .environment import RuntimeMismatch

Runner: TypeAlias = (
    "torch._C._aoti.AOTIModelContainerRunnerCpu | torch._C._aoti.AOTIModelContainerRunnerCuda"  # noqa: SLF001 - the types have no public names
)
CPU = torch.device("cpu")
_CUDA = torch.device("cuda", 0)


def device_for(requires: Mapping[str, Any]) -> torch.device:
    """The device that the graphs are for.

    Args:
        requires: of `graphs.json`; `sm` is the CUDA architecture, 86 for sm_86; absent: no device.

    Raises:
        RuntimeMismatch: they are for a CUDA device, and this machine's is another or is not there.
            Kernels are machine code of one architecture: another cannot load them.
    """
    sm = requires.get("sm")
    if sm is None:
        return CPU
    what = f"the model is compiled for a CUDA device of architecture sm_{sm}"
    if not torch.cuda.is_available():
        build = torch.version.cuda or "none: this torch is for CPUs"
        fix = "Serve it on such a device, with its driver and a torch for CUDA"
        raise RuntimeMismatch(f"{what}, and torch sees none (CUDA of this torch: {build})", fix)
    major, minor = torch.cuda.get_device_capability(_CUDA)
    if 10 * major + minor != sm:
        name = torch.cuda.get_device_name(_CUDA)
        fix = "Serve it on an instance type with such a device, or compile it for this one"
        raise RuntimeMismatch(f"{what}, this one is {name}, sm_{major}{minor}", fix)
    return _CUDA


def open_library(path: str, device: torch.device) -> Runner:
    """A compiled library, its kernels inside it, with one instance of the model."""
    # The only loaders that import neither Dynamo nor Inductor. One instance: calls never overlap
    # here, and an instance more would cost memory.
    loaders = torch._C._aoti  # noqa: SLF001 - as said
    if device.type == "cpu":
        return loaders.AOTIModelContainerRunnerCpu(path, 1)
    return loaders.AOTIModelContainerRunnerCuda(path, 1, str(device))
