"""What this machine has, what is missing, and what each missing piece blocks.

It looks and changes nothing. Values of credentials are never read into a finding: only whether
there are any, and where they would come from.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lmi_artifacts.machine import find_machine
from lmi_compile.errors import EnvironmentFault
from lmi_compile.host import MISSING, installed_version, read_host
from lmi_compile.quantize.modelopt_version import VERSION as MODELOPT
from lmi_compile.settings import Settings
from lmi_recipes.target import load_cpu_target
from lmi_recipes.toolchain import Toolchain, load_toolchain, toolchain_names

State = Literal["ok", "missing", "note"]
_GIB = 1024**3
_ROOM = 8 * _GIB  # what the demo's model, steps and artifact take, with as much to spare
_EMBEDDED = "the embedded backend (aoti)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: the heading it stands under.
        name: what was looked for.
        state: `ok`, `missing`, or `note` for what is missing and blocks little.
        found: what is there.
        blocks: what cannot be done without it; empty when it is there.
        fix: what to do about it.
    """

    area: str
    name: str
    state: State
    found: str
    blocks: str = ""
    fix: str = ""


def examine(settings: Settings, environ: Mapping[str, str] | None = None) -> tuple[Finding, ...]:
    """Look at everything, in the order that a build needs it."""
    environ = os.environ if environ is None else environ
    return (
        *_machine(),
        *_programs(),
        *_packages(),
        *_devices(),
        *_toolchains(),
        *_places(settings),
        *_credentials(environ),
    )


def able(findings: tuple[Finding, ...]) -> bool:
    """Whether the embedded backend can build, check and prove here."""
    return not any(finding.state == "missing" for finding in findings)


def _machine() -> Iterator[Finding]:
    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    yield Finding(area="machine", name="Python", state="ok", found=version)
    flags = find_machine("host").cpu_flags or frozenset()
    levels = [
        name
        for name in ("x86-64-v4", "x86-64-v3", "x86-64-v2")
        if not load_cpu_target(name).missing_from(flags)
    ]
    yield Finding(
        area="machine",
        name="CPU level",
        state="ok" if levels else "missing",
        found=levels[0] if levels else "below x86-64-v2, or not read",
        blocks="" if levels else f"{_EMBEDDED}: its packages load only on the CPUs they are for",
        fix="" if levels else "build and serve on an x86-64 machine with AVX2",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0))
    found = f"{cores} cores, {memory / _GIB:.0f} GiB"
    yield Finding(area="machine", name="cores and memory", state="ok", found=found)


def _programs() -> Iterator[Finding]:
    wanted: tuple[tuple[str, State, str, str], ...] = (
        ("g++", "missing", f"{_EMBEDDED}: it compiles C++", "apt-get install g++"),
        ("strace", "missing", "the no-JIT proof", "apt-get install strace"),
        ("docker", "note", "--executor container", "install a Docker engine"),
    )
    for program, state, blocks, fix in wanted:
        path = shutil.which(program)
        yield Finding(
            area="programs",
            name=program,
            state="ok" if path else state,
            found=(read_host().compiler if program == "g++" else path) if path else MISSING,
            blocks="" if path else blocks,
            fix="" if path else fix,
        )


def _packages() -> Iterator[Finding]:
    extras: tuple[tuple[str, str, str], ...] = (
        ("boto3", "s3", "registries and models in S3; deploy"),
        ("huggingface_hub", "hub", "models of the Hugging Face hub"),
        ("docker", "container", "--executor container"),
        ("ray", "ray", "--executor ray"),
        ("starlette", "serve", "serve"),
        ("matplotlib", "report", "plots in reports"),
        ("cryptography", "trust", "signatures"),
    )
    for package, extra, blocks in extras:
        version = installed_version(package)
        here = version != MISSING
        yield Finding(
            area="packages",
            name=package,
            state="ok" if here else "note",
            found=version,
            blocks="" if here else blocks,
            fix="" if here else f"pip install 'lmi-compile[{extra}]'",
        )
    yield _modelopt()


