"""Scores our reference's tokens with an optimum-neuron tree, teacher-forced, on a device.

    python probe_optimum.py --tree DIR --reference DIR --request FILE --out DIR

`outputs.npz`: `000.rows`, float32 [tokens, vocabulary]; row j is what the tree's graphs say after
the prompt and j forced tokens. The call is optimum-neuron 0.4.5's own, NxDModelForCausalLM.forward:
its `generate` gives no logits back.
"""

import argparse
import importlib
import sys
from typing import Any

import numpy as np  # noqa: TID253 - a program of its own, in the toolchain's Python
import probing


def ask(asked: argparse.Namespace) -> "dict[str, Any]":
    """Loads the tree and scores every prompt."""
    torch: Any = importlib.import_module("torch")
    optimum: Any = importlib.import_module("optimum.neuron")
    model = optimum.NeuronModelForCausalLM.from_pretrained(str(asked.tree))
    if model.neuron_config.on_device_sampling:
        return {"reason": "the tree samples on the device: its graphs give no logits"}
    rows = {
        f"{number}.rows": _rows(torch, model, ids, forced)
        for number, ids, forced in probing.prompts_of(
            asked.reference, probing.tokens_of(asked.request)
        )
    }
    np.savez(asked.out / "outputs.npz", **rows)
    return {"scored": len(rows)}


def _rows(torch: Any, model: Any, ids: Any, forced: Any) -> Any:
    """Prefill, then one forced token after the other."""
    model.reset()
    given, start, found = ids[None], 0, []
    for step in range(len(forced)):
        if step:
            given, start = forced[step - 1].reshape(1, 1), len(ids) + step - 1
        positions = torch.arange(start, start + given.shape[1])[None]
        logits = model(
            input_ids=given,
            position_ids=positions,
            seq_ids=torch.arange(1),
            sampling_params=torch.ones(
                1, 3
            ),  # top-k, top-p, temperature: not read without sampling
        )
        found.append(logits[0, -1].float())
    return torch.stack(found).numpy()


if __name__ == "__main__":
    sys.exit(probing.main("probe_optimum", sys.argv[1:], ask))
