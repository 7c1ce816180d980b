"""Two runs side by side: better, worse, or within noise; pure."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from lmi_compile.bench.figures import Figure

Change = Literal["better", "worse", "within noise"]
# What is compared: (name, path in a level, whether more is better, factor to the shown unit, unit).
METRICS: Final = (
    ("throughput", ("tokens_per_second",), True, 1.0, "tokens/s"),
    ("time to first token p50", ("time_to_first_token", "p50"), False, 1000.0, "ms"),
    ("time to first token p99", ("time_to_first_token", "p99"), False, 1000.0, "ms"),
    ("inter-token p50", ("inter_token", "p50"), False, 1000.0, "ms"),
    ("inter-token p99", ("inter_token", "p99"), False, 1000.0, "ms"),
    ("latency p50", ("latency", "p50"), False, 1000.0, "ms"),
    ("latency p99", ("latency", "p99"), False, 1000.0, "ms"),
)
# A difference that is certain and smaller than this matters to nobody.
_SMALLEST: Final = 0.02


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Compare two reports at the concurrencies that both have.

    Returns:
        `rows`, one for each concurrency and metric; `change`, the worst of them; `notes`, what
        makes the two runs hard to compare.
    """
    one, two = (
        {int(level["concurrency"]): level for level in report["levels"]}
        for report in (before, after)
    )
    rows = [row for at in sorted(one.keys() & two.keys()) for row in _rows(at, one[at], two[at])]
    found = {row["change"] for row in rows}
    change = next((word for word in ("worse", "better") if word in found), "within noise")
    keys = ("input_tokens", "output_tokens", "seconds")
    notes = [
        f"{key} differs: {before['asked'].get(key)} and {after['asked'].get(key)}"
        for key in keys
        if before["asked"].get(key) != after["asked"].get(key)
    ]
    notes += [
        f"at concurrency {at} the load generator itself was saturated"
        for at in sorted(one.keys() & two.keys())
        if one[at]["generator"]["saturated"] or two[at]["generator"]["saturated"]
    ]
    if not rows:
        notes.append("they have no concurrency in common")
    return {"change": change, "rows": rows, "notes": notes}


def _rows(at: int, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, path, more, factor, unit in METRICS:
        one, two = _find(before, path), _find(after, path)
        if one is None or two is None:
            continue
        rows.append(
            {
                "concurrency": at,
                "metric": name,
                "unit": unit,
                "before": one.scaled(factor).to_json(),
                "after": two.scaled(factor).to_json(),
                "ratio": two.value / one.value if one.value else None,
                "change": judged(one, two, more_is_better=more),
            }
        )
    return rows


def judged(before: Figure, after: Figure, *, more_is_better: bool) -> Change:
    """A change is one when the intervals do not meet and the values differ by 2 % or more."""
    if None in (before.low, before.high, after.low, after.high):
        return "within noise"
    apart = after.low > before.high or after.high < before.low  # type: ignore[operator]
    small = abs(after.value - before.value) < _SMALLEST * abs(before.value)
    if not apart or small:
        return "within noise"
    return "better" if (after.value > before.value) == more_is_better else "worse"


def _find(level: Mapping[str, Any], path: tuple[str, ...]) -> Figure | None:
    found: Any = level
    for name in path:
        found = found[name]
    return None if found is None else Figure.parse(found)
