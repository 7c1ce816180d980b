"""The tables of `data/`, read into values: instances, cores, degrees, and what a route allows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

_DATA = Path(__file__).parent / "data"

RouteName = Literal["nxdi", "optimum", "partition", "trace", "trace-inf1", "vllm"]
ROUTES: tuple[RouteName, ...] = get_args(RouteName)
DECODER_ROUTES: tuple[RouteName, ...] = ("nxdi", "optimum", "partition", "vllm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instance type with its accelerators.

    Attributes:
        name: as EC2 spells it, without `ml.`.
        target: the compiler's target.
        cores: NeuronCores; on Trn2 logical ones, at the compiler's default LNC.
        bytes_per_core: device memory of one of them.
        host_bytes: memory of the host, where its source gives one.
        lnc: physical cores in one logical core.
    """

    name: str
    target: str
    cores: int
    bytes_per_core: int
    host_bytes: int | None
    lnc: int


@cache
def _table(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((_DATA / f"{name}.json").read_bytes())
    return loaded


@cache
def instances() -> Mapping[str, Instance]:
    """Every Neuron instance type that has a source, by its EC2 name."""
    table = _table("hardware")
    return {
        name: Instance(
            name=name,
            target=entry["target"],
            cores=entry["cores"],
            bytes_per_core=table["chips"][entry["chip"]]["bytes_per_core"],
            host_bytes=entry["host_bytes"],
            lnc=table["lnc"].get(entry["target"], 1),
        )
        for name, entry in table["instances"].items()
    }


def degrees(instance: Instance) -> tuple[int, ...]:
    """The tensor-parallel degrees of an instance: its family's, as far as its cores go."""
    family: list[int] = _table("hardware")["degrees"].get(instance.target, [1])
    return tuple(degree for degree in family if degree <= instance.cores)


def family_degrees(target: str) -> tuple[int, ...]:
    """The tensor-parallel degrees that a family's topology carries."""
    return tuple(_table("hardware")["degrees"].get(target, [1]))


def allowed(table: str, route: RouteName) -> tuple[str, ...]:
    """What a route allows, from the table `methods`, `kv_cache` or `dtypes`."""
    return tuple(_table("rules")[table][route])


def quantization_refusal(method: str) -> str:
    """Why a quantisation method is not to be had, and what is."""
    words = _table("rules")["quantization"]
    why = words["why"].get(method, f'quantization "{method}" is not what this toolchain does')
    return f"{why}; {words['instead']}"


def nxdi_model_type(model_type: str) -> str:
    """The `--model-type` of inference_demo 0.8 for a config's model_type."""
    return str(_table("rules")["nxdi_model_type"].get(model_type, model_type))


def core_reserve() -> int:
    """Bytes of a core's memory that are left to code, scratch and activations."""
    return int(_table("rules")["core_reserve_bytes"])


def host_reserve() -> int:
    """Bytes of a host's memory that are left to everything else."""
    return int(_table("rules")["host"]["reserve_bytes"])


def tolerances(route: str) -> dict[str, Any]:
    """The verification limits of a route, with their source."""
    found: dict[str, Any] = _table("tolerances")["sets"][route]
    return found
