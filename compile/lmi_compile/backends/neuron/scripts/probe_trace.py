"""Runs the verification's inputs through a packaged traced model, by the tree's own handler.

    python probe_trace.py --tree DIR --reference DIR --request FILE --out DIR

Writes `outputs.npz` (`000.0`: output 0 of example 0) and `outputs.json`. Where the model cannot run
for want of a device, `outputs.json` says so and there is no `outputs.npz`. Python 3.9 and later.
"""

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253 - a program of its own, in the toolchain's Python


def main(arguments: "list[str]") -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="probe_trace")
    for name in ("tree", "reference", "request", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    asked = parser.parse_args(arguments)
    devices = sorted(path.name for path in Path("/dev").glob("neuron[0-9]*"))
    told: dict[str, Any] = {"format": 1, "devices": devices, "ran": False, "reason": ""}
    try:
        outputs, seconds = _run(asked.tree, asked.reference)
    except RuntimeError as error:
        if devices:
            raise
        told["reason"] = f"no Neuron device is here: {str(error).splitlines()[0]}"
    else:
        np.savez(asked.out / "outputs.npz", **outputs)
        told |= {"ran": True, "seconds": seconds}
    (asked.out / "outputs.json").write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    print(told["reason"] or f"{len(told['seconds'])} examples ran", flush=True)  # noqa: T201 - the step's log
    return 0


def _run(tree: Path, reference: Path) -> "tuple[dict[str, Any], list[float]]":
    handler = _handler(tree)
    loaded = handler.model_fn(str(tree))
    outputs: dict[str, Any] = {}
    seconds: list[float] = []
    names = [spec["name"] for spec in loaded.inputs]
    with np.load(reference / "inputs.npz", allow_pickle=False) as given:
        count = len({key.partition(".")[0] for key in given.files})
        for index in range(count):
            number = f"{index:03d}"
            example = {name: list(given[f"{number}.{name}"]) for name in names}
            started = time.perf_counter()
            made = handler.predict_fn(example, loaded)
            seconds.append(round(time.perf_counter() - started, 4))
            for place, tensor in enumerate(made):
                outputs[f"{number}.{place}"] = tensor.float().numpy()
    return outputs, seconds


def _handler(tree: Path) -> Any:
    spec = importlib.util.spec_from_file_location("inference", tree / "code" / "inference.py")
    if spec is None or spec.loader is None:
        sys.exit("the tree has no code/inference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
