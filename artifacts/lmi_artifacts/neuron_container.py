"""What a finished tree must look like for the containers that serve NEFFs.

Each rule names why in its problem. Sources: neuronx-distributed-inference @ cd3abf3 (its
models/application_base.py), optimum-neuron 0.4.5, djl-serving 0.30.0-dlc (its
djl_python/neuron_utils/model_loader.py), SageMaker's PyTorch inference toolkit, and the SDK's
vllm-neuron/docs @ 81ce03ae.
"""

import ast
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from lmi_artifacts.foreign import MOST_RANKS, read_object
from lmi_artifacts.neuron_cache import cache_problems
from lmi_artifacts.properties import PROPERTIES_NAME, parse_properties

_NAME_LETTERS = 255
_SAVED_NEFF = re.compile(r"[0-9a-f]{20}\.neff")
_VLLM_KEY = re.compile(r"[0-9a-f]{32}")
_HANDLERS = ("model_fn", "input_fn", "predict_fn", "output_fn")
_PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pth")
# What transformers-neuronx recompiles for, when it differs from what was compiled.
_COMPILED_IN = (
    "option.context_length_estimate",
    "option.dtype",
    "option.max_rolling_batch_size",
    "option.n_positions",
    "option.rolling_batch",
    "option.tensor_parallel_degree",
)
_LMI_VALUES = {
    "engine": ("Python",),
    "option.entryPoint": ("djl_python.transformers_neuronx",),
    "option.dtype": ("fp32", "fp16", "bf16"),
    "option.group_query_attention": (
        "shard-over-heads",
        "shard-over-batch",
        "replicated-heads",
        "all-gather-heads",
    ),
    "option.quantize": ("static_int8",),
    "batch_size": ("1",),  # above 1 it is refused beside a rolling batch
    "option.batch_size": ("1",),
}
_LMI_OPTIONAL = frozenset(
    {"option.group_query_attention", "option.quantize", "batch_size", "option.batch_size"}
)
_LMI_COMPILED = {
    "num_cores": "option.tensor_parallel_degree",
    "sequence_length": "option.n_positions",
    "batch_size": "option.max_rolling_batch_size",
}


def recognise(contract: str, tree: Path) -> tuple[str, ...]:
    """Hold a finished tree against a Neuron container's rules.

    Args:
        contract: `neuron-nxdi`, `neuron-optimum`, `neuron-lmi`, `neuron-torchscript` or
            `neuron-vllm`.
        tree: the served tree.

    Returns:
        Every problem as one sentence; none means that the container loads it without compiling.

    Raises:
        ValueError: no such contract.
    """
    if contract not in RULES:
        message = f"no container contract is called {contract}; there are {', '.join(RULES)}"
        raise ValueError(message)
    return (*RULES[contract](tree), *cache_problems(tree), *_file_problems(tree))


def _nxdi(tree: Path) -> Iterator[str]:
    yield from _torchscript(tree / "model.pt")
    config = read_object(tree / "neuron_config.json")
    built = config.get("neuron_config", config)
    if not isinstance(built, Mapping):
        yield "neuron_config.json: its neuron_config is no object"
        return
    if built.get("save_sharded_checkpoint") is not True:
        yield "neuron_config.json: save_sharded_checkpoint is not true; loading would shard anew"
    if (
        str(config.get("_name_or_path", "")).startswith("/")
        and config.get("_name_or_path") != "/opt/ml/model"
    ):
        yield "neuron_config.json: _name_or_path is a path of the build host"
    yield from _ranks(tree, "weights", built.get("tp_degree"))
    yield from _needs(tree, ("config.json", "generation_config.json", "tokenizer.json", "serve.sh"))


def _optimum(tree: Path) -> Iterator[str]:
    yield from _torchscript(tree / "model.pt")
    built = read_object(tree / "neuron_config.json")
    yield from _ranks(tree, "checkpoint/weights", built.get("tp_degree"))
    if not built.get("target"):
        yield "neuron_config.json: it has no target; the loader compares it with the device's"
    yield from _needs(tree, ("config.json", "tokenizer.json"))


def _lmi(tree: Path) -> Iterator[str]:
    for path in sorted(tree.glob("*.safetensors")):
        yield f"{path.name}: at the root it makes the loader ignore compiled/ and compile anew"
    config = read_object(tree / "config.json")
    if not isinstance(config.get("neuron"), dict):
        yield "config.json: it has no block neuron; the loader then ignores compiled/"
    compiled = tree / "compiled"
    if not any(compiled.glob("*.neff")):
        yield "compiled: it holds no .neff"
    if not any(compiled.glob("*.safetensors")):
        yield "compiled: it holds no split weights (*.safetensors)"
    yield from _lmi_graphs(tree)
    neuron = config.get("neuron")
    yield from _lmi_properties(tree, neuron if isinstance(neuron, dict) else {})


