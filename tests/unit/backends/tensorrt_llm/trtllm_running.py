"""Runs a plan's foreign steps through the simulators, in this process."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtllm_simulator import partition, scripts, trtllm_build
from trtllm_simulator.machine import Machine

from lmi_compile.backends.tensorrt_llm import properties
from lmi_compile.plan import Plan
from lmi_compile.step import Argv, Call
from lmi_recipes.catalog import catalog_names, find_recipe
from lmi_recipes.reading import read_recipe

MACHINES: dict[str, dict[str, Any]] = {
    "trtllm-lmi-0.33": {"tensorrt_llm": "0.21.0rc1", "build_table": "0.20.0"},
    "trtllm-lmi-0.30": {
        "tensorrt_llm": "0.12.0",
        "tensorrt": "10.3.0",
        "build_table": "0.12.0",
        "script_table": "0.12.0.dev2024080600",
        "partition_table": "0.30",
    },
    "trtllm-lmi-0.32": {
        "tensorrt_llm": "0.12.0",
        "tensorrt": "10.1.0",
        "build_table": "0.12.0",
        "script_table": "0.12.0.dev2024080600",
        "partition_table": "0.32",
    },
    "trtllm-1.2.1": {"tensorrt_llm": "1.2.1"},
}


def trtllm_recipes() -> tuple[str, ...]:
    """Names of the catalogue's recipes for this backend."""
    return tuple(
        name
        for name in catalog_names()
        if read_recipe(find_recipe(name)).recipe.backend == "tensorrt-llm"
    )


def write_calibration(folder: Path) -> Path:
    """The directory that the calibration step makes."""
    (folder / "lambada").mkdir(parents=True, exist_ok=True)
    for name in ("train.jsonl", "validation.jsonl"):
        line = json.dumps({"text": "x"}) + "\n"
        (folder / "lambada" / name).write_text(line, encoding="utf-8")
    return folder


@dataclass(kw_only=True)
class Bench:
    """Directories of finished steps, by name, and the machine they ran on."""

    root: Path
    machine: Machine
    places: dict[str, Path]

    def fill(self, argv: tuple[str, ...], out: Path) -> list[str]:
        """`argv` with this bench's directories."""
        filled = []
        for part in argv:
            text = part.replace("{out}", str(out))
            for name, path in self.places.items():
                text = text.replace(f"{{in:{name}}}", str(path))
            filled.append(text)
        return filled

    def run(self, argv: list[str]) -> None:
        """Run one command line; a refusal is SystemExit."""
        tool, *rest = argv
        if tool == "trtllm-build":
            trtllm_build.main(self.machine, rest)
        elif Path(rest[0]).name == "trt_llm_partition.py":
            partition.main(self.machine, rest[1:])
        else:
            scripts.main(self.machine, rest[0], rest[1:])

    def fresh(self, name: str) -> Path:
        """An empty directory."""
        folder = self.root / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def machine_for(plan: Plan, machines: dict[str, dict[str, Any]]) -> Machine:
    """The simulated machine that a plan's toolchain and target are."""
    gpus = plan.backend.serving(plan.order)["hardware"]
    assert isinstance(gpus, dict)
    found = machines[plan.order.toolchain.name]
    return Machine(**found, sm=gpus["sm"], gpus=8, memory_bytes=141 << 30)


def foreign_steps(plan: Plan, bench: Bench) -> list[tuple[str, tuple[str, ...]]]:
    """Name and argv of each engine step, its properties written."""
    steps = []
    for planned in plan.steps:
        step = planned.step
        if isinstance(step.run, Call) and step.name.endswith("-properties"):
            out = bench.fresh(step.name)
            properties.run(step.run.params, bench.places, out)
            bench.places[step.name] = out
        if isinstance(step.run, Argv) and step.name in {"convert", "engine", "logits-engine"}:
            steps.append((step.name, step.run.argv))
            bench.places.setdefault(step.name, bench.root / step.name)
    return steps
