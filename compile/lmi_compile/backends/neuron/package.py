"""The package step: the tree that the route's container serves, held against its own rules."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.errors import PackageInvalid
from lmi_artifacts.neuron_container import recognise
from lmi_artifacts.properties import PROPERTIES_NAME, format_properties
from lmi_compile.backends.neuron.environment import CONTRACTS
from lmi_compile.errors import ToolFailed

SERVED_AT = "/opt/ml/model"
_TEXT_FILES = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "LICENSE",
)
# Left behind by a compiler that failed or was killed; an entry that has one is never served.
_REFUSED_IN_CACHE = (".lock", "model.log")


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Assembles the served tree; big files are hard links where the file system allows.

    Args:
        params: `description` of the build; by route also `properties` or `parameters`.
        inputs: `compile`, `tools`, and `model` or `fetch`: the finished steps.
        out: becomes the tree.

    Raises:
        ToolFailed: the compiler's outputs are not those of this build.
        PackageInvalid: the container would refuse the tree, or compile when it starts.
    """
    given = params["description"]
    description: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {}
    assemble, contract = _ROUTES[str(description["route"])]
    description |= assemble(description, params, inputs, out)
    text = json.dumps(description, indent=1, sort_keys=True) + "\n"
    (out / "lmi-neuron.json").write_text(text, encoding="utf-8")
    problems = recognise(contract, out)
    if problems:
        raise PackageInvalid(str(description["route"]), problems)


def _nxdi(
    description: Mapping[str, Any],
    params: Mapping[str, JSONValue],
    inputs: Mapping[str, Path],
    out: Path,
) -> dict[str, Any]:
    del params
    _link_tree(inputs["compile"], out)
    config = _neuron_config(out, description)
    # The build host's path would be looked for where the weights of a rank are missing.
    config["_name_or_path"] = SERVED_AT
    (out / "neuron_config.json").unlink()
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (out / "neuron_config.json").write_text(text, encoding="utf-8")
    _copy_text_files(inputs["model"], out)
    added = _served_config(inputs["model"], out)
    degree = int(description["tensor_parallel_degree"])
    weights = [f"weights/tp{rank}_sharded_checkpoint.safetensors" for rank in range(degree)]
    _script(inputs["tools"] / "serve_nxdi.sh", out / "serve.sh", description, weights)
    return added


def _optimum(
    description: Mapping[str, Any],
    params: Mapping[str, JSONValue],
    inputs: Mapping[str, Path],
    out: Path,
) -> dict[str, Any]:
    del params, description
    _link_tree(inputs["compile"], out)
    _copy_text_files(inputs["model"], out)
    return {}


def _partition(
    description: Mapping[str, Any],
    params: Mapping[str, JSONValue],
    inputs: Mapping[str, Path],
    out: Path,
) -> dict[str, Any]:
    del description
    _link_tree(inputs["compile"], out)
    _copy_text_files(inputs["model"], out)
    given = params["properties"]
    named = (
        {str(key): str(value) for key, value in given.items()} if isinstance(given, Mapping) else {}
    )
    (out / PROPERTIES_NAME).unlink(missing_ok=True)
    (out / PROPERTIES_NAME).write_bytes(format_properties(named))
    return {"properties": named}


def _traced(
    description: Mapping[str, Any],
    params: Mapping[str, JSONValue],
    inputs: Mapping[str, Path],
    out: Path,
) -> dict[str, Any]:
    del description
    _link(inputs["compile"] / "model.pt", out / "model.pt")
    (out / "code").mkdir()
    shutil.copyfile(inputs["tools"] / "inference.py", out / "code" / "inference.py")
    _copy_text_files(inputs["fetch"], out)
    trace = json.loads((inputs["compile"] / "trace.json").read_bytes())
    return {"trace": trace, "parameters": params["parameters"]}


def _vllm(
    description: Mapping[str, Any],
    params: Mapping[str, JSONValue],
    inputs: Mapping[str, Path],
    out: Path,
) -> dict[str, Any]:
    del params
    _link_tree(inputs["compile"], out)
    _link_tree(inputs["model"], out)
    _script(inputs["tools"] / "serve_vllm.sh", out / "serve.sh", description, [])
    return {}


_Assemble = Callable[
    [Mapping[str, Any], Mapping[str, JSONValue], Mapping[str, Path], Path], dict[str, Any]
]
_ROUTES: Mapping[str, tuple[_Assemble, str]] = {
    "nxdi": (_nxdi, CONTRACTS["nxdi"]),
    "optimum": (_optimum, CONTRACTS["optimum"]),
    "partition": (_partition, CONTRACTS["partition"]),
    "trace": (_traced, CONTRACTS["trace"]),
    "trace-inf1": (_traced, CONTRACTS["trace-inf1"]),
    "vllm": (_vllm, CONTRACTS["vllm"]),
}


def _neuron_config(tree: Path, description: Mapping[str, Any]) -> dict[str, Any]:
    """The compiled configuration, held against what was asked: the endpoint reads only this."""
    config: dict[str, Any] = json.loads((tree / "neuron_config.json").read_bytes())
    built = config.get("neuron_config", {})
    asked = {
        "tp_degree": description["tensor_parallel_degree"],
        "batch_size": description["max_batch_size"],
        "seq_len": description["max_seq_len"],
        "save_sharded_checkpoint": True,
    }
    wrong = [
        f"{name} is {built.get(name)!r}, not {value!r}"
        for name, value in asked.items()
        if built.get(name) != value
    ]
    if wrong:
        what = f"neuron_config.json is of another build: {'; '.join(wrong)}"
        raise ToolFailed(what, "", "look at the compile step's log")
    return config


def _served_config(model: Path, tree: Path) -> dict[str, Any]:
    """The model's config.json; mistral goes as the class that compiled it, and says so."""
    config = json.loads((model / "config.json").read_bytes())
    model_type = config.get("model_type")
    added: dict[str, Any] = {"nxdi_model_type": model_type}
    if model_type == "mistral":
        added = {"nxdi_model_type": "llama", "renamed_architecture": config.get("architectures")}
        config["architectures"] = ["LlamaForCausalLM"]
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (tree / "config.json").write_text(text, encoding="utf-8")
    return added


def _script(source: Path, target: Path, description: Mapping[str, Any], weights: list[str]) -> None:
    text = source.read_text(encoding="utf-8")
    values = {
        "@DEGREE@": str(description["tensor_parallel_degree"]),
        "@LENGTH@": str(description["max_seq_len"]),
        "@BATCH@": str(description["max_batch_size"]),
        "@WEIGHTS@": " ".join(weights),
    }
    for mark, value in values.items():
        text = text.replace(mark, value)
    target.write_text(text, encoding="utf-8")
    target.chmod(0o755)


def _copy_text_files(model: Path, tree: Path) -> None:
    for name in _TEXT_FILES:
        if (model / name).is_file() and not (tree / name).exists():
            shutil.copyfile(model / name, tree / name)


def _link_tree(source: Path, target: Path) -> None:
    refused = [
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.name.endswith(_REFUSED_IN_CACHE)
    ]
    if refused:
        what = f"the compiler left entries that failed or are locked: {', '.join(sorted(refused))}"
        raise ToolFailed(what, "served, they would be found again and again", "compile once more")
    for path in sorted(source.rglob("*")):
        if path.is_file():
            _link(path, target / path.relative_to(source))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
