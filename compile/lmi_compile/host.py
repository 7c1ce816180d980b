"""What this machine is, as far as it decides bytes: compiler, C library, installed versions.

Nothing is imported to find a version, so that planning stays light.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from lmi_compile.errors import EnvironmentFault

MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The host's own toolchain.

    Attributes:
        compiler: such as `g++ 12.2.0`, or `missing`.
        libc: such as `glibc 2.36`.
        python: such as `3.11.7`.
    """

    compiler: str
    libc: str
    python: str


@cache
def read_host() -> Host:
    """Read this machine once per process."""
    version = sys.version_info
    return Host(
        compiler=_compiler(),
        libc=os.confstr("CS_GNU_LIBC_VERSION") or MISSING,
        python=f"{version.major}.{version.minor}.{version.micro}",
    )


@cache
def installed_version(package: str) -> str:
    """The installed version of a Python package, from its metadata folder; else `missing`."""
    wanted = package.replace("-", "_").lower() + "-"
    for folder in sys.path:
        if not folder.endswith("-packages"):
            continue
        for name in os.listdir(folder) if os.path.isdir(folder) else ():  # noqa: PTH112, PTH208 - on the path of a cache hit
            if name.lower().startswith(wanted) and name.endswith(".dist-info"):
                return name[len(wanted) : -len(".dist-info")]
    return MISSING


def require_versions(toolchain: str, pinned: Mapping[str, str]) -> None:
    """Hold this environment against a toolchain's pinned versions.

    A local build tag is not compared: `2.13.0+cpu` is 2.13.0.

    Raises:
        EnvironmentFault: a package is missing or has another version.
    """
    wrong = {
        package: (version, found)
        for package, version in pinned.items()
        if (found := installed_version(package)).partition("+")[0] != version
    }
    if not wrong:
        return
    listed = ", ".join(f"{name} {want} (here: {have})" for name, (want, have) in wrong.items())
    fix = "pip install " + " ".join(f"{name}=={want}" for name, (want, _) in wrong.items())
    raise EnvironmentFault(f"toolchain {toolchain} needs {listed}", fix=fix)


def require_compiler(toolchain: str) -> None:
    """Hold that a C++ compiler is here.

    Raises:
        EnvironmentFault: there is none.
    """
    if read_host().compiler == MISSING:
        what = f"toolchain {toolchain} compiles C++ and g++ is not on PATH"
        raise EnvironmentFault(what, fix="install it, for example: apt-get install g++")


def _compiler() -> str:
    path = shutil.which("g++")
    if path is None:
        return MISSING
    found = subprocess.run([path, "-dumpfullversion"], capture_output=True, text=True, check=False)
    return f"g++ {found.stdout.strip()}" if found.returncode == 0 else MISSING
