"""What a container sees and may take: mounts, devices, limits, user."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.types import DeviceRequest, LogConfig, Mount  # noqa: TID253 - as in engine

import lmi_artifacts
import lmi_compile
import lmi_recipes
import lmi_verify
from lmi_compile.errors import EnvironmentFault
from lmi_compile.executors.hardware import Devices, devices_of, is_simulated
from lmi_compile.step import Call, Step
from lmi_compile.workspace import Staging

_NOBODY = 65534
_READ_FILE, _READ_FOLDER = 0o444, 0o555
_ROOMS = (lmi_compile, lmi_recipes, lmi_artifacts, lmi_verify)
_TMPFS = "rw,exec,nosuid,nodev,mode=1777"  # compilers run what they make there


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one container may take.

    Attributes:
        memory_bytes: where the step does not say; None is the machine's.
        processes: threads count, too.
        shm_bytes: shared memory, which the ranks of a build talk through.
    """

    memory_bytes: int | None = None
    processes: int = 4096
    shm_bytes: int = 1 << 30


def create_options(
    step: Step,
    inputs: Mapping[str, Path],
    staging: Staging,
    mounts: tuple[Path, ...],
    limits: Limits,
) -> dict[str, Any]:
    """The engine's `create` options that follow from the step; `paths` are its environment's.

    Args:
        step: What is run.
        inputs: The output directories of the steps it needs; read-only there.
        staging: Where it writes.
        mounts: Further folders that it may read.
        limits: What it may take, where it says nothing itself.
    """
    code = tuple(Path(str(room.__file__)).parent for room in _ROOMS)
    own = isinstance(step.run, Call)
    read = [*inputs.values(), *map(Path, step.local_inputs.values()), *mounts]
    if own:
        read += [*code, staging.root / "request.json"]
    written = (staging.out, staging.tmp)
    memory = step.resources.memory_bytes or limits.memory_bytes
    return {
        "paths": {"PYTHONPATH": os.pathsep.join(dict.fromkeys(str(p.parent) for p in code))}
        if own
        else {},
        "mounts": [
            *(_bind(path, read_only=True) for path in dict.fromkeys(read)),
            *(_bind(path, read_only=False) for path in written),
        ],
        "tmpfs": {"/tmp": _TMPFS},  # noqa: S108 - the container's own
        "working_dir": str(staging.tmp),
        "network_mode": "default" if step.network else "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "init": True,
        "stdin_open": True,  # a call ends when its input does
        "log_config": LogConfig(type="none"),  # the step's log is written here, once
        "pids_limit": limits.processes,
        "shm_size": limits.shm_bytes,
        "labels": {"lmi-compile.step": step.name},
        **({"mem_limit": memory, "memswap_limit": memory} if memory else {}),
        **({"nano_cpus": _cores(step.resources.cores)} if step.resources.cores else {}),
        **_devices(step),
    }


def user_for(step: Step, image: Any) -> tuple[int, int]:
    """Who the step runs as: whoever runs this command, and never root unless the image must."""
    if step.image is not None and step.image.root:
        return 0, 0
    if os.getuid() != 0:
        return os.getuid(), os.getgid()
    user = str(image.attrs["Config"].get("User") or "").partition(":")[0]
    number = int(user) if user.isdecimal() and int(user) else _NOBODY
    return number, number


@contextmanager
def given_back(
    staging: Staging, inputs: Mapping[str, Path], user: tuple[int, int]
) -> Iterator[None]:
    """Let `user` read the inputs and write the step's directories; root has them back afterwards.

    Libraries write some files for their owner alone, and the owner is root.
    """
    mine = os.getuid(), os.getgid()
    if mine[0] != 0 or user == mine:
        yield
        return
    for made in inputs.values():
        _let_read(made)
    for folder in (staging.out, staging.tmp):
        os.chown(folder, *user)
    try:
        yield
    finally:
        for place, folders, files in os.walk(staging.root):
            for name in (".", *folders, *files):
                os.chown(Path(place, name), *mine, follow_symlinks=False)


def _let_read(made: Path) -> None:
    for path in (made, *made.rglob("*")):
        wanted = _READ_FOLDER if path.is_dir() else _READ_FILE
        mode = path.lstat().st_mode
        if not path.is_symlink() and mode & wanted != wanted:
            path.chmod(mode | wanted)


def _bind(path: Path, *, read_only: bool) -> Mount:
    return Mount(target=str(path), source=str(path), type="bind", read_only=read_only)


def _cores(wanted: int) -> int:
    return int(min(wanted, os.cpu_count() or wanted) * 1e9)


def _devices(step: Step) -> dict[str, Any]:
    devices = devices_of(step)
    if devices is None or is_simulated(step):
        return {}
    if devices.kind == "gpu":
        return {"device_requests": [_gpus(devices)]}
    found = sorted(map(str, Path("/dev").glob("neuron[0-9]*")))
    if not found:
        what = f"step {step.name} needs {devices.count} NeuronCores of {devices.name}"
        why = "this machine has no /dev/neuron*"
        raise EnvironmentFault(what, why, "run it on such an instance, with the Neuron driver")
    return {"devices": [f"{path}:{path}:rw" for path in found]}


def _gpus(devices: Devices) -> DeviceRequest:
    """Those that are visible here, where somebody chose; else the first ones."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        return DeviceRequest(device_ids=visible.split(","), capabilities=[["gpu"]])
    return DeviceRequest(count=devices.count, capabilities=[["gpu"]])
