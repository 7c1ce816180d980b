"""The published worked examples and measurements, held against the planner."""

import dataclasses
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lmi_compile.feasibility.memory import (
    kv_bytes,
    largest_batch,
    largest_batch_with_reserve,
    memory_of,
    weight_bytes,
)
from lmi_compile.feasibility.placement import (
    best,
    degrees_of,
    dollars_per_million,
    holds,
    placements,
)
from lmi_compile.feasibility.roofline import critical_batch, speeds_of
from lmi_compile.feasibility.throughput import FITTED, expected
from lmi_compile.preview import preview
from lmi_compile.survey import load

ROOT = Path(__file__).parents[3]
SWEEPS = ("llama2-7b", "llama2-13b")


def test_14_gb_of_weights_leave_10_gb_on_an_a10g_for_4_sequences_of_4096(
    tables: ModuleType,
) -> None:
    asked = tables.question("llama2-7b", "ml.g5.2xlarge", 1, 4096, 256)
    memory = memory_of(asked)
    assert memory.weights == 2 * 6_738_415_616
    assert memory.weights == pytest.approx(14e9, rel=0.04)  # the tables say "about"
    assert memory.capacity is not None
    assert int((memory.capacity - memory.weights) / 1e9) == 10
    assert memory.sequence == 4096 * 2 * 32 * 32 * 128 * 2
    assert largest_batch(memory) == 4


def test_the_catalogue_recipe_is_that_example(tmp_path: Path) -> None:
    found = preview(load("llama-2-7b-float16-tp1-g5.2xlarge"), tmp_path).to_json()
    assert found["fits"] is True
    assert found["max_batch_size_that_fits"] == 4
    assert found["max_batch_size_with_reserve"] == 3
    assert found["critical_batch_size"] == 116
    assert found["steps"] is None or isinstance(found["steps"], list)


@pytest.mark.parametrize(
    ("instance", "flops", "bandwidth", "batch"),
    [("ml.g5.2xlarge", 70, 600, 116), ("ml.p4d.24xlarge", 312, 1500, 208)],
)
def test_the_critical_batch_with_the_tables_own_figures(
    tables: ModuleType, instance: str, flops: float, bandwidth: float, batch: int
) -> None:
    asked = tables.worked(instance, flops, bandwidth)
    assert critical_batch(asked, speeds_of(asked)) == batch


@pytest.mark.parametrize(
    ("model", "degree", "replicas"), [("llama2-7b", 1, 8), ("llama2-13b", 2, 4)]
)
def test_the_best_way_to_share_a_p4d(
    tables: ModuleType, model: str, degree: int, replicas: int
) -> None:
    asked = tables.question(model, "ml.p4d.24xlarge", 1, 512, 256)
    chosen = best(placements(asked), for_latency=False)
    assert chosen is not None
    assert (chosen.degree, chosen.replicas) == (degree, replicas)


def test_a_single_replica_of_7b_is_faster_at_degree_4_than_at_8(tables: ModuleType) -> None:
    rates = {}
    for degree in (4, 8):
        asked = tables.question("llama2-7b", "ml.p4d.24xlarge", degree, 512, 256)
        found = expected(asked, 512)
        assert found is not None
        rates[degree] = found[0]
    assert rates[4] > rates[8]


def test_every_measured_throughput_is_below_the_ceiling(
    tables: ModuleType, error: ModuleType
) -> None:
    rows = list(tables.measured())
    assert len(rows) == 151
    above = [one for one in rows if one.rate > error.roof(one)]
    assert not above


@pytest.mark.parametrize("clients", [1, 64, 512])
@pytest.mark.parametrize("model", SWEEPS)
def test_the_chosen_degree_was_measured_within_15_percent_of_the_best(
    tables: ModuleType, model: str, clients: int
) -> None:
    asked = tables.question(model, "ml.p4d.24xlarge", 1, 512, 256)
    assert degrees_of(asked) == (1, 2, 4, 8)
    rates = {
        one.question.tensor_parallel: one.rate
        for one in tables.measured()
        if one.table == tables.SWEEP and one.model == model and one.concurrency == clients
    }
    at = (dataclasses.replace(asked, tensor_parallel=degree) for degree in degrees_of(asked))
    rated = {
        one.tensor_parallel: expected(one, clients) for one in at if holds(one, memory_of(one))
    }
    chosen = max(rated, key=lambda degree: (rated[degree] or (0.0,))[0])
    assert chosen in rates
    assert rates[chosen] >= 0.85 * max(rates.values())


def test_the_constants_are_the_fit_of_the_7b_sweep_alone(error: ModuleType) -> None:
    fitted = error.fit()
    for field in dataclasses.fields(FITTED):
        assert getattr(FITTED, field.name) == pytest.approx(getattr(fitted, field.name), rel=1e-3)


def test_the_documentation_states_the_error_of_a_run(error: ModuleType) -> None:
    text = (ROOT / "docs" / "planner.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- error -->\n(.*?)<!-- /error -->", text, re.DOTALL)
    assert found is not None
    assert found[1] == error.error_tables()


def test_the_cost_of_a_million_tokens() -> None:
    assert dollars_per_million(1.515, 486) == pytest.approx(1e6 / 486 / 3600 * 1.515)


@pytest.mark.parametrize("degree", [1, 2, 4, 8])
def test_a_rank_has_its_share(tables: ModuleType, degree: int) -> None:
    alone: Any = tables.question("llama2-7b", "ml.p4d.24xlarge", 1, 512, 256)
    shared = dataclasses.replace(alone, tensor_parallel=degree)
    norms = 65 * 4096 * 2
    assert weight_bytes(shared) == (weight_bytes(alone) - norms) // degree + norms
    assert kv_bytes(shared, 512) * degree == kv_bytes(alone, 512)
    assert largest_batch_with_reserve(shared, memory_of(shared)) is not None
