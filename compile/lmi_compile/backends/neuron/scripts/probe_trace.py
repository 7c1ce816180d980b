"""Runs the verification's inputs through a packaged traced model, by the tree's own handler.

    python probe_trace.py --tree DIR --reference DIR --request FILE --out DIR

Writes `outputs.npz` (`000.0`: output 0 of example 0) and `outputs.json`. Where the model cannot run
for want of a device, `outputs.json` says so and there is no `outputs.npz`. Python 3.9 and later.
"""

import argparse
import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253 - a program of its own, in the toolchain's Python
import probing


def ask(asked: argparse.Namespace) -> "dict[str, Any]":
    """Runs every example; without a device only where the model runs without one."""
    try:
        outputs, seconds = _run(asked.tree, asked.reference)
    except RuntimeError as error:
        if probing.devices():
            raise
        return {"reason": f"{probing.NO_DEVICE}: {str(error).splitlines()[0]}"}
    np.savez(asked.out / "outputs.npz", **outputs)
    return {"seconds": seconds}


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
    sys.exit(probing.main("probe_trace", sys.argv[1:], ask, everywhere=True))
