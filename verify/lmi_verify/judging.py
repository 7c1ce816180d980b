"""The judge step: reads all sides, measures, decides, and writes `verdict.json`."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from lmi_verify.compare import compare
from lmi_verify.errors import OutputsUnusable
from lmi_verify.gates import Gate, gates_for
from lmi_verify.jsonread import JSONValue, Reader
from lmi_verify.judge import judge
from lmi_verify.outputs import read_outputs, read_prompts
from lmi_verify.scoring import score
from lmi_verify.tasks import with_tasks
from lmi_verify.verdict import Verdict, infeasible


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sides:
    """The directories that are compared.

    Attributes:
        reference: With the prompts.
        candidate: The build's outputs.
        baseline: The model's in the build's numbers, where there is one.
        needed: The parts that the candidate must show.
        same: Both sides compute in the same numbers.
        tasks: What was asked for the recipe's tasks, and the build's answers, where it has some.
    """

    reference: Path
    candidate: Path
    baseline: Path | None
    needed: Collection[str]
    same: bool
    tasks: tuple[Path, Path] | None = None


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Judges a candidate; a bad one is a verdict, not an error.

    Args:
        params: `dtype`, `method`, `gates` (metric name to limit, from the recipe), and `shows`:
            the parts, of `lmi_verify.outputs.PARTS`, that the build's probe writes. With `same`
            both sides are builds, so that equal bits are right.
        inputs: `reference` and `candidate`, the output directories of those steps, and
            `baseline` where the plan has it; where the recipe has tasks, `tasks` and
            `tasks-candidate`.
        out: Where `verdict.json` goes.

    Raises:
        GateInvalid: The recipe's gates are wrong.
        Malformed: The parameters are.
    """
    given = Reader(dict(params), "params")
    dtype, method = given.get("dtype").text(), given.get("method").text()
    overrides = {name: item.value for name, item in given.get("gates").entries().items()}
    gates = gates_for(dtype, method, overrides)
    sides = _Sides(
        reference=inputs["reference"],
        candidate=inputs["candidate"],
        baseline=inputs.get("baseline"),
        needed=[item.text() for item in given.get("shows").items()],
        same="same" in params and given.get("same").flag(),
        tasks=(inputs["tasks"], inputs["tasks-candidate"]) if "tasks" in inputs else None,
    )
    verdict = _judged(sides, gates, dtype, method)
    text = json.dumps(verdict.to_json(), indent=1, sort_keys=True, allow_nan=False)
    (out / "verdict.json").write_text(f"{text}\n", encoding="utf-8")
    print(verdict.summary, flush=True)  # noqa: T201 - a worker's progress is its stdout


def _judged(sides: _Sides, gates: tuple[Gate, ...], dtype: str, method: str) -> Verdict:
    try:
        prompts = read_prompts(sides.reference)
        right = read_outputs(sides.reference, prompts, side="reference")
        base = (
            None
            if sides.baseline is None
            else read_outputs(sides.baseline, prompts, side="baseline")
        )
        built = read_outputs(sides.candidate, prompts, side="candidate", needed=sides.needed)
        measurements = compare(prompts, right, built, base)
        outcomes = score(*sides.tasks) if sides.tasks else ()
    except OutputsUnusable as error:
        return infeasible(error.problems, dtype=dtype, method=method)
    verdict = judge(measurements, gates, dtype=dtype, method=method, same_numbers=sides.same)
    return with_tasks(verdict, outcomes)
