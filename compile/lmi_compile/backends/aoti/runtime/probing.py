"""What both probes of a packaged model share: the command line, and the files around it."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from safetensors.torch import load_file

from .environment import RuntimeMismatch
from .tensorfile import write_tensors

if TYPE_CHECKING:
    from .one_pass import OnePass
    from .service import Service

M = TypeVar("M", "Service", "OnePass")
Tensors = Mapping[str, torch.Tensor]


class Found(NamedTuple):
    """A probe's tensors, and what else it tells."""

    tensors: Tensors
    told: Mapping[str, Any]


def main(load: Callable[[Path], M], ask: Callable[[M, Mapping[str, Any], Tensors], Found]) -> int:
    """Runs the command line; writes `outputs.safetensors`, then `outputs.json`.

    Args:
        load: Given the tree, makes the model.
        ask: Given the model, `prompts.json` and `prompts.safetensors`.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    try:
        model = load(Path(__file__).resolve().parent.parent)
    except RuntimeMismatch as error:
        say(str(error))
        return 1
    say(f"{model.threads.count} threads: {model.threads.why}")
    listing = json.loads((chosen.prompts / "prompts.json").read_bytes())
    found = ask(model, listing, load_file(chosen.prompts / "prompts.safetensors"))
    write_tensors(chosen.out / "outputs.safetensors", found.tensors)
    shared = {"prompts_digest": listing["digest"], "threads": model.threads.count}
    text = json.dumps({**found.told, **shared}, indent=1, ensure_ascii=False)
    (chosen.out / "outputs.json").write_text(text + "\n", encoding="utf-8")
    return 0


def say(line: str) -> None:
    """Progress, for the step's log."""
    print(line, flush=True)  # noqa: T201 - a worker's progress is its stdout
