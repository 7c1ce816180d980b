"""The verdict: a decision, every check behind it with measured value and limit, and how to read it.

Light: the pipeline, the console and the registry read verdicts without numpy.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from lmi_verify.errors import Malformed
from lmi_verify.jsonread import JSONValue, Reader, parse_json
from lmi_verify.measurements import (
    METRICS,
    Direction,
    Divergence,
    Measurements,
    PromptMeasurement,
    Scope,
)
from lmi_verify.paired import TaskOutcome

Decision: TypeAlias = Literal["ACCEPT", "REGRESSION", "ANOMALOUS", "INFEASIBLE", "UNVERIFIED"]
FORMAT = 2
_READ = (1, FORMAT)
_TASK_NUMBERS = ("reference", "candidate", "drop", "least_drop", "max_drop", "p_value")
TABLE_HEADER = ("metric", "measured", "limit", "result", "worst prompt", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One gate against what was measured.

    Attributes:
        metric: A name of `METRICS`, or `task:` and a task's name.
        measured: Over all prompts; None when it could not be measured, which never passes.
        limit: The gate's.
        direction: Which side of the limit passes.
        passed: Whether it did.
        reason: One sentence.
        source: Where the limit comes from.
        loosened: Whether the recipe loosened the gate.
        prompt: The worst prompt's id.
        low: Where the 95 % interval of a noisy metric begins; None for the others.
        high: Where it ends.
    """

    metric: str
    measured: float | None
    limit: float
    direction: Direction
    passed: bool
    reason: str
    source: str
    loosened: bool
    prompt: str | None
    low: float | None = None
    high: float | None = None

    @property
    def noise(self) -> str:
        """The 95 % interval in words; empty where there is none."""
        if self.low is None:
            return ""
        end = "" if self.high is None else f" to {self.high:.3g}"
        return f"95 % interval {'' if end else 'from '}{self.low:.3g}{end}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """Where a fault is to be looked for: a name such as `positions`, and what points there."""

    name: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A decision and everything it rests on.

    Attributes:
        decision: ACCEPT; REGRESSION (a gate failed); ANOMALOUS (values that no right build
            gives); INFEASIBLE (no comparison was possible); UNVERIFIED (nothing to judge by).
        scope: What was compared: logits, only what a running endpoint shows, or the outputs of a
            model of one pass.
        summary: One sentence for people.
        dtype: The build's.
        method: The quantisation method.
        checks: One for each gate.
        findings: Why it is ANOMALOUS, INFEASIBLE or UNVERIFIED, one sentence each.
        areas: Where the fault is to be looked for, the likeliest first; empty when accepted.
        unmeasured: Default gates on what this build's probe does not show.
        tasks: What the recipe's tasks showed.
        measurements: All values by prompt; None when there are none.
        prompts_version: Of the prompt set, when known.
        prompts_digest: Of the reference's tokens, when known.
    """

    decision: Decision
    scope: Scope = "logits"
    summary: str
    dtype: str
    method: str
    checks: tuple[Check, ...] = ()
    findings: tuple[str, ...] = ()
    areas: tuple[Area, ...] = ()
    unmeasured: tuple[str, ...] = ()
    tasks: tuple[TaskOutcome, ...] = ()
    measurements: Measurements | None = None
    prompts_version: str | None = None
    prompts_digest: str | None = None

    def to_json(self) -> dict[str, JSONValue]:
        """The verdict as JSON values, readable by `parse`."""
        content = asdict(self)
        return {"format": FORMAT, **_plain_object(content)}

    def table_rows(self) -> tuple[tuple[str, ...], ...]:
        """Rows under `TABLE_HEADER`: the gated metrics first, then those only measured."""
        gated = {check.metric for check in self.checks}
        rows = [_check_row(check) for check in self.checks]
        if self.measurements is not None:
            for name, metric in METRICS.items():
                if name not in gated:
                    measured = self.measurements.overall(name)
                    if not measured.there:
                        continue
                    shown = _shown(measured.value)
                    rows.append((metric.title, shown, "", "", measured.prompt or "", ""))
        return tuple(rows)


