"""The rules of the static proof: what each container does with a tree that it reads.

`RULES` names where each is written. The tables are `lmi_images.json` (which image is what) and
`lmi_releases.json` (what each release accepts and decides); what a layout must hold is in
`container`, `neuron_container` and `trtllm_container`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmi_artifacts import container, neuron_container
from lmi_artifacts.decisions import Decision, decide
from lmi_artifacts.foreign import MOST_RANKS, read_object
from lmi_artifacts.images import Image
from lmi_artifacts.releases import Release, known, releases
from lmi_artifacts.trtllm_container import recognised

TRTLLM: Final = {"trtllm-flat": "flat", "trtllm-triton": "triton", "trtllm-engine": "engine"}
DJL: Final = frozenset({container.CONTRACT, "neuron-lmi", "trtllm-flat", "trtllm-triton"})
# Handlers of the image that a contract is made for; none: files of the tree.
_HANDLERS: Final[Mapping[str, tuple[str, ...]]] = {
    "neuron-lmi": ("djl_python.transformers_neuronx",),
    "trtllm-flat": ("djl_python.lmi_trtllm.trtllm_async_service",),
    "trtllm-triton": ("djl_python.tensorrt_llm",),
}
# Gone with the toolkit that read them: the 0.33 handler passes them on to nobody.
_IGNORED_SINCE_33: Final = ("quantize", "smoothquant", "multi_query_mode", "rotary_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A tree and who serves it.

    Attributes:
        tree: the served tree.
        contract: its container contract.
        image: that serves it; None for a contract that no djl-inference image serves.
        accelerators: GPUs or Neuron cores of the host.
        found: the properties as Java reads them.
    """

    tree: Path
    contract: str
    image: Image | None
    accelerators: int
    found: Mapping[str, str]

    @property
    def release(self) -> Release | None:
        """What the image's release accepts, or None."""
        return None if self.image is None else releases()[self.image.minor]

    @property
    def decision(self) -> Decision | None:
        """What the container would decide, or None."""
        if self.image is None or self.contract not in DJL:
            return None
        return decide(self.tree, self.found, self.image, self.accelerators)


def rules_of(contract: str) -> dict[str, Callable[[Served], Iterator[str]]]:
    """The rules of a contract, by name."""
    found: dict[str, Callable[[Served], Iterator[str]]] = {}
    if contract == container.CONTRACT:
        found |= {name: _of_tree(rule) for name, rule in container.RULES.items()}
    elif contract in TRTLLM:
        found |= {"trtllm-engines": _engines, "file-names": _of_tree(container.name_problems)}
    else:
        found[contract] = _neuron
    if contract in DJL:
        found["properties-readers"] = _of_tree(container.reader_problems)
        found["requirements"] = _of_tree(container.requirement_problems)
        found |= RULES
    return found


def _of_tree(rule: Callable[[Path], Iterator[str]]) -> Callable[[Served], Iterator[str]]:
    return lambda served: rule(served.tree)


def _neuron(served: Served) -> Iterator[str]:
    yield from neuron_container.recognise(served.contract, served.tree)


def _engines(served: Served) -> Iterator[str]:
    """Engines that are recognised, one for each rank, and of the degrees that are asked for."""
    layout = TRTLLM[served.contract]
    yield from recognised(served.tree, layout)
    folder = served.tree
    if layout == "triton":
        folder = next((path.parent / "1" for path in folder.glob("*/config.pbtxt")), folder)
    try:
        mapping = read_object(folder / "config.json")["pretrained_config"]["mapping"]
        world, tensor = int(mapping["world_size"]), int(mapping["tp_size"])
    except (ValueError, KeyError, TypeError, OverflowError):
        yield "config.json: does not say pretrained_config.mapping.world_size and tp_size"
        return
    if not 0 < world <= MOST_RANKS:
        yield f"config.json: world_size is {world}; no deployment has so many ranks"
        return
    for rank in range(world):
        path = folder / f"rank{rank}.engine"
        if not path.is_file() or not path.stat().st_size:
            yield f"rank{rank}.engine: is missing or empty; the engines are for {world} ranks"
    degree = served.found.get("option.tensor_parallel_degree")
    if degree is not None and degree != str(tensor):
        yield f"option.tensor_parallel_degree is {degree}; the engines were built for {tensor}"


def _engine(served: Served) -> Iterator[str]:
    engine = served.found.get("engine")
    if engine not in {"Python", "MPI"}:
        yield f"engine is {engine}; without Python or MPI the files decide"


def _image(served: Served) -> Iterator[str]:
    image, minor = served.image, 0 if served.image is None else served.image.minor
    if image is None:
        return
    wanted = {"neuron-lmi": "neuronx", "trtllm-flat": "tensorrtllm", "trtllm-triton": "tensorrtllm"}
    flavour = wanted.get(served.contract)
    if flavour is not None and image.flavour != flavour:
        yield f"{image.tag} is no {flavour} image; the handler is not in it"
    layout = TRTLLM.get(served.contract)
    if layout is not None and releases()[minor].engines != layout:
        yield f"{image.tag} reads engines as {releases()[minor].engines}, this tree is {layout}"


def _rolling_batch(served: Served) -> Iterator[str]:
    release, value = served.release, served.found.get("option.rolling_batch")
    if release is None or value is None:
        return
    if value not in release.rolling_batch:
        there = ", ".join(release.rolling_batch)
        yield f"option.rolling_batch={value} is unknown to 0.{release.minor}; it knows {there}"
    elif value == "trtllm" and release.trtllm_rolling_batch is None:
        yield (
            f"option.rolling_batch=trtllm is dead in 0.{release.minor}: its module imports a "
            "package that the image lacks; use disable and option.async_mode=true"
        )
    elif served.contract in TRTLLM and value not in (release.trtllm_rolling_batch or (value,)):
        there = ", ".join(release.trtllm_rolling_batch or ())
        yield f"option.rolling_batch={value}: the handler of 0.{release.minor} accepts {there}"


