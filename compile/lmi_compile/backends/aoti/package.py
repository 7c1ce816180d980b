"""The package step: the tree that a serving container reads, loader and all."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.properties import PROPERTIES_NAME, format_properties
from lmi_compile.backends.aoti.parallel import BUILD, DEGREE, shard_name
from lmi_compile.backends.aoti.progress import say
from lmi_compile.errors import ModelFault

# All that a handler beside a Hugging Face model needs to be left alone by the recommender: it
# would otherwise choose rolling batch or async mode by itself. Batch above 1 is async.
_SERVING = {
    "engine": "Python",
    "option.entryPoint": "model.py",
    "option.rolling_batch": "disable",
    "minWorkers": "1",
    "maxWorkers": "1",
}
_RUNTIME = "lmi_aoti_runtime"
_RUNTIME_SOURCE = Path(__file__).parent / "runtime"
# One request at a time, or several at once through the batcher: djl-serving tells them apart by
# `async def` and option.async_mode, which must agree.
_HANDLERS = {"false": "handler.py", "true": "handler_async.py"}
_AT_THE_ROOT = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
_LICENCES = ("LICEN[CS]E*", "NOTICE*", "COPYING*")
# A config.json at the root would set djl-serving's recommender going.
_CONFIGS = ("config.json", "generation_config.json")
_DESCRIBED = (
    "requires",
    "model",
    "parallel",
    "dtype",
    "slot_dtype",
    "quantization",
    "packed",
    "note",
    "limits",
    "cache",
    "graphs",
    "tensors",
    "built_with",
    "reproducibility",
)


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Assembles the served tree; big files are hard links where the file system allows.

    Args:
        params: `name`, for `runtime.json`.
        inputs: `model`, `compile` and `weights`: the finished steps.
        out: Becomes the tree.

    Raises:
        ModelFault: The model has no tokenizer.json, or a configuration cannot be read.
    """
    graphs = link_graphs(inputs["compile"], out)
    degree = graphs["model"][DEGREE]
    for name in (shard_name(rank, degree) for rank in range(degree)):
        link_file(inputs["weights"], name, out)
    if degree > 1:
        build = (inputs["weights"] / BUILD).read_text(encoding="ascii").strip()
        graphs["parallel"]["build"] = build
    if not (inputs["model"] / "tokenizer.json").is_file():
        what = "the model has no tokenizer.json"
        why = "the packaged loader reads the fast tokenizer's file and no other"
        raise ModelFault(what, why, "save the model's fast tokenizer beside it")
    copy_model_files(inputs["model"], out, _AT_THE_ROOT)
    several = "true" if graphs["limits"]["max_batch_size"] > 1 else "false"
    copy_runtime(out, lambda module: not module.startswith(("handler", "one_pass")), several)
    described = {key: graphs[key] for key in _DESCRIBED}
    described["eos_token_ids"] = _eos_token_ids(inputs["model"])
    describe(out, {"name": params["name"], **described})


def copy_model_files(model: Path, out: Path, names: Sequence[str]) -> None:
    """What the model has of `names`, its configurations, licence and notices."""
    for pattern in (*names, *_LICENCES):
        for path in sorted(model.glob(pattern)):
            _copy_file(path, out / path.name)
    for name in _CONFIGS:
        if (model / name).is_file():
            _copy_file(model / name, out / "hf" / name)


def _eos_token_ids(model: Path) -> list[int]:
    """What ends a text: the generation configuration's word, else the model's."""
    for name in reversed(_CONFIGS):
        path = model / name
        if not path.is_file():
            continue
        try:
            found = json.loads(path.read_bytes()).get("eos_token_id")
        except (ValueError, AttributeError) as error:
            raise ModelFault(f"{name} cannot be read", str(error), "correct the file") from error
        if found is not None:
            ids = found if isinstance(found, list) else [found]
            if not all(isinstance(one, int) for one in ids):
                what = f"{name}: eos_token_id must be a number or a list of numbers, not {found!r}"
                raise ModelFault(what, "", "correct the file")
            return sorted(ids)
    return []


def link_graphs(compiled: Path, out: Path) -> dict[str, Any]:
    """`graphs.json` of a compile step, whose libraries and constants become files of the tree."""
    graphs: dict[str, Any] = json.loads((compiled / "graphs.json").read_bytes())
    for graph in graphs["graphs"].values():
        link_file(compiled, graph["library"], out)
    link_file(compiled, "constants.safetensors", out)
    return graphs


def link_file(source: Path, name: str, out: Path) -> None:
    """A big file of the tree: a hard link where the file system has them."""
    target = out / name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source / name, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source / name, target)


def copy_runtime(out: Path, wanted: Callable[[str], bool], async_mode: str = "false") -> None:
    """The loader beside the model: its modules, `model.py` and `serving.properties`.

    Args:
        out: The tree.
        wanted: Which modules, by name.
        async_mode: Whether requests meet in the batcher.
    """
    for source in sorted(_RUNTIME_SOURCE.glob("*.py")):
        if wanted(source.stem):
            _copy_file(source, out / _RUNTIME / source.name)
    _copy_file(_RUNTIME_SOURCE / _HANDLERS[async_mode], out / "model.py")
    properties = {**_SERVING, "option.async_mode": async_mode}
    (out / PROPERTIES_NAME).write_bytes(format_properties(properties))


def describe(out: Path, described: Mapping[str, JSONValue]) -> None:
    """Writes `runtime.json`, the last file of the tree, with the sizes of all others."""
    files = sorted(path for path in out.rglob("*") if path.is_file())
    sizes = {path.relative_to(out).as_posix(): path.stat().st_size for path in files}
    whole = {"format": 1, "backend": "aoti", **described, "files": sizes}
    text = json.dumps(whole, indent=1, sort_keys=True) + "\n"
    (out / "runtime.json").write_text(text, encoding="utf-8")
    say(f"{len(files) + 1} files packaged")


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
