"""The package step of a one-pass model: the tree that a serving container reads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmi_artifacts.digest import JSONValue
from lmi_compile.backends.aoti.one_pass.ground import labels
from lmi_compile.backends.aoti.one_pass.pictures import preparation
from lmi_compile.backends.aoti.package import (
    copy_model_files,
    copy_runtime,
    describe,
    link_file,
    link_graphs,
)
from lmi_compile.errors import ModelFault

# Of the runtime what writes texts; all else goes along.
_WRITES = {"batching", "generate", "pipe", "probe", "rank", "sampling", "service"}
_AT_THE_ROOT = {
    "text": ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    "image": ("preprocessor_config.json",),
}
_DESCRIBED = (
    "requires", "model", "dtype", "quantization", "packed", "limits", "graphs", "tensors",
    "built_with", "reproducibility", "head", "inputs",
)  # fmt: skip


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Assembles the served tree; big files are hard links where the file system allows.

    Args:
        params: `name`, for `runtime.json`.
        inputs: `model`, `compile` and `weights`: the finished steps.
        out: Becomes the tree.

    Raises:
        ModelFault: What goes with the model does not fit its graph.
    """
    graphs, model = link_graphs(inputs["compile"], out), inputs["model"]
    link_file(inputs["weights"], "weights.safetensors", out)
    copy_model_files(model, out, _AT_THE_ROOT["image" if graphs["head"] == "picture" else "text"])
    copy_runtime(out, lambda module: module not in _WRITES and not module.startswith("handler"))
    described = {key: graphs[key] for key in _DESCRIBED}
    describe(out, {"name": params["name"], **described, **_of_the_model(model, graphs)})


def _of_the_model(model: Path, graphs: Mapping[str, Any]) -> dict[str, Any]:
    """What of the model's own files decides answers: labels, the mask, padding, preparation."""
    config = _read(model / "config.json")
    named = config.get("id2label") or {}
    count = labels(config)
    found: dict[str, Any] = {
        "labels": [str(named.get(str(index), f"LABEL_{index}")) for index in range(count)],
        "independent": config.get("problem_type") == "multi_label_classification" or count == 1,
    }
    if graphs["head"] == "picture":
        preparing = _read(model / "preprocessor_config.json")
        return found | {"image": preparation(preparing, graphs["limits"]["picture"])}
    pad = config.get("pad_token_id")
    found["pad_token_id"] = pad if isinstance(pad, int) else 0
    found["vocabulary"] = graphs["vocabulary"]
    if graphs["head"] == "mask":
        found |= _mask(model)
    return found


def _mask(model: Path) -> dict[str, Any]:
    """The mask token, from the tokenizer's own files."""
    named = None
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (model / name).is_file():
            named = _read(model / name).get("mask_token") or named
    token = named.get("content") if isinstance(named, dict) else named
    added = _read(model / "tokenizer.json").get("added_tokens") or []
    ids = {each["content"]: each["id"] for each in added}
    if token not in ids:
        what = f"the tokenizer has no mask token among its added tokens: {token!r}"
        raise ModelFault(what, "fill-mask needs one", "use the model's own tokenizer files")
    return {"mask_token": token, "mask_token_id": ids[token]}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        what = f"{path.name} cannot be read"
        raise ModelFault(what, str(error), "correct the file") from error
    if not isinstance(found, dict):
        raise ModelFault(f"{path.name} holds no object", "", "correct the file")
    return found
