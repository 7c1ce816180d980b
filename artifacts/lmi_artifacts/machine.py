"""Hardware and containers that artifacts are chosen for: what is there, against what is needed.

An artifact's manifest says what it loads on in `serving.hardware`; every key it uses is checked
here, and one that this program does not know is a reason to refuse, never ignored.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.errors import ReferenceInvalid

# x86-64 psABI levels; a machine of a level runs what lower ones need.
_LEVELS: Final = ("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4")
# SageMaker's x86-64 families without accelerators that are Intel's (EC2 DescribeInstanceTypes as
# shipped in moto 5.2.5) and of the fifth generation or later: Xeon Scalable, whose every generation
# has AVX-512 F, BW, CD, DQ and VL. Read: Platinum 8175M in m5 and r5, and the flags of c6i in
# /proc/cpuinfo. A loader compares the processor's flags before it loads, so that a wrong row here
# costs a refusal and never a crash.
_XEON_SCALABLE: Final = frozenset(
    {"c5", "c5d", "c6i", "c6in", "c7i", "m5", "m5d", "m6i", "m7i", "r5", "r5d", "r6i", "r7i"}
)
# Made from the recipes' instance types by `make fmt`.
_TABLE: Final = Path(__file__).with_name("machines.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What artifacts would be loaded on.

    Attributes:
        name: how a person calls it.
        march: the x86-64 level of its CPU, or None where it is not known.
        cpu_flags: its CPU's flags as Linux spells them, or None where only the level is known.
        sm: CUDA compute capability, 86 for 8.6, or None.
        neuron: Neuron compiler target such as `trn1`, or None.
        devices: accelerators, or Neuron cores.
    """

    name: str
    march: str | None = None
    cpu_flags: frozenset[str] | None = None
    sm: int | None = None
    neuron: str | None = None
    devices: int = 0

    def refusals(self, serving: Mapping[str, JSONValue], container: str | None) -> tuple[str, ...]:
        """Say why an artifact does not load here; none means that it does.

        Args:
            serving: the manifest's serving contract.
            container: an image reference, or a part of one, that will serve it; None is any.
        """
        hardware = serving.get("hardware")
        if not isinstance(hardware, Mapping):
            return ("its manifest does not say what hardware it loads on",)
        problems = [why for key in sorted(hardware) for why in self._wrong(key, hardware)]
        if container is not None:
            problems += _container_problems(serving, container)
        return tuple(problems)

    def _wrong(self, key: str, hardware: Mapping[str, JSONValue]) -> Iterator[str]:
        value = hardware[key]
        if value is None:
            return
        match key:
            case "march":
                yield from self._march(str(value))
            case "cpu_flags":
                yield from self._flags(value)
            case "sm":
                yield from self._sm(value)
            case "target" | "neuron":
                if self.neuron != value:
                    there = self.neuron or "no Neuron device"
                    yield f"it was compiled for {value}; {self.name} has {there}"
            case "devices" | "gpus" | "neuron_cores" | "world_size":
                if not isinstance(value, int) or self.devices < value:
                    yield f"it needs {value} devices; {self.name} has {self.devices}"
            case "instance_type" | "logical_nc_config" | "accelerator" | "gpu":
                return  # said for people; what decides has keys of its own
            case _:
                yield f"it needs {key}={value!r}, which this program does not know"

    def _flags(self, value: JSONValue) -> Iterator[str]:
        wanted = set(map(str, value)) if isinstance(value, list | tuple) else set()
        lacking = wanted - self.cpu_flags if self.cpu_flags is not None else set()
        if lacking:
            yield f"{self.name} lacks the CPU flags {', '.join(sorted(lacking))}"

    def _sm(self, value: JSONValue) -> Iterator[str]:
        allowed = value if isinstance(value, list | tuple) else [value]
        if self.sm not in allowed:
            there = "no CUDA device" if self.sm is None else f"SM {self.sm}"
            yield f"it was compiled for SM {', '.join(map(str, allowed))}; there is {there}"

    def _march(self, wanted: str) -> Iterator[str]:
        if self.cpu_flags is not None:
            return  # the flags decide
        if self.march is None:
            yield f"it needs a {wanted} CPU, and the CPU of {self.name} is not known"
        elif wanted not in _LEVELS or _LEVELS.index(self.march) < _LEVELS.index(wanted):
            yield f"it needs a {wanted} CPU; {self.name} has {self.march}"


def _container_problems(serving: Mapping[str, JSONValue], wanted: str) -> list[str]:
    images: list[str] = []
    match serving.get("container"):
        case {"images": list(listed)}:
            for image in listed:
                if isinstance(image, Mapping):
                    images += [str(image[key]) for key in ("reference", "digest") if image.get(key)]
        case _:
            pass
    if not images or any(wanted in image or image in wanted for image in images):
        return []
    return [f"it is served by {', '.join(images)}, not by {wanted}"]


def find_machine(name: str) -> Machine:
    """Find a machine by name: an instance type, an x86-64 level, or `host` (this machine).

    Raises:
        ReferenceInvalid: nothing here has that name.
    """
    if name == "host":
        return _host()
    if name in _LEVELS:
        return Machine(name=name, march=name)
    known: dict[str, dict[str, int | str]] = json.loads(_TABLE.read_text("utf-8"))
    row = known.get(name)
    if row is not None:
        sm, neuron = row.get("sm"), row.get("neuron")
        return Machine(
            name=name,
            march="x86-64-v3",
            sm=int(sm) if sm is not None else None,
            neuron=str(neuron) if neuron is not None else None,
            devices=int(row.get("cores", row.get("devices", 0))),
        )
    parts = name.split(".")
    if len(parts) == 3 and parts[0] == "ml" and parts[1] in _XEON_SCALABLE:  # noqa: PLR2004 - ml.family.size
        return Machine(name=name, march="x86-64-v4")
    from difflib import get_close_matches  # noqa: PLC0415 - only a failure needs it

    near = get_close_matches(name, [*known, *_LEVELS, "host"], n=3)
    hint = f"; the nearest are {', '.join(near)}" if near else ""
    raise ReferenceInvalid(name, f"is no machine that is known here{hint}")


def _host() -> Machine:
    flags: frozenset[str] = frozenset()
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("flags"):
                flags = frozenset(line.partition(":")[2].split())
                break
    except OSError:
        pass
    return Machine(name="host", cpu_flags=flags)
