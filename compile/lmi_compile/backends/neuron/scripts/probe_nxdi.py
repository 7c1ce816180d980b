"""Holds a packaged NxD Inference tree against our own reference's logits, on a device.

    python probe_nxdi.py --tree DIR --reference DIR --request FILE --out DIR

The reference is the Hugging Face model of its true class in float32; NxD Inference would compare
with the class that compiled it. Uses `check_accuracy_logits_v2` of
neuronx-distributed-inference utils/accuracy.py @ cd3abf3, on the prompts that fit the build.
Without a device it says so and loads nothing.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import probing


def ask(asked: argparse.Namespace) -> "dict[str, Any]":
    """Loads the tree and has the vendor's function compare every prompt."""
    return {"prompts": _check(asked.tree, asked.reference, probing.tokens_of(asked.request))}


def _check(tree: Path, reference: Path, tokens: int) -> "list[dict[str, Any]]":
    torch: Any = importlib.import_module("torch")
    safetensors: Any = importlib.import_module("safetensors")
    transformers: Any = importlib.import_module("transformers")
    package = "neuronx_distributed_inference.utils"
    accuracy: Any = importlib.import_module(f"{package}.accuracy")
    model = _load(tree, importlib.import_module(f"{package}.constants"))
    generation = transformers.GenerationConfig.from_pretrained(tree, do_sample=False)
    results: list[dict[str, Any]] = []
    listed = json.loads((reference / "prompts.json").read_bytes())["prompts"]
    with (
        safetensors.safe_open(str(reference / "prompts.safetensors"), framework="pt") as prompts,
        safetensors.safe_open(str(reference / "outputs.safetensors"), framework="pt") as outputs,
    ):
        for index, prompt in enumerate(listed):
            number = f"{index:03d}"
            ids = prompts.get_tensor(f"{number}.input_ids").unsqueeze(0)
            expected = outputs.get_tensor(f"{number}.forced_logits")[:tokens].unsqueeze(1)
            result: dict[str, Any] = {"id": prompt["id"], "passed": True, "detail": ""}
            try:
                accuracy.check_accuracy_logits_v2(
                    model,
                    expected,
                    ids,
                    torch.ones_like(ids),
                    generation,
                    num_tokens_to_check=int(expected.shape[0]),
                )
            except Exception as error:  # noqa: BLE001 - LogitMatchingValidationError moved between releases
                result |= {"passed": False, "detail": f"{type(error).__name__}: {error}"[:2000]}
            results.append(result)
    return results


def _load(tree: Path, constants: Any) -> Any:
    description = json.loads((tree / "lmi-neuron.json").read_bytes())
    model = constants.MODEL_TYPES[description["nxdi_model_type"]]["causal-lm"](str(tree))
    model.load(str(tree))
    return model


if __name__ == "__main__":
    sys.exit(probing.main("probe_nxdi", sys.argv[1:], ask))
