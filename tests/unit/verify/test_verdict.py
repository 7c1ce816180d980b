"""Decisions from measurements alone, and verdicts as JSON and as a table."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from lmi_verify.errors import Malformed
from lmi_verify.gates import gates_for
from lmi_verify.judge import judge
from lmi_verify.measurements import METRICS, Divergence, Measurements, PromptMeasurement
from lmi_verify.verdict import TABLE_HEADER, Verdict, infeasible, parse, unverified


def prompt(name: str = "a", rows: int = 10, **values: float | None) -> PromptMeasurement:
    perfect = dict.fromkeys(METRICS, 0.0) | {"top1_agreement": 1.0}
    return PromptMeasurement(
        id=name,
        rows=rows,
        values={**perfect, **values},
        divergence=None,
        nonfinite_rows=0,
        flat_rows=0,
        frozen=False,
        identical_rows=0,
        tokens=rows,
    )


def measurements(*prompts: PromptMeasurement) -> Measurements:
    return Measurements(prompts_version="v1", prompts_digest="sha256:ab", prompts=prompts)


def judged(*prompts: PromptMeasurement, dtype: str = "float32", method: str = "none") -> Verdict:
    gates = gates_for(dtype, method, {})
    return judge(measurements(*prompts), gates, dtype=dtype, method=method)


def test_limits_are_inclusive() -> None:
    assert judged(prompt(kl_max=1e-6)).decision == "ACCEPT"
    assert judged(prompt(kl_max=1.0001e-6)).decision == "REGRESSION"


def test_the_worst_prompt_decides_and_is_named() -> None:
    verdict = judged(prompt("a", kl_max=1e-9), prompt("b", kl_max=1e-3), prompt("c"))
    failed = [check for check in verdict.checks if not check.passed]
    assert [(check.metric, check.prompt, check.measured) for check in failed] == [
        ("kl_max", "b", 1e-3)
    ]


def test_means_weigh_positions_not_prompts() -> None:
    found = measurements(
        prompt("short", rows=1, kl_mean=1.0, top1_agreement=0.0),
        prompt("long", rows=99, kl_mean=0.0, top1_agreement=1.0),
    )
    assert found.overall("kl_mean").value == pytest.approx(0.01)
    assert found.overall("top1_agreement").value == pytest.approx(0.99)
    assert found.overall("top1_agreement").prompt == "short"


def test_what_could_not_be_measured_never_passes() -> None:
    verdict = judged(prompt("a"), prompt("b", logit_error_rel=None))
    assert verdict.decision == "REGRESSION"
    assert "could not be measured" in verdict.summary


def test_nothing_compared_is_infeasible() -> None:
    assert judged().decision == "INFEASIBLE"


def test_an_anomaly_wins_over_passing_gates_and_over_no_gates() -> None:
    for method in ("none", "awq"):
        verdict = judged(replace(prompt(), nonfinite_rows=2), method=method)
        assert verdict.decision == "ANOMALOUS"
        assert "2 of 10 positions" in verdict.findings[0]


def test_identical_bits_are_right_in_float32_only() -> None:
    same = replace(prompt(), identical_rows=10)
    assert judged(same).decision == "ACCEPT"
    assert judged(same, method="fp8").decision == "ANOMALOUS"
    assert judged(same, dtype="bfloat16").decision == "ANOMALOUS"
    assert judged(same, prompt("b"), method="fp8").decision == "ACCEPT"


def test_no_gate_is_unverified() -> None:
    verdict = judged(prompt(), dtype="bfloat16", method="int8_wo")
    assert verdict.decision == "UNVERIFIED"
    assert "bfloat16" in verdict.summary


DIVERGED = replace(
    prompt("b", kl_max=3e-3, topk_error_5=None),
    divergence=Divergence(index=3, reference_id=4, candidate_id=5, margin=0.5, gap=0.75),
)


@pytest.mark.parametrize(
    "verdict",
    [
        judged(prompt()),
        judged(prompt("a"), DIVERGED),
        judged(prompt(), dtype="bfloat16"),
        infeasible(("one", "two"), dtype="float32", method="none"),
        unverified("no device", dtype="float16", method="fp8"),
    ],
)
def test_json_and_back(verdict: Verdict) -> None:
    text = json.dumps(verdict.to_json(), allow_nan=False)
    assert parse(text) == verdict


def test_the_table_shows_every_metric_once_gated_ones_first() -> None:
    verdict = judged(prompt("a"), DIVERGED)
    rows = verdict.table_rows()
    assert all(len(row) == len(TABLE_HEADER) for row in rows)
    titles = [row[0] for row in rows]
    assert sorted(titles) == sorted(
        metric.title for metric in METRICS.values() if metric.over != "whole"
    )
    assert [row[3] for row in rows if row[3]] == [
        "pass" if check.passed else "FAIL" for check in verdict.checks
    ]
    assert [row[0] for row in rows if "not measurable" in row] == [METRICS["topk_error_5"].title]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"decision": "FINE"}, "verdict.decision"),
        ({"format": 3}, "verdict.format"),
        ({"checks": {}}, "verdict.checks"),
        ({"checks": [{"metric": 1}]}, r"verdict.checks\[0\].metric"),
        ({"scope": None}, "verdict.scope"),
        ({"summary": 3}, "verdict.summary"),
        ({"findings": [1]}, r"verdict.findings\[0\]"),
    ],
)
def test_another_shape_is_refused_by_field(change: dict[str, object], where: str) -> None:
    with pytest.raises(Malformed, match=where):
        parse(json.dumps({**judged(prompt()).to_json(), **change}))


@pytest.mark.parametrize("raw", ["", "{", "[]", b"\xff\xfe", "{}"])
def test_what_is_no_verdict_is_refused(raw: str | bytes) -> None:
    with pytest.raises(Malformed, match="verdict"):
        parse(raw)


def test_planning_and_reading_verdicts_imports_nothing_heavy() -> None:
    code = (
        "import sys, lmi_verify.judge, lmi_verify.gates, lmi_verify.prompts, lmi_verify.verdict\n"
        "lmi_verify.gates.gates_for('float32', 'none', {})\n"
        "lmi_verify.prompts.load_prompts('v1')\n"
        "heavy = {'numpy', 'torch', 'pydantic', 'yaml', 'safetensors', 'transformers', 'difflib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"