def verdict_schema_text() -> str:
    """The JSON Schema of `to_json`'s format."""
    return (Path(__file__).parent / "data" / "verdict.schema.json").read_text(encoding="utf-8")


def infeasible(
    problems: tuple[str, ...], *, dtype: str, method: str, scope: Scope = "logits"
) -> Verdict:
    """The verdict on outputs that cannot be compared."""
    return Verdict(
        decision="INFEASIBLE",
        scope=scope,
        summary=f"INFEASIBLE: no comparison was possible: {problems[0] if problems else 'unknown'}",
        dtype=dtype,
        method=method,
        findings=problems,
    )


def unverified(reason: str, *, dtype: str, method: str) -> Verdict:
    """The verdict of a verification that did not run."""
    return Verdict(
        decision="UNVERIFIED",
        summary=f"UNVERIFIED: {reason}",
        dtype=dtype,
        method=method,
        findings=(reason,),
    )


def parse(raw: str | bytes) -> Verdict:
    """Reads what `to_json` gave.

    Raises:
        Malformed: It is no verdict of a known format.
    """
    try:
        loaded = parse_json(raw)
    except ValueError as error:
        where = "verdict"
        raise Malformed(where, "JSON", raw) from error
    return from_json(loaded)


def from_json(value: object) -> Verdict:
    """Reads what `to_json` gave, when it is JSON values already.

    Raises:
        Malformed: It is no verdict of a known format.
    """
    content = Reader(value, "verdict")
    version = content.get("format")
    if version.value not in _READ:
        raise Malformed(version.where, " or ".join(map(str, _READ)), version.value)
    return _verdict(content)


def _check_row(check: Check) -> tuple[str, ...]:
    title = (
        METRICS[check.metric].title if check.metric in METRICS else f"{check.metric}, points lost"
    )
    relation = "<=" if check.direction == "at_most" else ">="
    return (
        title,
        _shown(check.measured),
        f"{relation} {check.limit:g}",
        "pass" if check.passed else "FAIL",
        check.prompt or "",
        "; ".join(filter(None, ("loosened by the recipe" if check.loosened else "", check.noise))),
    )


def _shown(value: float | None) -> str:
    return "not measurable" if value is None else f"{value:.3g}"


def _plain_object(value: Mapping[str, object]) -> dict[str, JSONValue]:
    return {key: _plain(item) for key, item in value.items()}


def _plain(value: object) -> JSONValue:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list() | tuple():
            return [_plain(item) for item in value]
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case _:
            raise Malformed(type(value).__name__, "a JSON value", value)


def _verdict(content: Reader) -> Verdict:
    measured = content.optional("measurements")
    return Verdict(
        decision=_decision(content.get("decision")),
        scope=_scope(content.get("scope")),
        summary=content.get("summary").text(),
        dtype=content.get("dtype").text(),
        method=content.get("method").text(),
        checks=tuple(_check(item) for item in content.get("checks").items()),
        findings=tuple(item.text() for item in content.get("findings").items()),
        areas=tuple(
            Area(name=item.get("name").text(), evidence=item.get("evidence").text())
            for item in _list(content, "areas")
        ),
        unmeasured=tuple(item.text() for item in _list(content, "unmeasured")),
        tasks=tuple(_task(item) for item in _list(content, "tasks")),
        measurements=None if measured is None else _measurements(measured),
        prompts_version=_optional_text(content, "prompts_version"),
        prompts_digest=_optional_text(content, "prompts_digest"),
    )


def _check(item: Reader) -> Check:
    return Check(
        metric=item.get("metric").text(),
        measured=_optional_number(item, "measured"),
        limit=item.get("limit").number(),
        direction=_direction(item.get("direction")),
        passed=item.get("passed").flag(),
        reason=item.get("reason").text(),
        source=item.get("source").text(),
        loosened=item.get("loosened").flag(),
        prompt=_optional_text(item, "prompt"),
        low=_late_number(item, "low"),
        high=_late_number(item, "high"),
    )


