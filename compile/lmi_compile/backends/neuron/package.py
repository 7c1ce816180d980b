"""The package step: the tree that the route's container serves, held against its own rules."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.errors import PackageInvalid
from lmi_artifacts.neuron_cache import cache_problems, entries
from lmi_artifacts.neuron_container import recognise
from lmi_artifacts.properties import PROPERTIES_NAME, format_properties
from lmi_compile.backends.neuron.environment import CONTRACTS, KEPT_CACHE
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What a route assembles its tree from.

    Attributes:
        description: of the build, as it goes into the tree.
        params: the step's.
        inputs: the finished steps.
        out: the tree.
    """

    description: Mapping[str, Any]
    params: Mapping[str, JSONValue]
    inputs: Mapping[str, Path]
    out: Path

    def take(self, *steps: str) -> None:
        """The compiled files of `steps`, and the model's text files where there are none yet."""
        for step in steps:
            _link_tree(self.inputs[step], self.out)
        model = self.inputs.get("model", self.inputs.get("fetch"))
        if model is not None:
            _copy_text_files(model, self.out)


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
    work = _Work(description=description, params=params, inputs=inputs, out=out)
    text = json.dumps(description | assemble(work), indent=1, sort_keys=True) + "\n"
    (out / "lmi-neuron.json").write_text(text, encoding="utf-8")
    problems = recognise(contract, out)
    if problems:
        raise PackageInvalid(str(description["route"]), problems)


def _nxdi(work: _Work) -> dict[str, Any]:
    work.take("compile")
    config = _neuron_config(work.out, work.description)
    # The build host's path would be looked for where the weights of a rank are missing.
    config["_name_or_path"] = SERVED_AT
    (work.out / "neuron_config.json").unlink()
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (work.out / "neuron_config.json").write_text(text, encoding="utf-8")
    degree = int(work.description["tensor_parallel_degree"])
    weights = [f"weights/tp{rank}_sharded_checkpoint.safetensors" for rank in range(degree)]
    _script(work, "serve_nxdi.sh", weights)
    return _served_config(work.inputs["model"], work.out)


def _optimum(work: _Work) -> dict[str, Any]:
    work.take("compile")
    return {}


def _partition(work: _Work) -> dict[str, Any]:
    work.take("compile")
    given = work.params["properties"]
    named = (
        {str(key): str(value) for key, value in given.items()} if isinstance(given, Mapping) else {}
    )
    (work.out / PROPERTIES_NAME).unlink(missing_ok=True)
    (work.out / PROPERTIES_NAME).write_bytes(format_properties(named))
    compiler = str(work.description["versions"]["neuronx-cc"])
    return {"properties": named, "graphs": matched_graphs(work.inputs["compile"], compiler)}


def _traced(work: _Work) -> dict[str, Any]:
    _link(work.inputs["compile"] / "model.pt", work.out / "model.pt")
    work.take()
    (work.out / "code").mkdir()
    shutil.copyfile(work.inputs["tools"] / "inference.py", work.out / "code" / "inference.py")
    trace = json.loads((work.inputs["compile"] / "trace.json").read_bytes())
    return {"trace": trace, "parameters": work.params["parameters"]}


def _vllm(work: _Work) -> dict[str, Any]:
    work.take("compile", "model")
    _script(work, "serve_vllm.sh", [])
    cache = work.out / "neuron" / "compile_cache"
    return {"cache_keys": sorted(path.name for path in cache.iterdir())}


_ROUTES: Mapping[str, tuple[Callable[[_Work], dict[str, Any]], str]] = {
    "nxdi": (_nxdi, CONTRACTS["nxdi"]),
    "optimum": (_optimum, CONTRACTS["optimum"]),
    "partition": (_partition, CONTRACTS["partition"]),
    "trace": (_traced, CONTRACTS["trace"]),
    "trace-inf1": (_traced, CONTRACTS["trace-inf1"]),
    "vllm": (_vllm, CONTRACTS["vllm"]),
}


def matched_graphs(compiled: Path, compiler: str) -> list[dict[str, str]]:
    """Every saved NEFF with the cache entry whose graph has its name and whose NEFF its bytes.

    The loader looks each graph up under the digest that is recomputed here: a tree whose names and
    bytes match compiles nothing.

    Args:
        compiled: the partition step's outputs, with the compile cache it kept.
        compiler: the pinned compiler's version.

    Raises:
        ToolFailed: an entry is not whole, or a NEFF is of no graph that was compiled.
    """
    fix = "compile once more in the toolchain's image"
    problems = tuple(cache_problems(compiled / KEPT_CACHE))
    if problems:
        what = f"the compile cache is not whole: {'; '.join(problems)}"
        raise ToolFailed(what, "its entries are what the saved graphs are held against", fix)
    known = {entry.saved_name: entry for entry in entries(compiled / KEPT_CACHE)}
    graphs = []
    for neff in sorted((compiled / "compiled").glob("*.neff")):
        entry = known.get(neff.name)
        if entry is None or entry.neff.read_bytes() != neff.read_bytes():
            what = f"compiled/{neff.name} is of no graph that was compiled here"
            why = "the container would find no NEFF for a graph, or another graph's"
            raise ToolFailed(what, why, fix)
        if not entry.compiler.startswith(f"neuronxcc-{compiler}+"):
            what = f"compiled/{neff.name} was compiled by {entry.compiler}"
            raise ToolFailed(what, f"the toolchain is pinned to {compiler}", fix)
        graphs.append({"neff": neff.name, "entry": entry.name, "compiler": entry.compiler})
    return graphs


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


def _script(work: _Work, name: str, weights: list[str]) -> None:
    text = (work.inputs["tools"] / name).read_text(encoding="utf-8")
    values = {
        "@DEGREE@": str(work.description["tensor_parallel_degree"]),
        "@LENGTH@": str(work.description["max_seq_len"]),
        "@BATCH@": str(work.description["max_batch_size"]),
        "@WEIGHTS@": " ".join(weights),
    }
    for mark, value in values.items():
        text = text.replace(mark, value)
    (work.out / "serve.sh").write_text(text, encoding="utf-8")
    (work.out / "serve.sh").chmod(0o755)


def _copy_text_files(model: Path, tree: Path) -> None:
    for name in _TEXT_FILES:
        if (model / name).is_file() and not (tree / name).exists():
            shutil.copyfile(model / name, tree / name)


def _link_tree(source: Path, target: Path) -> None:
    served = [
        path
        for path in sorted(source.rglob("*"))
        if KEPT_CACHE not in path.relative_to(source).parts
    ]
    refused = [
        path.relative_to(source).as_posix()
        for path in served
        if path.name.endswith(_REFUSED_IN_CACHE)
    ]
    if refused:
        what = f"the compiler left entries that failed or are locked: {', '.join(sorted(refused))}"
        raise ToolFailed(what, "served, they would be found again and again", "compile once more")
    for path in served:
        if path.is_file():
            _link(path, target / path.relative_to(source))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
