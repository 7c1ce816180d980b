"""Decides: measurements against gates. Pure and light, the same answer for the same values."""

from typing import assert_never

from lmi_verify.areas import diagnose
from lmi_verify.gates import Gate
from lmi_verify.measurements import METRICS, Measurements, PromptMeasurement, Scope
from lmi_verify.verdict import Check, Decision, Verdict, infeasible

_LEAST_SHARE = 0.02  # of the method's own KL; a right build measured no less than 0.3 of it


def judge(
    measurements: Measurements,
    gates: tuple[Gate, ...],
    *,
    dtype: str,
    method: str,
    scope: Scope = "logits",
    same_numbers: bool = False,
) -> Verdict:
    """The verdict on one candidate.

    Args:
        measurements: From `lmi_verify.compare`.
        gates: From `lmi_verify.gates.gates_for`.
        dtype: The build's.
        method: The quantisation method, `none` without.
        scope: What was compared.
        same_numbers: Both sides compute in the same numbers, so equal bits are right: float32
            without quantisation, and two builds of one recipe.

    Returns:
        INFEASIBLE when nothing was compared; ANOMALOUS for values that no right build gives,
        whatever the gates say; UNVERIFIED without a gate; REGRESSION when one fails; else ACCEPT.
    """
    if not measurements.prompts:
        return infeasible(("no prompt was compared",), dtype=dtype, method=method, scope=scope)
    seen = {gate.metric: measurements.overall(gate.metric).there or gate.own for gate in gates}
    checks = tuple(_check(measurements, gate) for gate in gates if seen[gate.metric])
    exact = same_numbers or scope != "logits" or (dtype == "float32" and method == "none")
    findings = _anomalies(measurements, exact=exact)
    decision: Decision
    if findings:
        decision = "ANOMALOUS"
    elif not any(gate.quality for gate in gates):
        decision = "UNVERIFIED"
        findings = (f"there is no gate with a source for {dtype}, quantization {method}",)
    else:
        decision = "ACCEPT" if all(check.passed for check in checks) else "REGRESSION"
    return Verdict(
        decision=decision,
        scope=scope,
        summary=_summary(decision, checks, findings, len(measurements.prompts)),
        dtype=dtype,
        method=method,
        checks=checks,
        findings=findings,
        areas=()
        if decision in {"ACCEPT", "UNVERIFIED"} or scope == "outputs"
        else diagnose(checks, measurements, dtype=dtype, method=method),
        unmeasured=tuple(name for name, there in seen.items() if not there),
        measurements=measurements,
        prompts_version=measurements.prompts_version,
        prompts_digest=measurements.prompts_digest,
    )


def _check(measurements: Measurements, gate: Gate) -> Check:
    measured = measurements.overall(gate.metric)
    value, low, high = measured.value, measured.low, measured.high
    match gate.direction:
        case "at_most":
            near = value if low is None else low
            passed, relation = near is not None and near <= gate.limit, "at most"
        case "at_least":
            near = value if high is None else high
            passed, relation = near is not None and near >= gate.limit, "at least"
        case _:
            assert_never(gate.direction)
    if value is None:  # an interval of numbers that are not all there
        passed = False
    where = "" if measured.prompt is None else f"; worst prompt {measured.prompt}"
    shown = "could not be measured" if value is None else f"is {value:.6g}"
    noise = "" if low is None or high is None else f" (95 % interval {low:.4g} to {high:.4g})"
    limit = f"limit {relation} {gate.limit:g}"
    return Check(
        metric=gate.metric,
        measured=value,
        limit=gate.limit,
        direction=gate.direction,
        passed=passed,
        reason=f"{METRICS[gate.metric].title} {shown}{noise}, {limit}{where}",
        source=gate.source,
        loosened=gate.loosened,
        prompt=measured.prompt,
        low=low,
        high=high,
    )


def _anomalies(measurements: Measurements, *, exact: bool) -> tuple[str, ...]:
    """What no right build shows.

    Args:
        measurements: Of all prompts.
        exact: Float32 without quantisation, where equal bits are unlikely but right.
    """
    findings = [text for prompt in measurements.prompts for text in _prompt_anomalies(prompt)]
    same = all(prompt.identical_rows == prompt.rows for prompt in measurements.prompts)
    if same and not exact:
        findings.append(
            "every logit is bit for bit the float32 reference's, which lower precision cannot give"
        )
    method, own = (
        measurements.overall("method_kl_mean").value,
        measurements.overall("kl_mean").value,
    )
    if method is not None and own is not None and own < method * _LEAST_SHARE and not exact:
        findings.append(
            f"KL to the float32 reference is {own:.3g}, where the method itself costs {method:.3g}:"
            " these are not outputs of that method"
        )
    return tuple(findings)


def _prompt_anomalies(prompt: PromptMeasurement) -> list[str]:
    found = []
    if prompt.nonfinite_rows:
        found.append(
            f"prompt {prompt.id}: {prompt.nonfinite_rows} of {prompt.rows} positions hold NaN "
            "or infinity"
        )
    if prompt.flat_rows:
        found.append(
            f"prompt {prompt.id}: at {prompt.flat_rows} of {prompt.rows} positions all logits "
            "are equal"
        )
    if prompt.frozen:
        found.append(f"prompt {prompt.id}: the logits are the same at every position")
    return found


def _summary(
    decision: Decision, checks: tuple[Check, ...], findings: tuple[str, ...], prompts: int
) -> str:
    failed = [check for check in checks if not check.passed]
    loosened = [check.metric for check in checks if check.loosened]
    match decision:
        case "ACCEPT":
            text = f"all {len(checks)} gates pass on {prompts} prompts"
        case "REGRESSION":
            text = f"{len(failed)} of {len(checks)} gates fail; {failed[0].reason}"
        case "ANOMALOUS" | "INFEASIBLE" | "UNVERIFIED":
            more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
            text = f"{findings[0]}{more}"
        case _:
            assert_never(decision)
    note = f"; loosened by the recipe: {', '.join(loosened)}" if loosened else ""
    return f"{decision}: {text}{note}"
