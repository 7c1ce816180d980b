"""Targets: what a level of x86-64 means to a compiler and a CPU, and the door to instance types."""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated

from lmi_recipes.errors import RecipeInvalid, UnknownTarget
from lmi_recipes.fields import as_json, many, section, text, whole
from lmi_recipes.jsonvalue import JSONValue
from lmi_recipes.naming import DATA, nearest
from lmi_recipes.nodes import compose, plain
from lmi_recipes.textfile import read_text
from lmi_recipes.validation import check

if TYPE_CHECKING:
    from lmi_recipes.instance import Instance

_FILE = DATA / "targets" / "cpu.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTarget:
    """One level of x86-64."""

    name: Annotated[str, text(), "Name, as a recipe's target.cpu gives it."]
    march: Annotated[str, text(), "The compiler's -march."]
    simdlen: Annotated[int, whole(128, 512), "Inductor's cpp.simdlen, in bits."]
    required_flags: Annotated[
        tuple[str, ...], many(text(), at_least=1), "CPU flags as /proc/cpuinfo spells them."
    ]

    def missing_from(self, flags: frozenset[str]) -> tuple[str, ...]:
        """Return the required flags that a CPU lacks, in the target's order."""
        return tuple(flag for flag in self.required_flags if flag not in flags)

    def to_json(self) -> dict[str, JSONValue]:
        """Return the target with every field present."""
        document = as_json(self)
        assert isinstance(document, dict)  # noqa: S101 - a section is always an object
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class _CpuTargets:
    """The file of all of them."""

    targets: Annotated[tuple[CpuTarget, ...], many(section(CpuTarget)), "The levels."]


@cache
def _targets() -> dict[str, CpuTarget]:
    root, problems = compose(read_text(_FILE), str(_FILE))
    found, wrong = check(_CpuTargets, plain(root), root)
    if found is None or problems:
        raise RecipeInvalid(problems + wrong)
    return {target.name: target for target in found.targets}


def cpu_target_names() -> tuple[str, ...]:
    """Return the names of the CPU targets, sorted."""
    return tuple(sorted(_targets()))


def load_cpu_target(name: str) -> CpuTarget:
    """Return a CPU target by name.

    Raises:
        UnknownTarget: There is none of this name; holds the nearest one.
    """
    known = cpu_target_names()
    if name not in known:
        raise UnknownTarget(name, nearest(name, known), known)
    return _targets()[name]


def load_instance(name: str) -> "Instance":
    """Return an instance type by its SageMaker or its EC2 name.

    Raises:
        UnknownTarget: There is none of this name; holds the nearest ones.
    """
    from lmi_recipes.instance import read_instance  # noqa: PLC0415 - CPU targets do not pay for it

    return read_instance(name)
