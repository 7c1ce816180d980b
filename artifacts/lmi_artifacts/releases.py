"""What each release of DJL Serving accepts and decides: `lmi_releases.json`, with its sources."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

_TABLE: Final = Path(__file__).with_name("lmi_releases.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One minor release; the fields are explained in the table's `about`."""

    minor: int
    source: str
    rolling_batch: tuple[str, ...]
    converts_by: Literal["rolling_batch", "features"]
    engines: Literal["flat", "triton"]
    trtllm_rolling_batch: tuple[str, ...] | None
    recommender: Literal["rolling_batch", "async_mode"]
    recommended: Mapping[str, str]
    forces_async: bool
    neuron_keys: frozenset[str] | None
    neuron_values: Mapping[str, tuple[str, ...]]
    huggingface_keys: frozenset[str]


@functools.cache
def _table() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(_TABLE.read_text("utf-8"))
    return loaded


@functools.cache
def releases() -> Mapping[int, Release]:
    """Every release that is known, by its second number: 26 for 0.26."""
    return {int(minor): _release(int(minor), row) for minor, row in _table()["releases"].items()}


def known(name: str) -> frozenset[str]:
    """One of the table's lists: `server_keys`, `java_options`, `booleans` or `integers`."""
    return frozenset(_table()[name])


def _release(minor: int, row: Mapping[str, Any]) -> Release:
    neuron = row["neuron"] or {"keys": None, "values": {}}
    accepted = row["trtllm_rolling_batch"]
    return Release(
        minor=minor,
        source=f"djl-serving {row['branch']} ({row['commit']})",
        rolling_batch=tuple(row["rolling_batch"]),
        converts_by=row["converts_by"],
        engines=row["engines"],
        trtllm_rolling_batch=None if accepted is None else tuple(accepted),
        recommender=row["recommender"],
        recommended=row["recommended"],
        forces_async=row["forces_async"],
        neuron_keys=None if neuron["keys"] is None else frozenset(neuron["keys"]),
        neuron_values={key: tuple(values) for key, values in neuron["values"].items()},
        huggingface_keys=frozenset(row["huggingface"]),
    )
