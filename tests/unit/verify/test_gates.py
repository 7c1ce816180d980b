"""Default gates and how a recipe changes them."""

import json
from pathlib import Path

import pytest

import lmi_verify.gates
from lmi_verify.errors import GateInvalid
from lmi_verify.gates import gates_for
from lmi_verify.measurements import METRICS


def test_float32_gates_are_those_of_the_product() -> None:
    gates = {gate.metric: gate for gate in gates_for("float32", "none", {})}
    assert gates["logit_error_rel"].limit == 1e-4
    assert gates["greedy_margin"].limit == 1e-4
    assert not any(gate.loosened for gate in gates.values())


@pytest.mark.parametrize(("dtype", "method"), [("bfloat16", "int8_wo"), ("float32", "awq")])
def test_there_is_no_gate_without_a_source(dtype: str, method: str) -> None:
    assert not [gate for gate in gates_for(dtype, method, {}) if gate.quality]


def test_every_shipped_gate_is_known_sourced_and_reachable() -> None:
    path = Path(lmi_verify.gates.__file__).parent / "data" / "gates.json"
    seen = set()
    content = json.loads(path.read_text())
    every = set(content["every"])
    for entry in content["sets"]:
        for dtype in entry["dtypes"]:
            for method in entry["methods"]:
                assert (dtype, method) not in seen
                seen.add((dtype, method))
                gates = gates_for(dtype, method, {})
                assert (
                    {gate.metric for gate in gates} == set(entry["gates"]) | every <= set(METRICS)
                )
                assert all(len(gate.source) > 20 for gate in gates)


@pytest.mark.parametrize(
    ("method", "metric", "limit", "loosened"),
    [
        ("none", "kl_max", 1e-5, True),
        ("none", "kl_max", 1e-7, False),
        ("none", "kl_max", 1e-6, False),
        ("smoothquant", "top1_agreement", 0.8, True),
        ("smoothquant", "top1_agreement", 0.95, False),
        ("none", "kl_mean", 100.0, False),  # one more gate beside the defaults
    ],
)
def test_a_recipe_tightens_or_loosens_in_the_open(
    method: str, metric: str, limit: float, *, loosened: bool
) -> None:
    gates = {gate.metric: gate for gate in gates_for("float32", method, {metric: limit})}
    assert gates[metric].limit == limit
    assert gates[metric].loosened is loosened
    assert gates[metric].source.startswith("the recipe")
    assert set(gates) == {g.metric for g in gates_for("float32", method, {})} | {metric}


def test_a_recipes_own_gate_where_there_is_no_default_counts_as_loosened() -> None:
    gates = {gate.metric: gate for gate in gates_for("bfloat16", "int8_wo", {"kl_mean": 0.5})}
    assert gates["kl_mean"].loosened
    assert not gates["stop_errors"].loosened


def test_every_wrong_gate_is_reported_at_once() -> None:
    wrong = {"kl_maks": 1, "top1": 0.9, "kl_max": "low", "kl_mean": -1, "stop_errors": True}
    with pytest.raises(GateInvalid) as caught:
        gates_for("float32", "none", {**wrong, "logit_error": float("nan")})
    assert len(caught.value.problems) == 6
    assert "kl_maks: no such metric; the nearest is kl_max" in caught.value.problems
    assert any(each.startswith("top1: ") and "top1_" in each for each in caught.value.problems)
