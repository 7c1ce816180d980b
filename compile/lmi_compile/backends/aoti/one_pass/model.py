"""The model step of a one-pass model: its class's own tensors, under its own names.

Checkpoints of encoders come with other heads' weights, without a prefix or with one, and with
names of older releases. Loading and saving by transformers settles all of that in one place.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_model  # noqa: TID253 - the worker's own process imports this

from lmi_artifacts.digest import JSONValue
from lmi_compile.backends.aoti.progress import say
from lmi_compile.errors import ModelFault
from lmi_compile.models.identity import architecture_of
from lmi_verify.errors import ModelUnreadable
from lmi_verify.one_pass.heads import head_named
from lmi_verify.one_pass.reference import load

_KEPT = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "preprocessor_config.json",
)  # fmt: skip
_LICENCES = ("LICEN[CS]E*", "NOTICE*", "COPYING*")


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes `model.safetensors` in float32, beside the model's own other files.

    Args:
        params: `head`, `config` (the architecture that was planned for), `trust_remote_code`.
        inputs: `fetch`, a Hugging Face directory.
        out: Receives the files.

    Raises:
        ModelFault: The model lacks weights of this head, or is another one than was planned.
    """
    source, head = inputs["fetch"], head_named(str(params["head"]))
    needed = "tokenizer.json" if head.reads == "text" else "preprocessor_config.json"
    if not (source / needed).is_file():
        what = f"the model has no {needed}"
        raise ModelFault(what, "the served model reads it", "save it beside the weights")
    planned: Any = params["config"]
    found = architecture_of(json.loads((source / "config.json").read_bytes()))
    if found != planned:
        differs = sorted(
            name for name in {*found, *planned} if found.get(name) != planned.get(name)
        )
        what = "the model's config.json is not the one that was planned for"
        raise ModelFault(what, f"they differ in {', '.join(differs)}", "correct model.config")
    try:
        model = load(source, head.loader, trust_remote_code=bool(params["trust_remote_code"]))
    except ModelUnreadable as error:
        what = f"the model cannot be loaded: {error.why}"
        raise ModelFault(what, str(error.path), "name a model trained for this task") from error
    save_model(model, str(out / "model.safetensors"))
    for name in _KEPT:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    for pattern in _LICENCES:
        for path in sorted(source.glob(pattern)):
            shutil.copyfile(path, out / path.name)
    say(f"{type(model).__name__}: {sum(each.numel() for each in model.parameters())} parameters")
