"""Puts the simulators on a PATH under the real tools' names.

    folder = install(tmp_path / "bin", sdk="2.28.0")

Every program of the folder is a shell line that runs the simulator of its name on the machine
that `machine.json` beside it describes.
"""

import json
import shlex
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
_TOOLS = ("inference_demo", "neuronx-cc", "neuron-cc", "partition")


def install(
    folder: Path,
    *,
    sdk: str = "2.28.0",
    devices: int = 0,
    instance: str = "inf2.48xlarge",
    fail: str | None = None,
) -> Path:
    """Write the programs.

    Args:
        folder: created; goes to the front of PATH.
        sdk: the Neuron SDK release; its compiler version is what `--version` says.
        devices: NeuronCores that the machine has.
        instance: what the cores belong to.
        fail: `killed` or `instructions`: what the compiler dies of, whatever it is asked.
    """
    folder.mkdir(parents=True)
    machine = {"sdk": sdk, "devices": devices, "instance": instance, "fail": fail}
    (folder / "machine.json").write_text(json.dumps(machine))
    for tool in _TOOLS:
        _program(folder / tool, [sys.executable, str(HERE / "run.py"), tool])
    _program(folder / "python", [sys.executable], {"PYTHONPATH": str(HERE / "site")})
    return folder


def _program(path: Path, command: list[str], env: dict[str, str] | None = None) -> None:
    settings = {"NEURON_SIMULATOR_MACHINE": str(path.parent / "machine.json"), **(env or {})}
    assigned = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
    path.write_text(f'#!/bin/sh\nexec env {assigned} {shlex.join(command)} "$@"\n')
    path.chmod(0o755)
