"""The reference of a traced model: the Hugging Face model's own outputs in float32 on the CPU."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253 - nobody imports this module before it is named
import torch  # noqa: TID253 - as above
import transformers  # noqa: TID253 - as above

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import ModelFault

_SEED = 20_261_122


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes `inputs.npz` (`000.input_ids`) and `outputs.npz` (`000.0`: output 0 of example 0).

    Args:
        params: `class` of the model, `inputs` (name, shape, dtype), number of `examples`,
            `vocab_size`.
        inputs: `fetch`: the model's directory.
        out: receives the files.

    Raises:
        ModelFault: the model lacks weights of its class, or its outputs are not finite.
    """
    model = _load(inputs["fetch"], str(params["class"]))
    given: dict[str, Any] = {}
    made: dict[str, Any] = {}
    specs: list[dict[str, Any]] = list(params["inputs"])  # type: ignore[arg-type]  # our own step's params
    for index in range(int(str(params["examples"]))):
        example = make_example(specs, index=index, vocab=int(str(params["vocab_size"])))
        given |= {f"{index:03d}.{name}": tensor.numpy() for name, tensor in example.items()}
        with torch.no_grad():
            outputs = model(**example, return_dict=False)
        tensors = [each for each in outputs if isinstance(each, torch.Tensor)]
        if not all(bool(each.isfinite().all()) for each in tensors):
            what = f"in float32 the model's outputs on example {index} hold NaN or infinity"
            raise ModelFault(what, "", "look at its weights")
        made |= {f"{index:03d}.{place}": each.numpy() for place, each in enumerate(tensors)}
        print(f"reference: example {index + 1} of {params['examples']}", flush=True)  # noqa: T201 - progress
    np.savez(out / "inputs.npz", **given)
    np.savez(out / "outputs.npz", **made)


def make_example(specs: list[dict[str, Any]], *, index: int, vocab: int) -> dict[str, torch.Tensor]:
    """Deterministic inputs: odd examples are padded by a quarter, so that the mask matters.

    Args:
        specs: `name`, `shape` and `dtype` of every input, as `encoders.input_shapes` gives them.
        index: which example.
        vocab: ids are below it.

    Returns:
        A tensor of each spec's shape by its name.
    """
    generator = torch.Generator().manual_seed(_SEED + index)
    example: dict[str, torch.Tensor] = {}
    for spec in specs:
        shape = spec["shape"]
        match spec["name"]:
            case "attention_mask":
                tensor = torch.ones(shape, dtype=torch.int64)
                if index % 2:
                    tensor[:, shape[1] - shape[1] // 4 :] = 0
            case "token_type_ids":
                tensor = torch.zeros(shape, dtype=torch.int64)
                tensor[:, shape[1] // 2 :] = 1
            case "input_ids":
                tensor = torch.randint(0, vocab, shape, generator=generator)
            case _:
                tensor = torch.randn(shape, generator=generator)
        example[spec["name"]] = tensor
    return example


def _load(directory: Path, class_name: str) -> torch.nn.Module:
    config = transformers.AutoConfig.from_pretrained(directory, local_files_only=True)
    config._attn_implementation = "eager"  # noqa: SLF001 - its public spelling differs by release
    model, found = getattr(transformers, class_name).from_pretrained(
        directory, config=config, local_files_only=True, output_loading_info=True
    )
    missing = sorted(found["missing_keys"])
    if missing:
        what = f"the model has no weights for {class_name}: {', '.join(missing[:4])}"
        raise ModelFault(what, "", "name a model that was trained for this task")
    loaded: torch.nn.Module = model.float().eval()
    return loaded
