"""The judge step: a traced model's tensors, or NxD Inference's own comparison, into a verdict.

The verdict says `verified_on_device`: false where no Neuron device was there, whatever ran.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np  # noqa: TID253 - nobody imports this module before it is named

from lmi_artifacts.digest import JSONValue
from lmi_compile.backends.neuron import tolerance
from lmi_verify.verdict import Check, Decision, Verdict, infeasible, unverified


class _Words(TypedDict):
    """What every verdict says of the build."""

    dtype: str
    method: str


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes `verdict.json`.

    Args:
        params: `dtype`, `method`, `route`, `limits` (the route's, with their source) and `gates`
            (the recipe's own, by metric).
        inputs: `reference` and `candidate`.
        out: receives the file.
    """
    told = json.loads((inputs["candidate"] / "outputs.json").read_bytes())
    limits: Any = params["limits"]
    words = _Words(dtype=str(params["dtype"]), method=str(params["method"]))
    if not told["ran"]:
        verdict = unverified(str(told["reason"]), **words)
    elif "prompts" in told:
        verdict = _matched(told["prompts"], limits, words)
    elif "scored" in told:
        verdict = _scored(inputs, limits, words)
    else:
        own: Any = params["gates"]
        verdict = _compared(inputs, limits, own, words)
    content = verdict.to_json() | {
        "verified_on_device": bool(told["ran"] and told["devices"]),
        "devices": told["devices"],
    }
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
    (out / "verdict.json").write_text(text + "\n", encoding="utf-8")
    print(verdict.summary, flush=True)  # noqa: T201 - a worker's progress is its stdout


def _matched(prompts: list[Any], limits: Mapping[str, Any], words: _Words) -> Verdict:
    """NxD Inference compared on the device, prompt by prompt; its word is passed or not."""
    failed = [each for each in prompts if not each["passed"]]
    check = Check(
        metric="prompts_outside_tolerance",
        measured=float(len(failed)),
        limit=0.0,
        direction="at_most",
        passed=not failed,
        reason=str(failed[0]["detail"])[:500] if failed else "every prompt is inside tol_map",
        source=str(limits["source"]),
        loosened=False,
        prompt=str(failed[0]["id"]) if failed else None,
    )
    return _verdict((check,), words, len(prompts))


def _scored(inputs: Mapping[str, Path], limits: Mapping[str, Any], words: _Words) -> Verdict:
    """Teacher-forced rows against the reference's, by the vendor's tolerance map."""
    try:
        checks, count = tolerance.checks(inputs["reference"], inputs["candidate"], limits)
    except tolerance.NotComparable as error:
        return infeasible((str(error),), **words)
    except tolerance.NotFinite as error:
        finding = str(error)
        return Verdict(
            decision="ANOMALOUS", summary=f"ANOMALOUS: {finding}", findings=(finding,), **words
        )
    return _verdict(checks, words, count)


def _compared(
    inputs: Mapping[str, Path], limits: Mapping[str, Any], own: Mapping[str, float], words: _Words
) -> Verdict:
    with (
        np.load(inputs["reference"] / "outputs.npz", allow_pickle=False) as right,
        np.load(inputs["candidate"] / "outputs.npz", allow_pickle=False) as built,
    ):
        pairs = {name: (right[name], built[name]) for name in right.files if name in built.files}
        missing = sorted(set(right.files) ^ set(built.files))
    wrong = [
        f"{name}: shape {b.shape}, not {a.shape}"
        for name, (a, b) in pairs.items()
        if a.shape != b.shape
    ]
    if missing or wrong or not pairs:
        problems = (*(f"output {name} is on one side only" for name in missing), *wrong)
        return infeasible(problems or ("there is no output",), **words)
    if any(not np.isfinite(built).all() for _, built in pairs.values()):
        finding = "the candidate's outputs hold NaN or infinity"
        return Verdict(
            decision="ANOMALOUS", summary=f"ANOMALOUS: {finding}", findings=(finding,), **words
        )
    measured = {name: measure(name, pairs) for name in limits["gates"]}
    unknown = sorted(set(own) - set(measured))
    if unknown:
        return infeasible(
            tuple(f"verify.gates.{name}: no such metric here" for name in unknown), **words
        )
    checks = tuple(
        _check(name, gate, measured[name], own.get(name), str(limits["source"]))
        for name, gate in limits["gates"].items()
    )
    return _verdict(checks, words, len({name.partition(".")[0] for name in pairs}))


def measure(metric: str, pairs: Mapping[str, tuple[Any, Any]]) -> tuple[float, str]:
    """The worst value of a metric over all outputs, and which output it is of.

    Raises:
        ValueError: an unknown metric.
    """
    values: dict[str, float] = {}
    for name, (right, built) in pairs.items():
        one, two = right.astype(np.float64), built.astype(np.float64)
        match metric:
            case "max_error_rel":
                values[name] = float(np.abs(two - one).max() / max(np.abs(one).max(), 1e-12))
            case "cosine":
                norms = float(np.linalg.norm(one) * np.linalg.norm(two))
                values[name] = float((one * two).sum()) / max(norms, 1e-12)
            case "argmax_agreement":
                values[name] = float((one.argmax(-1) == two.argmax(-1)).mean())
            case _:
                message = f"no metric is called {metric}"
                raise ValueError(message)
    worst = (
        max(values, key=values.__getitem__)
        if metric == "max_error_rel"
        else min(values, key=values.__getitem__)
    )
    return values[worst], worst


def _check(
    name: str, gate: Mapping[str, Any], measured: tuple[float, str], own: float | None, source: str
) -> Check:
    value, where = measured
    at_most = gate["direction"] == "at_most"
    limit = float(gate["limit"] if own is None else own)
    looser = own is not None and (own > gate["limit"] if at_most else own < gate["limit"])
    return Check(
        metric=name,
        measured=value,
        limit=limit,
        direction="at_most" if at_most else "at_least",
        passed=value <= limit if at_most else value >= limit,
        reason=f"{name} is {value:.6g}, limit {'at most' if at_most else 'at least'} {limit:g}",
        source=source if own is None else f"the recipe, in place of {gate['limit']:g}",
        loosened=looser,
        prompt=where,
    )


def _verdict(checks: tuple[Check, ...], words: _Words, count: int) -> Verdict:
    failed = [check for check in checks if not check.passed]
    decision: Decision = "REGRESSION" if failed else "ACCEPT"
    told = failed[0].reason if failed else f"all {len(checks)} gates pass on {count} examples"
    return Verdict(decision=decision, summary=f"{decision}: {told}", checks=checks, **words)
