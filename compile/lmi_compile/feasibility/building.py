"""What the build itself takes: download, checkpoint, artifact, host memory, disk."""

from dataclasses import replace

from lmi_artifacts.digest import JSONValue
from lmi_compile.feasibility.memory import checkpoint_bytes, memory_of
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.tables import DTYPE_BYTES

# Measured on SmolLM2-135M's aoti package (30 layers, vocabulary of 49,152) on 2026-11-22: the two
# libraries have 2.23 MB, tokenizer.json 3.52 MB, the loader and the rest 0.13 MB.
_LIBRARY_BYTES_PER_LAYER = 74_000
_TOKENIZER_BYTES_PER_TOKEN = 72
_LOADER_BYTES = 130_000
# The same package on the same day: Python with torch 2.13 CPU and tokenizers imported, and what
# the tokenizer takes in memory for each byte of its file.
_AOTI_PROCESS_BYTES = 234_000_000
_TOKENIZER_SWELL = 12
# A TensorRT-LLM build holds a rank's network and its serialised engine at once. An assumption.
_BUILD_COPIES = 2
_CALIBRATED = frozenset({"smoothquant", "fp8", "awq", "gptq"})


def artifact_bytes(question: Question) -> int:
    """The served tree: weights, compiled graphs, tokenizer."""
    tokenizer = question.shape.vocabulary * _TOKENIZER_BYTES_PER_TOKEN
    weights = checkpoint_bytes(question)
    if question.backend != "aoti":
        return weights + tokenizer
    return weights + tokenizer + _LOADER_BYTES + question.shape.layers * _LIBRARY_BYTES_PER_LAYER


def load_bytes(question: Question) -> int | None:
    """Peak memory of the process that serves an aoti package; None for other backends.

    Interpreter and libraries, the weights, the cache, one prefill's activations, the tokenizer.
    """
    if question.backend != "aoti":
        return None
    memory = memory_of(question)
    tokenizer = question.shape.vocabulary * _TOKENIZER_BYTES_PER_TOKEN * _TOKENIZER_SWELL
    return _AOTI_PROCESS_BYTES + memory.total + tokenizer


def source_bytes(question: Question) -> int | None:
    """The model's own files, as they are downloaded; None for a form whose size is not known."""
    if question.model_bytes is None:
        return None
    return question.shape.parameters * question.model_bytes


def calibration_bytes(question: Question) -> int:
    """Memory of all devices together while ranges are measured; 0 where none are.

    The model is held whole in the recipe's dtype, and one sample's activations beside it.
    """
    if question.method not in _CALIBRATED:
        return 0
    one = replace(question, tensor_parallel=1, pipeline_parallel=1, method="none", batch=1)
    memory = memory_of(one)
    return memory.weights + memory.activations


def building_json(question: Question) -> dict[str, JSONValue]:
    """All of it, as `plan --json` shows it."""
    source, artifact = source_bytes(question), artifact_bytes(question)
    checkpoint = 0 if question.backend == "aoti" else checkpoint_bytes(question)
    plain = question.shape.parameters * DTYPE_BYTES[question.dtype]
    convert = (source or plain) + max(checkpoint, plain)
    rank = memory_of(question).weights * _BUILD_COPIES
    return {
        "download_bytes": source,
        "checkpoint_bytes": checkpoint,
        "artifact_bytes": artifact,
        "load_bytes": load_bytes(question),
        "calibration_bytes": calibration_bytes(question),
        "host_memory_bytes": max(convert, rank),
        "build_disk_bytes": (source or plain) + checkpoint + artifact,
        "package_disk_bytes": 2 * artifact,
    }


def building_warnings(question: Question) -> tuple[str, ...]:
    """Where the target itself would be too small to build on; another machine may do it."""
    instance = question.instance
    if instance is None:
        return ()
    found = []
    sizes = building_json(question)
    host, disk = sizes["host_memory_bytes"], sizes["build_disk_bytes"]
    if instance.memory_mib and isinstance(host, int) and host > instance.memory_mib << 20:
        found.append(f"converting takes about {gigabytes(host)} of host memory; {instance.name} "
                     f"has {gigabytes(instance.memory_mib << 20)}")  # fmt: skip
    local = (instance.local_storage_gb or 0) * 10**9
    if local and isinstance(disk, int) and disk > local:
        message = f"the build takes about {gigabytes(disk)} of disk; {instance.name} has "
        found.append(f"{message}{gigabytes(local)}")
    devices = (question.rank_bytes or 0) * instance.ranks
    calibration = calibration_bytes(question)
    if devices and calibration > devices:
        message = f"calibrating takes about {gigabytes(calibration)} on the devices; all of "
        found.append(f"{message}{instance.name}'s have {gigabytes(devices)}")
    return tuple(found)


def gigabytes(size: float) -> str:
    """Bytes as people read them, in powers of ten."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if abs(size) >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"