def _modelopt() -> Finding:
    """It stands in a folder of its own, so that it touches no package of the environment."""
    from lmi_compile.quantize.modelopt import find_modelopt  # noqa: PLC0415 - only the doctor asks

    try:
        place = find_modelopt()
    except EnvironmentFault as fault:
        return Finding(
            area="packages",
            name="nvidia-modelopt",
            state="note",
            found=fault.why,
            blocks="quantised TensorRT-LLM checkpoints on the CPU",
            fix=fault.fix,
        )
    found = f"{MODELOPT} in {place or 'the environment'}"
    return Finding(area="packages", name="nvidia-modelopt", state="ok", found=found)


def _devices() -> Iterator[Finding]:
    kinds: tuple[tuple[str, Callable[[], bool], str], ...] = (
        ("CUDA device", Path("/dev/nvidiactl").exists, "TensorRT-LLM and aoti build for it here"),
        ("Neuron device", Path("/dev/neuron0").exists, "Neuron probes and partition here"),
    )
    for name, there, blocks in kinds:
        here = there()
        yield Finding(
            area="devices",
            name=name,
            state="ok" if here else "note",
            found="present" if here else "none",
            blocks="" if here else blocks,
        )


def _toolchains() -> Iterator[Finding]:
    for name in toolchain_names():
        toolchain = load_toolchain(name)
        if toolchain.backend != "null":
            yield _toolchain(toolchain)


def _toolchain(toolchain: Toolchain) -> Finding:
    if toolchain.image is not None:
        unread = "" if toolchain.image.digest else "; nobody has read its digest"
        return Finding(
            area="toolchains",
            name=toolchain.name,
            state="note",
            found=f"runs in {toolchain.image.reference}, so not on the host{unread}",
        )
    pins = {package: want for package, want in toolchain.versions.items() if want != "host"}
    wrong = [
        f"{package} {want} (here: {have})"
        for package, want in pins.items()
        if (have := installed_version(package)).partition("+")[0] != want
    ]
    embedded = toolchain.backend == "aoti"
    return Finding(
        area="toolchains",
        name=toolchain.name,
        state="ok" if not wrong else "missing" if embedded else "note",
        found="all versions are here" if not wrong else "needs " + ", ".join(wrong),
        blocks=f"builds with {toolchain.name}" if wrong else "",
        fix="pip install " + " ".join(f"{name}=={want}" for name, want in pins.items())
        if wrong and embedded
        else "",
    )


def _places(settings: Settings) -> Iterator[Finding]:
    for name, folder in (("cache", settings.cache_dir), ("out", settings.out)):
        standing = next(place for place in (folder, *folder.parents) if place.exists())
        writable = os.access(standing, os.W_OK)
        free = shutil.disk_usage(standing).free
        state: State = "missing" if not writable else "ok" if free >= _ROOM else "note"
        yield Finding(
            area="places",
            name=name,
            state=state,
            found=f"{folder}, {free / _GIB:.0f} GiB free" + ("" if writable else ", read-only"),
            blocks="" if state == "ok" else "every build" if not writable else "larger models",
            fix="" if state == "ok" else f"name another folder: --{_OPTION[name]}, or free space",
        )


_OPTION = {"cache": "cache-dir", "out": "out"}


def _credentials(environ: Mapping[str, str]) -> Iterator[Finding]:
    home = Path(environ.get("HOME", "/"))
    aws = _first(
        ("the environment", "AWS_ACCESS_KEY_ID" in environ),
        ("a web identity", "AWS_WEB_IDENTITY_TOKEN_FILE" in environ),
        ("the container's role", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" in environ),
        ("a profile", (home / ".aws" / "credentials").exists() or "AWS_PROFILE" in environ),
    )
    hub = _first(
        ("the environment", "HF_TOKEN" in environ),
        ("the hub's own file", (home / ".cache" / "huggingface" / "token").exists()),
    )
    yield _credential("AWS", aws, "S3 and SageMaker, unless this machine has a role", "aws login")
    yield _credential("Hugging Face", hub, "gated models of the hub", "hf auth login")


def _first(*places: tuple[str, bool]) -> str:
    return next((place for place, there in places if there), "")


def _credential(name: str, place: str, blocks: str, fix: str) -> Finding:
    return Finding(
        area="credentials",
        name=name,
        state="ok" if place else "note",
        found=f"in {place}" if place else "none found",
        blocks="" if place else blocks,
        fix="" if place else fix,
    )
