"""Instance types as targets: what SageMaker names, and what each machine holds.

The data is `targets/accelerators.yaml` and one file of `targets/instances/` for each family of
instance types, so that one name costs one small file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal, TypeAlias, TypeVar

from lmi_recipes.errors import RecipeInvalid, UnknownTarget
from lmi_recipes.fields import (
    as_json,
    flag,
    many,
    mapping,
    number,
    one_of,
    optional,
    section,
    text,
    whole,
)
from lmi_recipes.jsonvalue import JSONValue
from lmi_recipes.naming import DATA, file_named, names_in
from lmi_recipes.nodes import compose, plain
from lmi_recipes.textfile import read_text
from lmi_recipes.validation import check

_ACCELERATORS = DATA / "targets" / "accelerators.yaml"
_FAMILIES = DATA / "targets" / "instances"
_MIB = 1 << 20
_NEAREST = 3

ComputeType: TypeAlias = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
_figure = optional(number(above=0.0, high=1e6))
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tflops:
    """Dense tensor-core throughput by type, in 1e12 operations per second; null is not known."""

    fp32: Annotated[float | None, _figure, "32-bit floats."]
    fp16: Annotated[float | None, _figure, "IEEE half."]
    bf16: Annotated[float | None, _figure, "bfloat16."]
    int8: Annotated[float | None, _figure, "8-bit integers."]
    fp8: Annotated[float | None, _figure, "8-bit floats."]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One kind of device."""

    name: Annotated[str, text(), "Name, with the memory where a chip has several."]
    vendor: Annotated[Literal["nvidia", "aws"], one_of("nvidia", "aws"), "Who makes it."]
    sm: Annotated[int | None, optional(whole(10, 999)), "CUDA architecture, 80 for sm_80."] = None
    neuroncore: Annotated[int | None, optional(whole(1, 9)), "Generation of its NeuronCores."] = (
        None
    )
    ranks: Annotated[int, whole(1, 16), "Devices that a program sees on it."] = 1
    memory_mib: Annotated[int, whole(1, 1 << 24), "Memory of the device."]
    memory_gbps: Annotated[float | None, _figure, "Memory bandwidth, 1e9 bytes per second."]
    tflops: Annotated[Tflops, section(Tflops), "Throughput by type."]
    link: Annotated[str | None, optional(text()), "What joins the devices of a machine."]
    link_gbps: Annotated[float | None, _figure, "Per device and direction, 1e9 bytes per second."]
    sources: Annotated[Mapping[str, str], mapping(text()), "Source by figure."]

    @property
    def rank_bytes(self) -> int:
        """Memory of one rank, in bytes."""
        return self.memory_mib * _MIB // self.ranks

    @property
    def rank_bandwidth(self) -> float | None:
        """Memory bandwidth of one rank, in bytes per second."""
        return None if self.memory_gbps is None else self.memory_gbps * 1e9 / self.ranks

    def rank_flops(self, kind: ComputeType) -> float | None:
        """Throughput of one rank, in operations per second."""
        figure: float | None = getattr(self.tflops, kind)
        return None if figure is None else figure * 1e12 / self.ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    name: Annotated[str, text(), "Name with ml. in front."]
    accelerators: Annotated[int | None, optional(whole(1, 1024)), "Devices."]
    vcpu: Annotated[int | None, optional(whole(1, 1 << 16)), "Virtual CPUs."]
    memory_mib: Annotated[int | None, optional(whole(1, 1 << 32)), "Host memory."]
    local_storage_gb: Annotated[int | None, optional(whole(1, 1 << 20)), "Local disks, together."]
    endpoint: Annotated[bool | None, optional(flag()), "An endpoint can have it."]
    optimization_job: Annotated[bool | None, optional(flag()), "An OptimizationJob accepts it."]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    family: Annotated[str, text(), "The file's name."]
    accelerator: Annotated[str | None, optional(text()), "A name of accelerators.yaml."]
    neuron_target: Annotated[str | None, optional(text()), "What neuronx-cc calls it."] = None
    tensor_parallel_degrees: Annotated[
        tuple[int, ...] | None,
        optional(many(whole(1, 4096))),
        "Documented degrees; null leaves every one that the devices allow.",
    ] = None
    instances: Annotated[tuple[_Machine, ...], many(section(_Machine)), "By size."]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Accelerators:
    sources: Annotated[Mapping[str, str], mapping(text(longest=4096)), "Sources by short name."]
    accelerators: Annotated[
        tuple[Accelerator, ...], many(section(Accelerator)), "Every kind of device."
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instance type.

    Attributes:
        name: as SageMaker has it, `ml.g5.2xlarge`.
        family: the part between the dots.
        accelerator: what it holds; None when that is not known.
        devices: how many accelerators; 0 when that is not known.
        neuron_target: what neuronx-cc calls the hardware; None off Neuron.
        tensor_parallel_degrees: the documented degrees; None means no such list exists.
        vcpu: virtual CPUs.
        memory_mib: host memory.
        local_storage_gb: local disks, together; None when it has none or nothing is known.
        endpoint: whether an endpoint can have it.
        optimization_job: whether an OptimizationJob accepts it.
    """

    name: str
    family: str
    accelerator: Accelerator | None
    devices: int
    neuron_target: str | None
    tensor_parallel_degrees: tuple[int, ...] | None
    vcpu: int | None
    memory_mib: int | None
    local_storage_gb: int | None
    endpoint: bool | None
    optimization_job: bool | None

    @property
    def ec2_name(self) -> str:
        """The same machine's name in EC2."""
        return self.name.removeprefix("ml.")

    @property
    def ranks(self) -> int:
        """How many devices a program sees on it."""
        return self.devices * self.accelerator.ranks if self.accelerator else 0

    def to_json(self) -> dict[str, JSONValue]:
        """Return the instance type with every field present."""
        document = as_json(self)
        assert isinstance(document, dict)  # noqa: S101 - a section is always an object
        return document | {"ec2_name": self.ec2_name, "ranks": self.ranks}


def instance_names() -> tuple[str, ...]:
    """Return the names of all instance types, by family and size as the files have them."""
    return tuple(name for family in names_in(_FAMILIES) for name in _family(family))


def read_instance(name: str) -> Instance:
    """Return an instance type by its SageMaker or its EC2 name.

    Raises:
        UnknownTarget: There is none of this name; holds the nearest ones.
    """
    full = name if name.startswith("ml.") else f"ml.{name}"
    family = full.split(".")[1] if full.count(".") > 1 else ""
    found = _family(family).get(full) if file_named(family, _FAMILIES) else None
    if found is None:
        raise UnknownTarget(name, _nearest(full), instance_names())
    return found


def _nearest(name: str) -> tuple[str, ...]:
    import difflib  # noqa: PLC0415 - only a wrong name pays for it

    known = instance_names()
    return tuple(difflib.get_close_matches(name[:200].lower(), known, n=_NEAREST, cutoff=0.6))


@cache
def _family(name: str) -> dict[str, Instance]:
    path = _FAMILIES / f"{name}.yaml"
    family = _read(_Family, str(path), read_text(path))
    accelerator = accelerators()[family.accelerator] if family.accelerator else None
    return {
        machine.name: Instance(
            name=machine.name,
            family=family.family,
            accelerator=accelerator,
            devices=machine.accelerators or 0,
            neuron_target=family.neuron_target,
            tensor_parallel_degrees=family.tensor_parallel_degrees,
            vcpu=machine.vcpu,
            memory_mib=machine.memory_mib,
            local_storage_gb=machine.local_storage_gb,
            endpoint=machine.endpoint,
            optimization_job=machine.optimization_job,
        )
        for machine in family.instances
    }


@cache
def accelerators() -> dict[str, Accelerator]:
    """Return every kind of device by name."""
    found = _read(_Accelerators, str(_ACCELERATORS), read_text(_ACCELERATORS))
    return {accelerator.name: accelerator for accelerator in found.accelerators}


@cache
def sources() -> Mapping[str, str]:
    """Return where the figures of the accelerators were read, by short name."""
    return _read(_Accelerators, str(_ACCELERATORS), read_text(_ACCELERATORS)).sources


def _read(cls: type[_T], file: str, content: str) -> _T:
    root, problems = compose(content, file)
    found, wrong = check(cls, plain(root), root)
    if found is None or problems:
        raise RecipeInvalid(problems + wrong)
    return found
