"""The machine that graphs are compiled for: a level of x86-64, and on some a CUDA device."""

from dataclasses import dataclass
from pathlib import Path

from lmi_compile.backend import Order
from lmi_compile.errors import EnvironmentFault, Unsupported
from lmi_recipes.target import CpuTarget, load_cpu_target, load_instance

# Of the processors beside the NVIDIA devices of the instance types that recipes can name.
_BESIDE_GPUS = "x86-64-v3"
_DRIVER = Path("/dev/nvidiactl")
CUDA_NOTE = (
    "for a CUDA device: written against torch's sources, and NOBODY HAS RUN IT on a device yet"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A CUDA device.

    Attributes:
        name: such as `A10G`.
        sm: its architecture, 86 for sm_86; compiled kernels run on no other.
    """

    name: str
    sm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What compiled code may use.

    Attributes:
        cpu: of the processor; on a machine with a device, of the code around its kernels.
        gpu: the device that the graphs run on; None: the processor.
    """

    cpu: CpuTarget
    gpu: Gpu | None = None


def machine_of(order: Order) -> Machine:
    """The machine that the recipe's target is.

    Raises:
        Unsupported: neither a CPU nor a CUDA device that the toolchain builds for.
    """
    builds_for = order.toolchain.builds_for
    if order.cpu is not None:
        if order.cpu.name not in builds_for.cpus:
            what = f"toolchain {order.toolchain.name} does not compile for {order.cpu.name}"
            raise Unsupported(what, fix="write toolchain: aoti-torch-2.13")
        return Machine(cpu=order.cpu)
    name = str(order.recipe.target.instance_type)
    device = load_instance(name).accelerator
    if device is None or device.sm is None:
        what = f"target {name}: the aoti backend compiles for x86-64 CPUs and NVIDIA devices"
        raise Unsupported(what, fix="write target: {cpu: x86-64-v3}")
    if device.sm not in builds_for.sm:
        can = ", ".join(f"sm_{sm}" for sm in builds_for.sm) or "CPUs only"
        what = f"toolchain {order.toolchain.name} does not compile for {name} (sm_{device.sm})"
        fix = "write target: {cpu: x86-64-v3}"
        if not builds_for.sm:
            fix = f"write toolchain: aoti-torch-2.13-cuda, or {fix.removeprefix('write ')}"
        raise Unsupported(what, f"it builds for {can}", fix)
    return Machine(cpu=load_cpu_target(_BESIDE_GPUS), gpu=Gpu(name=device.name, sm=device.sm))


def require_device(machine: Machine, driver: Path = _DRIVER) -> None:
    """Holds that a CUDA device is here, where the machine has one; which, the compile step sees.

    Raises:
        EnvironmentFault: there is none.
    """
    if machine.gpu is not None and not driver.exists():
        what = f"kernels for {machine.gpu.name} (sm_{machine.gpu.sm}) are compiled on one"
        why = f"this machine has no NVIDIA driver: {driver} is not there"
        raise EnvironmentFault(what, why, "build on such a machine, or write target: {cpu: ...}")
