"""Judges what a running endpoint shows: ids, finish reasons and log-probabilities of its choices.

`scope: generation`: it says whether the endpoint behaves as the model, and is never enough to
promote an artifact.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np  # noqa: TID253 - nobody imports this module before it is named

from lmi_verify.compare import find_divergence
from lmi_verify.consistency import ends_rightly, followed
from lmi_verify.errors import OutputsUnusable
from lmi_verify.gates import gates_for
from lmi_verify.jsonread import JSONValue, Reader
from lmi_verify.judge import judge
from lmi_verify.measurements import Measurements, PromptMeasurement
from lmi_verify.outputs import Generated, Outputs, Prompts, read_outputs, read_prompts
from lmi_verify.rows import log_softmax
from lmi_verify.tensorfiles import read_json
from lmi_verify.verdict import Verdict, infeasible


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Judges an endpoint's answers and writes `verdict.json`.

    Args:
        params: `dtype`, `method`, and `gates`: metric name to limit.
        inputs: `reference`, and `answers` with `answers.json` (`lmi_compile.endpoint`).
        out: Where `verdict.json` goes.

    Raises:
        GateInvalid: The gates are wrong.
        Malformed: The parameters are.
    """
    given = Reader(dict(params), "params")
    dtype, method = given.get("dtype").text(), given.get("method").text()
    overrides = {name: item.value for name, item in given.get("gates").entries().items()}
    gates = gates_for(dtype, method, overrides, scope="generation")
    try:
        prompts = read_prompts(inputs["reference"])
        reference = read_outputs(inputs["reference"], prompts, side="reference")
        measurements = measure(prompts, reference, _answers(inputs["answers"], prompts))
        verdict = judge(measurements, gates, dtype=dtype, method=method, scope="generation")
    except OutputsUnusable as error:
        verdict = infeasible(error.problems, dtype=dtype, method=method, scope="generation")
    _write(verdict, out)


def measure(prompts: Prompts, reference: Outputs, answers: Mapping[str, Generated]) -> Measurements:
    """The measurements of the prompts that were asked.

    Args:
        prompts: What the reference was asked.
        reference: Its outputs.
        answers: By prompt id; a prompt that an endpoint cannot be asked as text is not there.
    """
    measured = []
    for index, prompt in enumerate(prompts.prompts):
        answer = answers.get(prompt.id)
        if answer is None:
            continue
        right, rows = reference.generated[index], reference.arrays(index).forced_logits
        scale = float(np.abs(rows).max()) or 1.0
        divergence = find_divergence(rows, right.ids, answer.ids, scale)
        errors = _errors(followed(prompt.forced_ids, rows, answer.ids), answer.log_probs)
        stopped = ends_rightly(answer, prompts.eos_token_ids, len(prompt.forced_ids))
        values: dict[str, float | None] = {
            "greedy_divergences": float(right.ids != answer.ids),
            "greedy_margin": divergence.gap if divergence else 0.0,
            "stop_errors": float(not stopped),
        }
        if errors:
            values["reported_error"] = max(errors)
            values["reported_error_mean"] = sum(errors) / len(errors)
        measured.append(
            PromptMeasurement(
                id=prompt.id,
                rows=len(answer.ids),
                values=values,
                divergence=divergence,
                nonfinite_rows=0,
                flat_rows=0,
                frozen=False,
                identical_rows=0,
                prompt_tokens=len(prompt.input_ids),
                reference_pieces=right.pieces or (),
                candidate_pieces=answer.pieces or (),
            )
        )
    return Measurements(
        prompts_version=prompts.version, prompts_digest=prompts.digest, prompts=tuple(measured)
    )


def _errors(rows: list[tuple[np.ndarray, int]], told: tuple[float, ...] | None) -> list[float]:
    """|reported log-probability - the reference's of the same token|, in nats."""
    pairs = zip(rows, told or (), strict=False)
    return [
        abs(float(log_softmax(row[None].astype(np.float64))[0, token]) - said)
        for (row, token), said in pairs
    ]


def _answers(directory: Path, prompts: Prompts) -> dict[str, Generated]:
    content = read_json(directory / "answers.json", "endpoint's ")
    if content.get("prompts_digest").text() != prompts.digest:
        raise OutputsUnusable(("answers.json: made from other prompts",))
    found: dict[str, Generated] = {}
    for item in content.get("prompts").items():
        told = item.optional("log_probs")
        ids = tuple(each.integer() for each in item.get("ids").items())
        if not all(0 <= each < prompts.vocab_size for each in ids):
            problem = f"prompt {item.get('id').text()}: ids outside 0 to {prompts.vocab_size - 1}"
            raise OutputsUnusable((f"endpoint's answers: {problem}",))
        found[item.get("id").text()] = Generated(
            ids=ids,
            finish_reason=item.get("finish_reason").text(),
            log_probs=None if told is None else tuple(each.number() for each in told.items()),
            pieces=tuple(each.text() for each in item.get("pieces").items()),
        )
    return found


def _write(verdict: Verdict, out: Path) -> None:
    text = json.dumps(verdict.to_json(), indent=1, sort_keys=True, allow_nan=False)
    (out / "verdict.json").write_text(f"{text}\n", encoding="utf-8")
    print(verdict.summary, flush=True)  # noqa: T201 - a worker's progress is its stdout
