"""What a container would decide by itself about a tree: the reader of djl-serving, replayed.

The order is ModelInfo's: the file is read, LmiUtils.configureLmiModel and LmiConfigRecommender
complete it where a model's configuration is found, LmiUtils.convertTrtLLM builds engines where
none are recognised, and PyModel picks an entry point. Which release does what is in the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmi_artifacts.foreign import read_object
from lmi_artifacts.images import Image
from lmi_artifacts.releases import Release, releases
from lmi_artifacts.trtllm_container import recognised

CONFIGURATIONS: Final = ("config.json", "adapter_config.json", "model_index.json", "params.json")
_GENERATORS: Final = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_OTHER_ENGINES: Final = ("OnnxRuntime", "Rust")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How the container would serve a tree.

    Attributes:
        engine: DJL's engine; `?` where the files would decide.
        entry_point: what it would run.
        rolling_batch: its batcher.
        async_mode: whether the handler is awaited.
        tensor_parallel_degree: accelerators of one worker; None where the handler's default holds.
        compiles: why it would compile or convert at its start, or None.
        by_itself: the properties among these that nobody wrote, with what it takes.
    """

    engine: str
    entry_point: str
    rolling_batch: str
    async_mode: bool
    tensor_parallel_degree: int | None
    compiles: str | None
    by_itself: Mapping[str, str]

    def to_json(self) -> dict[str, str | int | bool | dict[str, str] | None]:
        """Give the decision as a JSON object."""
        return {
            "engine": self.engine,
            "entry_point": self.entry_point,
            "rolling_batch": self.rolling_batch,
            "async_mode": self.async_mode,
            "tensor_parallel_degree": self.tensor_parallel_degree,
            "compiles": self.compiles,
            "by_itself": dict(self.by_itself),
        }


def decide(tree: Path, found: Mapping[str, str], image: Image, accelerators: int) -> Decision:
    """Replay the container's decisions.

    Args:
        tree: the served tree.
        found: its properties as Java reads them.
        image: that serves it.
        accelerators: GPUs or Neuron cores of its host.
    """
    release = releases()[image.minor]
    by_itself: dict[str, str] = {}
    rolling, asynchronous = _batching(tree, found, image, release, by_itself)
    entry = found.get("option.entryPoint")
    if entry is None:
        entry = _entry_point(tree, found, image, release, asynchronous=asynchronous)
        by_itself["option.entryPoint"] = entry
        if release.forces_async and set(image.features) & {"vllm", "trtllm"}:
            asynchronous = True
            by_itself["option.async_mode"] = "true"
    degree = _degree(tree, found, accelerators, by_itself)
    if "engine" not in found:
        by_itself["engine"] = "whatever the files suggest"
    return Decision(
        engine=found.get("engine", "?"),
        entry_point=entry,
        rolling_batch=rolling,
        async_mode=asynchronous,
        tensor_parallel_degree=degree,
        compiles=_compiles(tree, found, image, release),
        by_itself=by_itself,
    )


def configuration(tree: Path) -> Path | None:
    """The file by which DJL knows a Hugging Face model, or None."""
    return next((tree / name for name in CONFIGURATIONS if (tree / name).is_file()), None)


def _batching(
    tree: Path, found: Mapping[str, str], image: Image, release: Release, by_itself: dict[str, str]
) -> tuple[str, bool]:
    """LmiConfigRecommender.setRollingBatch; it runs only where a configuration is found."""
    written = found.get("option.rolling_batch")
    asynchronous = found.get("option.async_mode", "false").lower() == "true"
    if written not in {None, "auto"} or configuration(tree) is None:
        return written or "auto", asynchronous
    if not _generates(tree):
        chosen = "disable"
    elif release.recommender == "async_mode":
        chosen = "disable"
        if set(image.features) & {"vllm", "trtllm"}:
            asynchronous = True
            by_itself["option.async_mode"] = "true"
    else:
        order = ("tnx", "lmi-dist", "vllm", "trtllm")
        chosen = next((name for name in order if name in image.features), "scheduler")
    by_itself["option.rolling_batch"] = chosen
    return chosen, asynchronous


def _generates(tree: Path) -> bool:
    path = configuration(tree)
    names = read_object(path).get("architectures") if path is not None else None
    listed = names if isinstance(names, list) else []
    return any(str(name).endswith(_GENERATORS) for name in listed)


def _entry_point(
    tree: Path, found: Mapping[str, str], image: Image, release: Release, *, asynchronous: bool
) -> str:
    if (tree / "model.py").is_file():
        return "model.py"
    if image.flavour == "neuronx" and found.get("option.tensor_parallel_degree", "0") != "0":
        return "djl_python.transformers_neuronx"
    for feature in ("trtllm", "vllm"):
        if image.features == (feature,):
            chosen = release.recommended[feature]
            plain = feature == "vllm" and release.recommender == "async_mode" and not asynchronous
            return "djl_python.huggingface" if plain else chosen
    return "djl_python.huggingface"


def _degree(
    tree: Path, found: Mapping[str, str], accelerators: int, by_itself: dict[str, str]
) -> int | None:
    """LmiConfigRecommender.setTensorParallelDegree: unset or `max` is every accelerator."""
    written = found.get("option.tensor_parallel_degree")
    pipeline = found.get("option.pipeline_parallel_degree", "1")
    everything = accelerators // (int(pipeline) if pipeline.isdigit() and int(pipeline) else 1)
    if written is not None and written != "max":
        return int(written) if written.isdigit() else None
    if written is None and configuration(tree) is None:
        return None
    if not accelerators:
        return None
    by_itself["option.tensor_parallel_degree"] = str(everything)
    return everything


def _compiles(tree: Path, found: Mapping[str, str], image: Image, release: Release) -> str | None:
    """LmiUtils.needConvertTrtLLM and isValidTrtLlmModelRepo; needConvertOnnx and -Rust."""
    engine = found.get("engine")
    if engine in _OTHER_ENGINES:
        return f"the engine {engine} converts what is not in its own form"
    if "trtllm" not in image.features and found.get("option.rolling_batch") != "trtllm":
        return None
    if release.converts_by == "features":
        converts = "trtllm" in image.features and found.get("option.backend") != "pytorch"
    else:
        converts = found.get("option.rolling_batch", "auto") in {"auto", "trtllm"}
    if not converts:
        return None
    why = recognised(tree, release.engines)
    return f"{image.tag} builds engines at its start: {'; '.join(why)}" if why else None
