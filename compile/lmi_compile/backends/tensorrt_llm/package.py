"""Worker function: the tree that a container reads, from engines and the model's own files."""

import json
import os
import shutil
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.properties import PROPERTIES_NAME, format_properties
from lmi_artifacts.trtllm_container import recognised
from lmi_compile.backends.tensorrt_llm.engine import Engine, read_engine
from lmi_compile.errors import ModelFault, ToolFailed

# LLM.save keeps only what starts with `tokenizer`; a container needs all of these.
_BESIDE = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template*",
    "vocab.*",
    "merges.txt",
    "*.model",
    "LICENSE*",
    "LICENCE*",
    "NOTICE*",
)
_NEEDED = ("tokenizer_config.json", "generation_config.json")
_ONE_OF = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Assembles the served tree and holds it against its container's recogniser.

    Args:
        params: `layout`, `runtime`, `encoder_decoder` and what `read_engine` compares.
        inputs: `model`, `engine`.
        out: becomes the tree.

    Raises:
        ModelFault: the model lacks a tokenizer file.
        EnvironmentFault, ToolFailed: the engine is not the planned one.
    """
    beside = _files_beside(inputs["model"])
    layout = str(params["layout"])
    if layout == "triton":
        name, engine = _triton_repository(inputs["engine"], params)
        shutil.copytree(inputs["engine"] / name, out / name, copy_function=_link)
        folder = out / name
        (folder / "1" / "model.cache").unlink(missing_ok=True)  # a timing cache serves nothing
    else:
        engine = read_engine(inputs["engine"], params)
        for rank in ("config.json", *engine.ranks):
            _link(inputs["engine"] / rank, out / rank)
        folder = out
    for name in beside:
        if not (folder / name).exists():
            _link(inputs["model"] / name, folder / name)
    runtime = params["runtime"]
    knobs = runtime if isinstance(runtime, Mapping) else {}
    rolling = "disable" if params["encoder_decoder"] else "trtllm"
    properties = serving_properties(engine, layout, knobs, rolling=rolling)
    if properties:
        (out / PROPERTIES_NAME).write_bytes(format_properties(properties))
    else:
        described = {"format": 1, "layout": layout, "tp_size": engine.tp, "pp_size": engine.pp}
        (out / "package.json").write_text(json.dumps(described) + "\n", encoding="utf-8")
    faults = recognised(out, layout)
    if faults:
        raise ToolFailed(
            what="the container would not take this tree for engines, and compile at its start",
            why="; ".join(faults),
            fix="report it with the engine step's log",
        )


def serving_properties(
    engine: Engine, layout: str, runtime: Mapping[str, JSONValue], *, rolling: str = "trtllm"
) -> dict[str, str]:
    """What the container is told: degrees and batch are the engine's own, never the recipe's.

    Args:
        engine: read back.
        layout: the container's.
        runtime: the recipe's serve-time knobs.
        rolling: LMI <= 0.32's batcher; `disable` gives an encoder-decoder to its Python backend.
    """
    knobs = {f"option.{name}": _text(value) for name, value in sorted(runtime.items())}
    degrees = {
        "option.tensor_parallel_degree": str(engine.tp),
        "option.pipeline_parallel_degree": str(engine.pp),
        "option.max_rolling_batch_size": str(engine.max_batch_size),
    }
    match layout:
        case "flat":
            return {
                "engine": "Python",
                "option.entryPoint": "djl_python.lmi_trtllm.trtllm_async_service",
                "option.async_mode": "true",
                "option.rolling_batch": "disable",
                **degrees,
                # its properties class reads the second spelling, djl-serving the first
                "option.pipeline_parallel_size": str(engine.pp),
                **knobs,
            }
        case "triton":
            return {"engine": "MPI", "option.rolling_batch": rolling, **degrees, **knobs}
        case _:
            return {}


def _text(value: JSONValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _files_beside(model: Path) -> tuple[str, ...]:
    names = sorted(
        path.name
        for path in model.iterdir()
        if path.is_file() and any(fnmatchcase(path.name, pattern) for pattern in _BESIDE)
    )
    missing = [name for name in _NEEDED if name not in names]
    if not any(name in names for name in _ONE_OF):
        missing.append(" or ".join(_ONE_OF))
    if missing:
        raise ModelFault(
            what=f"the model lacks {', '.join(missing)}",
            why="without its tokenizer files a container finds no tokenizer, and LMI compiles anew",
            fix="save the tokenizer beside the model: AutoTokenizer...save_pretrained(DIR)",
        )
    return tuple(names)


def _triton_repository(engine: Path, params: Mapping[str, JSONValue]) -> tuple[str, Engine]:
    """The one model of a repository that LMI's script wrote: `<name>/config.pbtxt`, `<name>/1`."""
    named = [path.parent.name for path in sorted(engine.glob("*/config.pbtxt"))]
    if len(named) != 1:
        raise ToolFailed(
            what="LMI's script wrote no Triton repository with one model",
            why=f"config.pbtxt is in {', '.join(named) or 'no folder'}",
            fix="read the engine step's log",
        )
    return named[0], read_engine(engine / named[0] / "1", params)


def _link(source: str | Path, target: str | Path) -> None:
    """The same bytes under a second name; a copy where the file system cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
