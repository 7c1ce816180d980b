"""The judge step: reads both sides, measures, decides, and writes `verdict.json`."""

import json
from collections.abc import Mapping
from pathlib import Path

from lmi_verify.compare import compare
from lmi_verify.errors import OutputsUnusable
from lmi_verify.gates import Gate, gates_for
from lmi_verify.jsonread import JSONValue, Reader
from lmi_verify.judge import judge
from lmi_verify.outputs import read_outputs, read_prompts
from lmi_verify.verdict import Verdict, infeasible


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Judges a candidate; a bad one is a verdict, not an error.

    Args:
        params: `dtype`, `method`, and `gates`: metric name to limit, from the recipe.
        inputs: `reference` and `candidate`, the output directories of those steps.
        out: Where `verdict.json` goes.

    Raises:
        GateInvalid: The recipe's gates are wrong.
        Malformed: The parameters are.
    """
    given = Reader(dict(params), "params")
    dtype, method = given.get("dtype").text(), given.get("method").text()
    overrides = {name: item.value for name, item in given.get("gates").entries().items()}
    gates = gates_for(dtype, method, overrides)
    verdict = _judged(inputs["reference"], inputs["candidate"], gates, dtype, method)
    text = json.dumps(verdict.to_json(), indent=2, sort_keys=True, allow_nan=False)
    (out / "verdict.json").write_text(f"{text}\n", encoding="utf-8")
    print(verdict.summary, flush=True)  # noqa: T201 - a worker's progress is its stdout


def _judged(
    reference: Path, candidate: Path, gates: tuple[Gate, ...], dtype: str, method: str
) -> Verdict:
    try:
        prompts = read_prompts(reference)
        right = read_outputs(reference, prompts, side="reference")
        built = read_outputs(candidate, prompts, side="candidate")
        measurements = compare(prompts, right, built)
    except OutputsUnusable as error:
        return infeasible(error.problems, dtype=dtype, method=method)
    return judge(measurements, gates, dtype=dtype, method=method)