def _task(item: Reader) -> TaskOutcome:
    return TaskOutcome(
        name=item.get("name").text(),
        source=item.get("source").text(),
        questions=item.get("questions").integer(),
        lost=item.get("lost").integer(),
        gained=item.get("gained").integer(),
        **{name: item.get(name).number() for name in _TASK_NUMBERS},
    )


def _measurements(item: Reader) -> Measurements:
    measured = Measurements(
        prompts_version=item.get("prompts_version").text(),
        prompts_digest=item.get("prompts_digest").text(),
        prompts=tuple(_prompt(each) for each in item.get("prompts").items()),
    )
    if "whole" not in item.entries():  # format 1
        return measured
    whole = item.get("whole")
    return replace(
        measured,
        whole={name: _optional_number(whole, name) for name in whole.entries()},
        intervals={name: _pair(each) for name, each in item.get("intervals").entries().items()},
        perplexity={name: each.number() for name, each in item.get("perplexity").entries().items()},
        scatter=tuple(_pair(each) for each in item.get("scatter").items()),
        shown=tuple(each.text() for each in item.get("shown").items()),
    )


def _prompt(item: Reader) -> PromptMeasurement:
    divergence = item.optional("divergence")
    values = item.get("values")
    measured = PromptMeasurement(
        id=item.get("id").text(),
        rows=item.get("rows").integer(),
        values={name: _optional_number(values, name) for name in values.entries()},
        divergence=None if divergence is None else _divergence(divergence),
        nonfinite_rows=item.get("nonfinite_rows").integer(),
        flat_rows=item.get("flat_rows").integer(),
        frozen=item.get("frozen").flag(),
        identical_rows=item.get("identical_rows").integer(),
    )
    if "series" not in item.entries():  # format 1
        return measured
    return replace(
        measured,
        tokens=item.get("tokens").integer(),
        prompt_tokens=item.get("prompt_tokens").integer(),
        series={
            name: tuple(None if one.value is None else one.number() for one in each.items())
            for name, each in item.get("series").entries().items()
        },
        reference_pieces=tuple(each.text() for each in item.get("reference_pieces").items()),
        candidate_pieces=tuple(each.text() for each in item.get("candidate_pieces").items()),
    )


def _pair(item: Reader) -> tuple[float, float]:
    first, second = item.items()
    return first.number(), second.number()


def _list(item: Reader, key: str) -> tuple[Reader, ...]:
    """An array that format 1 does not have."""
    return item.get(key).items() if key in item.entries() else ()


def _late_number(item: Reader, key: str) -> float | None:
    """A number that format 1 does not have."""
    return _optional_number(item, key) if key in item.entries() else None


def _divergence(item: Reader) -> Divergence:
    return Divergence(
        index=item.get("index").integer(),
        reference_id=item.get("reference_id").integer(),
        candidate_id=item.get("candidate_id").integer(),
        margin=item.get("margin").number(),
        gap=item.get("gap").number(),
    )


def _optional_text(item: Reader, key: str) -> str | None:
    found = item.optional(key)
    return None if found is None else found.text()


def _optional_number(item: Reader, key: str) -> float | None:
    found = item.optional(key)
    return None if found is None else found.number()


def _decision(item: Reader) -> Decision:
    match item.value:
        case "ACCEPT" | "REGRESSION" | "ANOMALOUS" | "INFEASIBLE" | "UNVERIFIED":
            return item.value
        case _:
            raise Malformed(item.where, "a decision", item.value)


def _scope(item: Reader) -> Scope:
    match item.value:
        case "logits" | "generation" | "outputs":
            return item.value
        case _:
            raise Malformed(item.where, "logits, generation or outputs", item.value)


def _direction(item: Reader) -> Direction:
    match item.value:
        case "at_most" | "at_least":
            return item.value
        case _:
            raise Malformed(item.where, "at_most or at_least", item.value)
