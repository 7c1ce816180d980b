"""What must be on this machine before a Neuron step runs here, and which container serves what."""

import re
import shutil
import subprocess
from collections.abc import Mapping

from lmi_compile.backends.neuron.facts import RouteName
from lmi_compile.errors import EnvironmentFault
from lmi_recipes.toolchain import Toolchain

CONTRACTS: Mapping[RouteName, str] = {
    "nxdi": "neuron-nxdi",
    "optimum": "neuron-optimum",
    "partition": "neuron-lmi",
    "trace": "neuron-torchscript",
    "trace-inf1": "neuron-torchscript",
    "vllm": "neuron-vllm",
}
# The folder of a compile cache that a step keeps for the package step to match, never to serve.
KEPT_CACHE = "neuron-compile-cache"
_PROGRAMS: Mapping[RouteName, tuple[str, ...]] = {
    "nxdi": ("inference_demo", "neuronx-cc"),
    "optimum": ("python", "neuronx-cc"),
    "partition": ("partition", "neuronx-cc"),
    "trace": ("python", "neuronx-cc"),
    "trace-inf1": ("python", "neuron-cc"),
    "vllm": ("python", "neuronx-cc"),
}
_VERSION = re.compile(r"\d+\.\d+\.\d+\.\d+")


def require(toolchain: Toolchain, route: RouteName) -> None:
    """Hold this machine against a toolchain.

    Raises:
        EnvironmentFault: a program is missing, or the compiler is another than the pinned one.
    """
    programs = _PROGRAMS[route]
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        image = toolchain.image.reference if toolchain.image else "its image"
        what = f"toolchain {toolchain.name} needs {', '.join(missing)}, which is not here"
        fix = f"run it in {image}; `lmi-compile plan` needs nothing of it"
        raise EnvironmentFault(what, fix=fix)
    compiler = programs[-1]
    wanted, found = toolchain.versions[compiler], _version(compiler)
    if found != wanted:
        what = f"toolchain {toolchain.name} is pinned to {compiler} {wanted}; here is {found}"
        why = "a NEFF loads only in a runtime that knows its compiler's format"
        raise EnvironmentFault(what, why, "use the toolchain's own image")


def _version(compiler: str) -> str:
    ended = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    found = _VERSION.search(ended.stdout + ended.stderr)
    return found.group() if found else "no version"