def _exclusive(served: Served) -> Iterator[str]:
    rolling = served.found.get("option.rolling_batch", "auto")
    if served.found.get("option.async_mode") == "true" and rolling != "disable":
        yield f"option.async_mode=true excludes option.rolling_batch={rolling}; it must be disable"
    batch = served.found.get("batch_size", "1")
    if batch.isdigit() and int(batch) > 1 and rolling != "disable":
        yield f"batch_size={batch} makes DJL disable the rolling batch {rolling}"


def _booleans(served: Served) -> Iterator[str]:
    for name in sorted(known("booleans")):
        value = served.found.get(f"option.{name}")
        if value not in {None, "true", "false"}:
            yield f"option.{name}={value!r}: Java takes every word but true for false"


def _integers(served: Served) -> Iterator[str]:
    for key in sorted(known("integers")):
        value = served.found.get(key)
        everything = key == "option.tensor_parallel_degree" and value == "max"
        if value is not None and not value.isdigit() and not everything:
            yield f"{key}={value!r} is no whole number; DJL fails, or takes its default silently"


def _server_keys(served: Served) -> Iterator[str]:
    for key in sorted(served.found):
        if not key.startswith("option.") and key not in known("server_keys"):
            yield f"{key}: no key of the server; it is passed on and ignored"


def _option_keys(served: Served) -> Iterator[str]:
    """Keys that a handler of the image drops silently."""
    release, decision = served.release, served.decision
    if release is None or decision is None:
        return
    names = sorted(key[7:] for key in served.found if key.startswith("option."))
    if decision.entry_point == "djl_python.lmi_trtllm.trtllm_async_service":
        for name in names:
            if name.startswith(_IGNORED_SINCE_33):
                yield f"option.{name} is ignored since 0.33; quantise before building the engines"
        return
    closed = {
        "djl_python.transformers_neuronx": release.neuron_keys,
        "djl_python.huggingface": release.huggingface_keys,
    }.get(decision.entry_point)
    if closed is None:
        return
    for name in names:
        if name not in closed | known("java_options"):
            yield f"option.{name}: {decision.entry_point} of 0.{release.minor} ignores it"


def _option_values(served: Served) -> Iterator[str]:
    release, decision = served.release, served.decision
    if release is None or decision is None:
        return
    formatter = served.found.get("option.output_formatter")
    in_tree = (served.tree / decision.entry_point).is_file()
    if formatter not in {None, "json", "jsonlines", "sse"} and not in_tree:
        yield f"option.output_formatter={formatter} is none of json, jsonlines, sse"
    if decision.entry_point == "djl_python.transformers_neuronx":
        for name, allowed in sorted(release.neuron_values.items()):
            value = served.found.get(f"option.{name}")
            if value is not None and value not in allowed:
                yield f"option.{name}={value}: 0.{release.minor} accepts {', '.join(allowed)}"


def _by_itself(served: Served) -> Iterator[str]:
    """What nobody wrote and the container would choose; its own handler is what it is for."""
    decision = served.decision
    for key, value in sorted((decision.by_itself if decision else {}).items()):
        if key == "option.entryPoint" and value in _HANDLERS.get(served.contract, ()):
            continue
        if key == "engine":
            continue  # the rule `engine` says so
        yield f"{key} is not written down; this container would take {value}"


def _handler(served: Served) -> Iterator[str]:
    decision = served.decision
    wanted = _HANDLERS.get(served.contract)
    if decision is None or wanted is None:
        return
    if decision.entry_point not in wanted:
        yield f"option.entryPoint={decision.entry_point}: these files are for {' or '.join(wanted)}"
    elif decision.entry_point.endswith("async_service") and not decision.async_mode:
        yield f"{decision.entry_point} is awaited; option.async_mode must be true"


def _jit(served: Served) -> Iterator[str]:
    decision = served.decision
    if decision is not None and decision.compiles is not None:
        yield decision.compiles


def _downloads(served: Served) -> Iterator[str]:
    for key in ("option.model_id", "option.speculative_draft_model", "option.draft_model_id"):
        value = served.found.get(key)
        if value is not None and not value.startswith("/"):
            yield f"{key}={value} is fetched when the endpoint starts; put the files into the tree"
    entry = served.found.get("option.entryPoint", "")
    if entry.lower().startswith("http"):
        yield f"option.entryPoint={entry} is code that is fetched when the endpoint starts"
    if served.found.get("option.enable_venv") == "true":
        yield "option.enable_venv=true makes an environment when the endpoint starts"


def _pipeline(served: Served) -> Iterator[str]:
    degree = served.found.get("option.pipeline_parallel_degree", "1")
    size = served.found.get("option.pipeline_parallel_size", "1")
    if served.contract == "trtllm-flat" and degree != size:
        yield f"option.pipeline_parallel_degree={degree}, but the handler reads ..._size={size}"


RULES: Final[Mapping[str, Callable[[Served], Iterator[str]]]] = {
    "engine": _engine,
    "image": _image,
    "rolling-batch": _rolling_batch,
    "exclusive": _exclusive,
    "booleans": _booleans,
    "integers": _integers,
    "server-keys": _server_keys,
    "option-keys": _option_keys,
    "option-values": _option_values,
    "decides-by-itself": _by_itself,
    "handler": _handler,
    "jit": _jit,
    "downloads": _downloads,
    "pipeline": _pipeline,
}
