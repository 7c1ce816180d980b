"""Scores our reference's tokens with an LMI 0.30 tree, teacher-forced, on a device.

    python probe_partition.py --tree DIR --reference DIR --request FILE --out DIR

The tree is loaded by the container's own service (djl-serving 0.30.0-dlc,
djl_python/transformers_neuronx.py), with its own serving.properties. transformers-neuronx's forward
gives the last position's logits, [rows, vocabulary]. `outputs.npz` as in probe_optimum.py.
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253 - a program of its own, in the toolchain's Python
import probing


def ask(asked: argparse.Namespace) -> "dict[str, Any]":
    """Loads the tree and scores every prompt."""
    torch: Any = importlib.import_module("torch")
    service: Any = importlib.import_module("djl_python.transformers_neuronx")
    loaded = service.TransformersNeuronXService()
    loaded.set_configs(properties_of(asked.tree))
    loaded.set_model_loader()
    model = loaded.model_loader.load_unwrapped_model()
    continuous = model.neuron_config.continuous_batching is not None
    rows = {
        f"{number}.rows": _rows(torch, model, ids, forced, None if continuous else loaded.config)
        for number, ids, forced in probing.prompts_of(
            asked.reference, probing.tokens_of(asked.request)
        )
    }
    np.savez(asked.out / "outputs.npz", **rows)
    return {"scored": len(rows)}


def properties_of(tree: Path) -> "dict[str, str]":
    """The tree's own properties as DJL hands them to its service."""
    lines = (tree / "serving.properties").read_text().splitlines()
    named = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    bare = {name.partition("option.")[2] or name: value for name, value in named.items()}
    return {**bare, "model_id": str(tree), "model_dir": str(tree)}


def _rows(torch: Any, model: Any, ids: Any, forced: Any, static: Any) -> Any:
    """Prefill, then one forced token after the other; a static batch gets the same row each."""
    given, start, found = ids[None], 0, []
    for step in range(len(forced)):
        if step:
            given, start = forced[step - 1].reshape(1, 1), len(ids) + step - 1
        positions = torch.arange(start, start + given.shape[1], dtype=torch.int32)
        if static is None:
            logits = model(given, cache_ids=positions[None], start_ids=torch.zeros(1).int())
        else:
            batch = given.repeat(static.batch_size, 1)
            logits = model(batch, cache_ids=positions, start_ids=None)
        found.append(logits[0].float())
    return torch.stack(found).numpy()


if __name__ == "__main__":
    sys.exit(probing.main("probe_partition", sys.argv[1:], ask))
