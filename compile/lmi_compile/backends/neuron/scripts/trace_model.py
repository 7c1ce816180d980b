"""Traces one model for one shape with the toolchain's compiler; runs in a process of its own.

    python trace_model.py --request request.json --model DIR --work DIR --out DIR

Reads the call from `request.json`; writes `model.pt` (TorchScript) and `trace.json` (what was
called, with which versions, and the outputs' names and shapes). Python 3.9 and later.
"""

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - a program of its own, in the toolchain's Python
import transformers  # noqa: TID253 - as above


class ByKeyword(torch.nn.Module):
    """A model whose inputs come in a fixed order and whose outputs are a plain tuple."""

    def __init__(self, model: torch.nn.Module, names: "list[str]") -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: torch.Tensor) -> "tuple[torch.Tensor, ...]":
        """Every tensor that the model gives, in its own order."""
        named = dict(zip(self.names, inputs))  # noqa: B905 - `strict` came with Python 3.10
        given = self.model(**named, return_dict=False)
        return tuple(each for each in given if isinstance(each, torch.Tensor))


def load_model(directory: Path, class_name: str) -> torch.nn.Module:
    """The model in float32 with every one of its weights; one that lacks some is refused."""
    config = transformers.AutoConfig.from_pretrained(directory, local_files_only=True)
    config._attn_implementation = "eager"  # noqa: SLF001 - the one spelling old and new releases read
    kind: Any = getattr(transformers, class_name)
    model, found = kind.from_pretrained(
        directory, config=config, local_files_only=True, output_loading_info=True
    )
    missing = sorted(found["missing_keys"])
    if missing:
        sys.exit(f"the model has no weights for {class_name}: {', '.join(missing[:4])}")
    return model.float().eval()  # type: ignore[no-any-return]  # transformers is untyped


def example_inputs(specs: "list[dict[str, Any]]") -> "tuple[torch.Tensor, ...]":
    """Inputs of the right shape and type; ones, because only shapes are compiled in."""
    return tuple(torch.ones(spec["shape"], dtype=getattr(torch, spec["dtype"])) for spec in specs)


def main(arguments: "list[str]") -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="trace_model")
    for name in ("request", "model", "work", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    asked = parser.parse_args(arguments)
    request = json.loads(asked.request.read_bytes())
    asked.work.mkdir(parents=True, exist_ok=True)
    compiler = importlib.import_module(request["module"])  # before anything else touches a device
    names = [spec["name"] for spec in request["inputs"]]
    model = ByKeyword(load_model(asked.model, request["model_class"]), names)
    inputs = example_inputs(request["inputs"])
    with torch.no_grad():
        shapes = [list(each.shape) for each in model(*inputs)]
        started = time.perf_counter()
        traced = compiler.trace(
            model, inputs, compiler_workdir=str(asked.work), **request["arguments"]
        )
        seconds = time.perf_counter() - started
    torch.jit.save(traced, str(asked.out / "model.pt"))
    written = {
        "format": 1,
        "module": request["module"],
        "module_version": str(getattr(compiler, "__version__", "unknown")),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "arguments": request["arguments"],
        "model_class": request["model_class"],
        "inputs": request["inputs"],
        "output_shapes": shapes,
    }
    (asked.out / "trace.json").write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")
    print(f"traced {request['model_class']} in {seconds:.1f} s", flush=True)  # noqa: T201 - the step's log
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
