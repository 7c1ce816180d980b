"""From raw times to figures with their confidence; pure, standard library only.

Percentiles carry a distribution-free 95 % interval between two order statistics (Hahn and Meeker,
Statistical Intervals, 5.2); means carry Student's interval over ten batches of the window. The
knee is Kleinrock's: the concurrency with the most power, throughput over latency.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

PERCENTILES: Final = (50, 90, 95, 99)
# Student's t, two-sided 95 %, by degrees of freedom 1 to 30.
_STUDENT: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_NORMAL: Final = 1.96
_SATURATED_SHARE, _SATURATED_LATE = 0.8, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A value and the 95 % interval it is known to lie in; None where too little was seen."""

    value: float
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """Give the figure as a JSON object."""
        return {"value": self.value, "low": self.low, "high": self.high}

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> "Figure":
        """Read `to_json` back."""
        return cls(value=value["value"], low=value["low"], high=value["high"])

    def scaled(self, by: float) -> "Figure":
        """The figure in another unit."""
        low = None if self.low is None else self.low * by
        high = None if self.high is None else self.high * by
        return Figure(value=self.value * by, low=low, high=high)


def percentile(values: Sequence[float], percent: float) -> Figure | None:
    """A percentile with its interval; None of nothing."""
    if not values:
        return None
    ordered, count, share = sorted(values), len(values), percent / 100
    value = ordered[min(count - 1, math.floor(share * count))]
    spread = _NORMAL * math.sqrt(count * share * (1 - share))
    below, above = math.floor(count * share - spread), math.ceil(count * share + spread)
    low = ordered[below] if below >= 0 else None
    high = ordered[above] if above < count else None
    return Figure(value=value, low=low, high=high)


def mean(values: Sequence[float]) -> Figure | None:
    """A mean with Student's interval; None of nothing."""
    if not values:
        return None
    middle = statistics.fmean(values)
    if len(values) < 2:  # noqa: PLR2004 - one value has no spread
        return Figure(value=middle)
    freedom = len(values) - 1
    student = _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else _NORMAL
    half = student * statistics.stdev(values) / math.sqrt(len(values))
    return Figure(value=middle, low=middle - half, high=middle + half)


def level_figures(raw: Mapping[str, Any], price: float | None) -> dict[str, Any]:
    """The figures of one level.

    Args:
        raw: what the load generator wrote.
        price: of the whole endpoint for an hour, or None.

    Returns:
        Seconds, tokens and shares; each timed figure with its interval.
    """
    requests, seconds = raw["requests"], float(raw["seconds"])
    errors = sum(raw["errors"].values())
    asked = len(requests) + errors
    tokens = mean([count / (seconds / len(raw["batches"])) for count in raw["batches"]])
    per_token = [last / count for _, _, last, count in requests]
    times = {
        "time_to_first_token": [first for _, first, _, _ in requests],
        "inter_token": raw["gaps"],
        "latency_per_token": per_token,
        "latency": [last for _, _, last, _ in requests],
    }
    generator = raw["generator"]
    busy = generator["cpu_share"] > _SATURATED_SHARE or generator["late_p99"] > _SATURATED_LATE
    throughput = tokens.value if tokens else 0.0
    return {
        "concurrency": raw["concurrency"],
        "seconds": seconds,
        "requests": len(requests),
        "tokens_per_second": _json(tokens),
        "requests_per_second": len(requests) / seconds,
        "output_tokens": statistics.fmean(r[3] for r in requests) if requests else 0.0,
        **{
            name: {
                "mean": _json(mean(values)),
                **{f"p{at}": _json(percentile(values, at)) for at in PERCENTILES},
            }
            for name, values in times.items()
        },
        "error_rate": errors / asked if asked else 0.0,
        "errors": dict(raw["errors"]),
        "cost_per_million_tokens": _cost(price, throughput),
        "generator": {**generator, "saturated": busy},
    }


def knee(levels: Sequence[Mapping[str, Any]]) -> int | None:
    """The concurrency with the most throughput per second of latency; None without answers."""
    powers = {
        int(level["concurrency"]): level["tokens_per_second"]["value"]
        / level["latency"]["mean"]["value"]
        for level in levels
        if level["latency"]["mean"] and level["tokens_per_second"]
    }
    return max(powers, key=lambda at: powers[at]) if powers else None


def _cost(price: float | None, tokens_per_second: float) -> float | None:
    if price is None or not tokens_per_second:
        return None
    return price / 3600 / tokens_per_second * 1e6


def _json(figure: Figure | None) -> dict[str, float | None] | None:
    return None if figure is None else figure.to_json()
