"""Figures from times: percentiles with their confidence, the knee, the cost, comparisons."""

import random
from typing import Any

import pytest

from lmi_compile.bench.compare import compare, judged
from lmi_compile.bench.figures import Figure, knee, level_figures, mean, percentile


def raw(concurrency: int, seconds: float, latency: float, **changes: Any) -> dict[str, Any]:
    """A level where every one of `concurrency` clients waits `latency` for ten tokens."""
    count = int(concurrency * seconds / latency)
    requests = [[n * latency / concurrency, latency / 10, latency, 10] for n in range(count)]
    fields: dict[str, Any] = {
        "concurrency": concurrency,
        "seconds": seconds,
        "requests": requests,
        "gaps": [latency / 10] * (9 * count),
        "gaps_seen": 9 * count,
        "batches": [count, count] * 5,
        "errors": {},
        "generator": {"cpu_share": 0.1, "late_p50": 0.0, "late_p99": 0.001},
    }
    return {**fields, **changes}


def test_a_percentiles_interval_holds_the_truth_nineteen_times_of_twenty() -> None:
    source = random.Random(3)
    held = 0
    for _ in range(400):
        found = percentile([source.random() for _ in range(200)], 90)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.9 <= found.high
    assert 0.92 <= held / 400 <= 0.99


def test_too_little_has_no_interval() -> None:
    found = percentile([1.0, 2.0, 3.0], 99)
    assert found == Figure(value=3.0, low=3.0, high=None)
    assert percentile([1.0], 50) == Figure(value=1.0)
    assert percentile([], 50) is None
    assert mean([]) is None
    assert mean([2.0]) == Figure(value=2.0)


def test_a_mean_has_students_interval() -> None:
    found = mean([1.0, 2.0, 3.0])
    assert found is not None
    assert found.value == 2.0
    assert found.high == pytest.approx(2 + 4.303 / 3**0.5)


def test_a_levels_figures() -> None:
    found = level_figures(raw(4, 10.0, 0.5), price=3.6)
    assert found["tokens_per_second"]["value"] == 80.0
    assert found["requests_per_second"] == 8.0
    assert found["time_to_first_token"]["p50"]["value"] == 0.05
    assert found["latency_per_token"]["mean"]["value"] == pytest.approx(0.05)
    assert found["cost_per_million_tokens"] == pytest.approx(3.6 / 3600 / 80 * 1e6)
    assert found["error_rate"] == 0.0
    assert not found["generator"]["saturated"]


def test_errors_are_a_share_of_what_was_asked() -> None:
    found = level_figures(raw(1, 10.0, 1.0, errors={"HTTP 503": 5, "HTTP 424": 5}), price=None)
    assert found["error_rate"] == 0.5
    assert found["cost_per_million_tokens"] is None
    nothing = level_figures(
        raw(1, 10.0, 1.0, requests=[], gaps=[], batches=[0] * 10, errors={"X": 1}), price=1.0
    )
    assert nothing["error_rate"] == 1.0
    assert nothing["latency"]["p50"] is None
    assert nothing["cost_per_million_tokens"] is None
    assert knee([nothing]) is None


@pytest.mark.parametrize("generator", [{"cpu_share": 0.9}, {"late_p99": 0.2}])
def test_a_busy_generator_says_so(generator: dict[str, float]) -> None:
    made = raw(1, 10.0, 1.0)
    made["generator"] |= generator
    assert level_figures(made, None)["generator"]["saturated"]


def test_the_knee_has_the_most_power() -> None:
    latencies = {1: 1.0, 2: 1.0, 4: 1.05, 8: 1.9, 16: 3.8}
    levels = [level_figures(raw(at, 60.0, wait), None) for at, wait in latencies.items()]
    assert knee(levels) == 4


def _report(seconds: float, latency: float, spread: float) -> dict[str, Any]:
    level = level_figures(raw(1, seconds, latency), None)
    value = level["tokens_per_second"]["value"]
    level["tokens_per_second"] |= {"low": value - spread, "high": value + spread}
    return {"asked": {"seconds": seconds, "input_tokens": 1, "output_tokens": 1}, "levels": [level]}


def test_a_slower_run_is_worse_and_a_faster_one_better() -> None:
    before = _report(60.0, 1.0, 0.1)
    assert compare(before, _report(60.0, 2.0, 0.1))["change"] == "worse"
    assert compare(before, _report(60.0, 0.5, 0.1))["change"] == "better"
    same = compare(before, _report(60.0, 1.0, 0.1))
    assert same["change"] == "within noise"
    assert {row["change"] for row in same["rows"]} == {"within noise"}
    assert same["notes"] == []


def test_runs_of_other_questions_are_said_to_be() -> None:
    one, other = _report(60.0, 1.0, 0.1), _report(30.0, 1.0, 0.1)
    other["levels"][0]["concurrency"] = 2
    assert compare(one, other)["notes"] == [
        "seconds differs: 60.0 and 30.0",
        "they have no concurrency in common",
    ]


@pytest.mark.parametrize(
    ("before", "after", "more", "change"),
    [
        ((100, 99, 101), (110, 109, 111), True, "better"),
        ((100, 99, 101), (110, 109, 111), False, "worse"),
        ((100, 90, 110), (110, 105, 115), True, "within noise"),
        ((100, 99.9, 100.1), (101, 100.9, 101.1), True, "within noise"),
        ((100, None, None), (200, 199, 201), True, "within noise"),
    ],
)
def test_a_change_is_certain_and_large_enough(
    before: tuple[float, float | None, float | None],
    after: tuple[float, float | None, float | None],
    change: str,
    *,
    more: bool,
) -> None:
    one, two = (Figure(value=v, low=low, high=high) for v, low, high in (before, after))
    assert judged(one, two, more_is_better=more) == change
