"""What this backend knows about GPUs, families and quantisations. Light; data in `data/`."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """The GPUs of an instance type.

    Attributes:
        name: such as A10G.
        count: how many.
        memory_mib: of each.
        sm: CUDA architecture, 86 for sm_86.
        host_memory_mib: of the instance.
    """

    name: str
    count: int
    memory_mib: int
    sm: int
    host_memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What TensorRT-LLM can do with a model type.

    Attributes:
        model_type: config.json's word.
        scripts: folder of the conversion script in TensorRT-LLM's tree, by generation.
        quantizations: methods that it has.
        plugin_smoothquant: its conversion script has --smoothquant.
        moe: it has experts.
        variant: the gpt script's --gpt_variant, or None.
        version_flag: the flag that names the model's version, or None.
        hyphens: its script has flags of its own, with hyphens.
        encoder_decoder: it makes two engines.
        calibration_size: its script has --calib_size and --calib_max_seq_length since 0.15.
        trt_architecture: TensorRT-LLM's own word, where it is known.
        source: how this is known.
    """

    model_type: str
    scripts: dict[str, str]
    quantizations: tuple[str, ...]
    plugin_smoothquant: bool
    source: str
    moe: bool = False
    variant: str | None = None
    version_flag: str | None = None
    hyphens: bool = False
    encoder_decoder: bool = False
    calibration_size: bool = False
    trt_architecture: str | None = None


@cache
def _read(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((_DATA / f"{name}.json").read_bytes())
    return loaded


@cache
def gpu_instances() -> dict[str, Gpus]:
    """The GPUs by instance type."""
    return {
        name: Gpus(
            name=entry["gpu"],
            count=entry["count"],
            memory_mib=entry["memory_mib"],
            sm=entry["sm"],
            host_memory_mib=entry["host_memory_mib"],
        )
        for name, entry in _read("gpus")["instances"].items()
    }


@cache
def families() -> dict[str, Family]:
    """The families by model type."""
    return {
        name: Family(
            model_type=name,
            **{**entry, "quantizations": tuple(entry["quantizations"])},
        )
        for name, entry in _read("families")["families"].items()
    }


def least_sm(method: str) -> int:
    """The oldest CUDA architecture that has a quantisation method."""
    return int(_read("families")["quantizations"][method]["least_sm"])


def failures() -> list[dict[str, str]]:
    """Texts of the real tools and what they mean."""
    listed: list[dict[str, str]] = _read("failures")["failures"]
    return listed