def _lmi_graphs(tree: Path) -> Iterator[str]:
    """transformers-neuronx loads a NEFF by its graph's digest, and fails where there is none."""
    there = {path.name for path in (tree / "compiled").glob("*.neff")}
    odd = sorted(name for name in there if not _SAVED_NEFF.fullmatch(name))
    if odd:
        yield f"compiled: {', '.join(odd)}: no graph's digest, under which it would be looked for"
    graphs = read_object(tree / "lmi-neuron.json").get("graphs")
    listed = graphs if isinstance(graphs, list) else []
    named = {str(graph.get("neff")) for graph in listed if isinstance(graph, dict)}
    if named and named != there:
        missing = ", ".join(sorted(named ^ there))
        yield f"compiled: {missing}: not the graphs that lmi-neuron.json says were compiled"


def _lmi_properties(tree: Path, neuron: Mapping[str, Any]) -> Iterator[str]:
    path = tree / PROPERTIES_NAME
    if not path.is_file():
        yield f"{PROPERTIES_NAME}: is missing"
        return
    found = parse_properties(path.read_bytes())
    for key, allowed in _LMI_VALUES.items():
        if found.get(key, allowed[0] if key in _LMI_OPTIONAL else None) not in allowed:
            yield f"{PROPERTIES_NAME}: {key} is {found.get(key)}; it must be {' or '.join(allowed)}"
    for key in _COMPILED_IN:
        if key not in found:
            yield f"{PROPERTIES_NAME}: {key} is missing; smart defaults would choose another value"
    for key in ("option.model_id", "option.save_mp_checkpoint_path"):
        if key in found:
            yield f"{PROPERTIES_NAME}: {key} would make the container look elsewhere"
    for name, key in _LMI_COMPILED.items():
        if name in neuron and str(neuron[name]) != found.get(key):
            yield f"config.json: neuron.{name} is {neuron[name]}, {key} is {found.get(key)}"


def _handler(tree: Path) -> Iterator[str]:
    yield from _torchscript(tree / "model.pt")
    path = tree / "code" / "inference.py"
    if not path.is_file():
        yield "code/inference.py: is missing; the toolkit's own loader knows no neuron::forward"
        return
    defined = {
        node.name for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.FunctionDef)
    }
    for name in _HANDLERS:
        if name not in defined:
            yield f"code/inference.py: defines no {name}"
    described = read_object(tree / "lmi-neuron.json").get("trace")
    if not isinstance(described, dict) or described.get("module") not in {
        "torch_neuron",
        "torch_neuronx",
    }:
        yield "lmi-neuron.json: it names no trace module to import before the model is loaded"


def _vllm(tree: Path) -> Iterator[str]:
    """One folder for each graph, named by 32 digits that only the plugin can compute."""
    cache = tree / "neuron" / "compile_cache"
    keys = sorted(path.name for path in cache.glob("*") if path.is_dir())
    if not any(path.is_file() for path in cache.rglob("*")):
        yield "neuron/compile_cache: it is empty; vLLM would compile when it starts"
    for key in keys:
        if not _VLLM_KEY.fullmatch(key):
            yield f"neuron/compile_cache/{key}: is no cache key of 32 digits; it is never found"
        elif not any((cache / key).rglob("*.neff")):
            yield f"neuron/compile_cache/{key}: holds no .neff, so that it is no hit"
    named = read_object(tree / "lmi-neuron.json").get("cache_keys")
    if named is not None and named != keys:
        yield "neuron/compile_cache: its keys are not those that lmi-neuron.json says were compiled"
    yield from _needs(tree, ("config.json", "tokenizer.json", "serve.sh"))


RULES: Final[Mapping[str, Callable[[Path], Iterator[str]]]] = {
    "neuron-nxdi": _nxdi,
    "neuron-optimum": _optimum,
    "neuron-lmi": _lmi,
    "neuron-torchscript": _handler,
    "neuron-vllm": _vllm,
}


def _torchscript(path: Path) -> Iterator[str]:
    """A TorchScript archive: its own reader takes no pickled code, and it holds the NEFFs."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        yield f"{path.name}: is missing or is no TorchScript archive"
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if not any(name.endswith("constants.pkl") for name in names):
        yield f"{path.name}: has no constants.pkl, so torch.jit.load would refuse it"


def _ranks(tree: Path, folder: str, degree: object) -> Iterator[str]:
    if not isinstance(degree, int):
        yield "neuron_config.json: tp_degree is missing"
        return
    if not 0 < degree <= MOST_RANKS:
        yield f"neuron_config.json: tp_degree is {degree}; no host has so many"
        return
    for rank in range(degree):
        name = f"{folder}/tp{rank}_sharded_checkpoint.safetensors"
        if not (tree / name).is_file() or not (tree / name).stat().st_size:
            yield f"{name}: is missing; loading would look for the original checkpoint"


def _needs(tree: Path, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        if not (tree / name).is_file():
            yield f"{name}: is missing"


def _file_problems(tree: Path) -> Iterator[str]:
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        name = path.relative_to(tree).as_posix()
        if len(name) > _NAME_LETTERS:
            yield f"{name!r}: is longer than the {_NAME_LETTERS} characters SageMaker accepts"
        if path.suffix.lower() in _PICKLES:
            yield f"{name!r}: is named like a pickle, which runs code when it is loaded"
        if path.name.endswith((".lock", "model.log")) and "MODULE_" not in path.parent.name:
            yield f"{name!r}: a failed or locked cache entry; it would be found again and again"
