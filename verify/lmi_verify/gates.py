"""Gates: the limits a candidate must keep, by dtype and quantisation method, each with its source.

Light: read while planning. The numbers live in `data/gates.json`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lmi_verify.errors import GateInvalid
from lmi_verify.jsonread import Reader
from lmi_verify.measurements import METRICS, Direction, Scope

_FILE = Path(__file__).parent / "data" / "gates.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One limit.

    Attributes:
        metric: A name of `METRICS`.
        limit: The last value that passes.
        direction: Which side of the limit passes.
        source: Where the number comes from.
        loosened: The recipe allows more than the default, or brought its own gate where there
            is no default for this dtype and method.
        own: The recipe asks for it.
        quality: It says how near the outputs must be; the others hold for every build, and
            alone they accept nothing.
    """

    metric: str
    limit: float
    direction: Direction
    source: str
    loosened: bool = False
    own: bool = False
    quality: bool = True


def gates_for(
    dtype: str, method: str, overrides: Mapping[str, object], scope: Scope = "logits"
) -> tuple[Gate, ...]:
    """The gates of a build, in the order of `METRICS`.

    Args:
        dtype: The build's: float32, float16, bfloat16.
        method: The quantisation method, `none` without; `smoothquant` means per-token
            activations, `smoothquant-static` per-tensor ones, `fp8-kv-fp8` adds an FP8 KV cache.
        overrides: Metric name to limit, from the recipe's `verify.gates`.
        scope: What is compared; an endpoint shows less than logits.

    Returns:
        The gates; empty when there is no default with a source and the recipe brings none.

    Raises:
        GateInvalid: An unknown metric, or a limit that is no finite number of 0 or more; all of
            them at once.
    """
    limits = _checked(overrides)
    content = Reader(json.loads(_FILE.read_bytes()), "gates")
    of_set = _set(content.get("sets" if scope == "logits" else scope), dtype, method)
    defaults = _read_gates(content.get("every"), quality=False) | of_set
    gates: list[Gate] = []
    for name, metric in METRICS.items():
        default = defaults.get(name)
        limit = limits.get(name)
        if limit is None:
            gates += [default] if default else []
            continue
        gates.append(
            Gate(
                metric=name,
                limit=limit,
                direction=metric.direction,
                source=_recipe_source(default),
                loosened=_is_looser(limit, default) if default else not of_set,
                own=True,
            )
        )
    return tuple(gates)


def _recipe_source(default: Gate | None) -> str:
    if default is None:
        return "the recipe (no default)"
    return f"the recipe, in place of {default.limit:g}"


def _is_looser(limit: float, default: Gate) -> bool:
    match default.direction:
        case "at_most":
            return limit > default.limit
        case "at_least":
            return limit < default.limit


def _set(sets: Reader, dtype: str, method: str) -> dict[str, Gate]:
    for entry in sets.items():
        dtypes = [item.text() for item in entry.get("dtypes").items()]
        methods = [item.text() for item in entry.get("methods").items()]
        if {dtype, "*"} & set(dtypes) and {method, "*"} & set(methods):
            return _read_gates(entry.get("gates"), quality=True)
    return {}


def _read_gates(listed: Reader, *, quality: bool) -> dict[str, Gate]:
    unknown = tuple(_unknown(name) for name in listed.entries() if name not in METRICS)
    if unknown:
        raise GateInvalid(unknown)
    return {
        name: Gate(
            metric=name,
            limit=entry.get("limit").number(),
            direction=METRICS[name].direction,
            source=entry.get("source").text(),
            quality=quality,
        )
        for name, entry in listed.entries().items()
    }


def _checked(overrides: Mapping[str, object]) -> dict[str, float]:
    limits: dict[str, float] = {}
    problems: list[str] = []
    for name, value in overrides.items():
        if name not in METRICS:
            problems.append(_unknown(name))
        elif isinstance(value, bool) or not isinstance(value, int | float):
            problems.append(f"{name}: a number is needed, not {value!r}")
        elif not math.isfinite(value) or value < 0:
            problems.append(f"{name}: a finite number of 0 or more is needed, not {value!r}")
        else:
            limits[name] = float(value)
    if problems:
        raise GateInvalid(tuple(problems))
    return limits


def _unknown(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistake pays for this import

    near = get_close_matches(name, METRICS, n=1, cutoff=0)
    return f"{name}: no such metric; the nearest is {near[0]}"
