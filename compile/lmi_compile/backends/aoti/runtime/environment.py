"""Checks that this machine can run the compiled graphs, before anything of them is loaded.

A library built for instructions that the processor lacks ends the process without an exception,
and one built for another torch reads memory wrongly; both are found here, in words.
Only the standard library is imported until torch itself is checked.
"""

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class RuntimeMismatch(Exception):
    """This machine, its torch or this tree is not what the package was compiled for."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}. {fix}.")


class RankLost(Exception):
    """A process of a split model has ended: this one can serve no more and must be started anew."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; the model must be started again")


def load_description(root: Path) -> dict[str, Any]:
    """`runtime.json` of the tree at `root`, after checking that the tree is whole.

    Raises:
        RuntimeMismatch: A file that the package was made with is missing or has another size.
    """
    path = root / "runtime.json"
    try:
        description: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RuntimeMismatch(f"{path} cannot be read ({error})", _PULL_AGAIN) from error
    if description.get("format") != 1:
        raise RuntimeMismatch(f"{path} has an unknown format", _PULL_AGAIN)
    for name, size in description["files"].items():
        file = root / name
        if not file.is_file():
            raise RuntimeMismatch(f"the package lacks {name}", _PULL_AGAIN)
        if file.stat().st_size != size:
            found = file.stat().st_size
            raise RuntimeMismatch(f"{name} has {found} bytes instead of {size}", _PULL_AGAIN)
    return description


def check(requires: Mapping[str, Any]) -> None:
    """Compares this process with what the graphs require.

    Args:
        requires: `torch`, `torch_git`, `machine` and `cpu_flags` as the compile step recorded.

    Raises:
        RuntimeMismatch: Names the first difference and what to do.
    """
    _check_torch(requires)
    machine = platform.machine()
    if machine != requires["machine"]:
        what = f"the model is compiled for {requires['machine']} processors, this one is {machine}"
        raise RuntimeMismatch(what, "Serve it on an instance type of that kind")
    missing = missing_cpu_flags(requires["cpu_flags"])
    if missing:
        what = f"the model is compiled for processors with {', '.join(missing)}, this one has not"
        raise RuntimeMismatch(what, "Serve it on a newer instance type, or compile it for this one")


def missing_cpu_flags(required: list[str], cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Those of `required` that this processor does not report."""
    return sorted(set(required) - cpu_flags(cpuinfo))


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """The instruction set flags of this processor as Linux names them."""
    with cpuinfo.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip() in {"flags", "Features"}:
                return set(value.split())
    return set()


def _check_torch(requires: Mapping[str, Any]) -> None:
    wanted = requires["torch"]
    fix = f"Serve it from a container with torch {wanted}"
    try:
        import torch  # noqa: PLC0415 - its absence must become a sentence
    except ImportError as error:
        what = f"the model is compiled for torch {wanted}, and torch cannot be imported ({error})"
        raise RuntimeMismatch(what, fix) from error
    found = str(torch.__version__)
    if found.partition("+")[0] != wanted:
        what = f"the model is compiled for torch {wanted}, this process has torch {found}"
        raise RuntimeMismatch(what, fix)
    built_from = torch.version.git_version
    if built_from != requires["torch_git"]:
        what = (
            f"the model is compiled for torch {wanted} built from commit {requires['torch_git']}, "
            f"this process has one from {built_from}"
        )
        raise RuntimeMismatch(what, fix)


_PULL_AGAIN = "Pull or upload the package again"
