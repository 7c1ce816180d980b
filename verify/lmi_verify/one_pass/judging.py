"""The judge of a one-pass model: its outputs, tokens and pixels against the reference's."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np  # noqa: TID253 - nobody imports this module before it is named
from safetensors import SafetensorError  # noqa: TID253 - as above
from safetensors.numpy import load_file  # noqa: TID253 - as above

from lmi_verify.errors import OutputsUnusable
from lmi_verify.gates import gates_for
from lmi_verify.jsonread import JSONValue, Reader
from lmi_verify.judge import judge
from lmi_verify.measurements import Measurements, PromptMeasurement
from lmi_verify.one_pass.heads import Head, head_named
from lmi_verify.rows import compare_rows
from lmi_verify.tensorfiles import FloatArray, IntArray, read_json
from lmi_verify.verdict import Verdict, infeasible

MEASURED = frozenset(
    {
        "output_error_rel", "kl_max", "top1_margin", "batch_error_rel", "token_mismatches",
        "pixel_error",
    }
)  # fmt: skip


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Judges a candidate; a bad one is a verdict, not an error.

    Args:
        params: `dtype`, `gates` (metric name to limit, from the recipe), `company` (whether the
            build takes several examples together, which its probe then shows).
        inputs: `reference` (see `lmi_verify.one_pass.reference`) and `candidate`, whose
            `outputs.safetensors` holds, by number, `output`; `embedding` where the reference does;
            `company`, the output among others, where asked; `text_ids` or `pixels`, what the tree
            makes of a text or a picture itself.
        out: Where `verdict.json` goes.

    Raises:
        GateInvalid: The recipe's gates are wrong.
    """
    given = Reader(dict(params), "params")
    dtype = given.get("dtype").text()
    overrides = {name: item.value for name, item in given.get("gates").entries().items()}
    company = given.get("company").flag()
    gates = tuple(
        gate
        for gate in gates_for(dtype, "none", overrides, scope="outputs")
        if gate.own or gate.metric in MEASURED
    )
    verdict: Verdict
    try:
        measured = measure(inputs["reference"], inputs["candidate"], company=company)
    except OutputsUnusable as error:
        verdict = infeasible(error.problems, dtype=dtype, method="none", scope="outputs")
    else:
        verdict = judge(measured, gates, dtype=dtype, method="none", scope="outputs")
    text = json.dumps(verdict.to_json(), indent=1, sort_keys=True, allow_nan=False)
    (out / "verdict.json").write_text(f"{text}\n", encoding="utf-8")
    print(verdict.summary, flush=True)  # noqa: T201 - a worker's progress is its stdout


def measure(reference: Path, candidate: Path, *, company: bool) -> Measurements:
    """The measurements of one build.

    Args:
        reference: The reference's outputs.
        candidate: The build's.
        company: Whether the build must show its examples in company too.

    Raises:
        OutputsUnusable: A side lacks something, or is of other examples.
    """
    prompts = read_json(reference / "prompts.json", "reference: ")
    told = read_json(candidate / "outputs.json", "candidate: ")
    digest = prompts.get("digest").text()
    if told.get("prompts_digest").text() != digest:
        raise OutputsUnusable(("the candidate's outputs are of other examples",))
    head = head_named(prompts.get("head").text())
    asked, right, built = (
        _load(path)
        for path in (
            reference / "prompts.safetensors",
            reference / "outputs.safetensors",
            candidate / "outputs.safetensors",
        )
    )
    _require_whole(asked, right, built, company=company)
    scale = max(float(np.abs(right[name]).max()) for name in right if name.endswith(".output"))
    names = [item.get("id").text() for item in prompts.get("prompts").items()]
    return Measurements(
        prompts_version="one-pass",
        prompts_digest=digest,
        prompts=tuple(
            _example(head, name, _of(index, asked), _of(index, right), _of(index, built), scale)
            for index, name in enumerate(names)
        ),
    )


def _load(path: Path) -> dict[str, FloatArray | IntArray]:
    if not path.is_file():
        raise OutputsUnusable((f"{path.name} is missing",))
    try:
        found: dict[str, FloatArray | IntArray] = load_file(path)
    except SafetensorError as error:
        raise OutputsUnusable((f"{path.name}: {error}",)) from error
    return found


def _of(
    index: int, tensors: Mapping[str, FloatArray | IntArray]
) -> dict[str, FloatArray | IntArray]:
    start = f"{index:03d}."
    return {name[4:]: each for name, each in tensors.items() if name.startswith(start)}


def _require_whole(
    asked: Mapping[str, FloatArray | IntArray],
    right: Mapping[str, FloatArray | IntArray],
    built: Mapping[str, FloatArray | IntArray],
    *,
    company: bool,
) -> None:
    wanted = {name: each.shape for name, each in right.items()}
    if company:
        wanted |= {
            f"{name[:4]}company": shape for name, shape in wanted.items() if "output" in name
        }
    wanted |= {
        f"{name[:4]}pixels": each.shape for name, each in asked.items() if "pixel_values" in name
    }
    problems = [f"{name} is missing" for name in wanted if name not in built]
    problems += [
        f"{name} is {each.dtype} {list(each.shape)}, not float32 {list(wanted[name])}"
        for name, each in built.items()
        if name in wanted and (each.shape != wanted[name] or each.dtype != np.float32)
    ]
    problems += [
        f"{name[:4]}text_ids is missing"
        for name in asked
        if "input_ids" in name and f"{name[:4]}text_ids" not in built
    ]
    if problems:
        raise OutputsUnusable(tuple(problems))


def _example(
    head: Head,
    name: str,
    asked: Mapping[str, FloatArray | IntArray],
    right: Mapping[str, FloatArray | IntArray],
    built: Mapping[str, FloatArray | IntArray],
    scale: float,
) -> PromptMeasurement:
    ours, theirs = _rows(right["output"], head), _rows(built["output"], head)
    rows = compare_rows(ours, theirs)
    values: dict[str, float | None] = {"output_error_rel": _largest(rows.error) / scale}
    if "embedding" in right:
        off = _largest(np.abs(right["embedding"] - built["embedding"]))
        # maximum, unlike max, does not lose a NaN of the second
        values["output_error_rel"] = float(np.maximum(_largest(rows.error) / scale, off))
    if head.chooses:
        values |= {"kl_max": _largest(rows.kl), "top1_margin": _largest(rows.gap) / scale}
    if "company" in built:
        among = _largest(np.abs(built["company"] - built["output"]))
        values["batch_error_rel"] = among / scale
    if "text_ids" in built:
        same = np.array_equal(built["text_ids"], asked["input_ids"])
        values["token_mismatches"] = float(not same)
    if "pixels" in built:
        values["pixel_error"] = _largest(np.abs(built["pixels"] - asked["pixel_values"]))
    return PromptMeasurement(
        id=name,
        rows=len(ours),
        values={
            key: None if value is None or np.isnan(value) else value
            for key, value in values.items()
        },
        divergence=None,
        nonfinite_rows=rows.nonfinite,
        flat_rows=rows.flat,
        frozen=False,
        identical_rows=rows.identical,
        prompt_tokens=len(ours) if head.reads == "text" else 0,
    )


def _rows(output: FloatArray | IntArray, head: Head) -> FloatArray:
    """`[rows, choices]`: a single choice is one row, a number for each token one row of all."""
    flat = head.name in {"label", "picture", "replaced"}
    array: FloatArray = output.astype(np.float32).reshape(1 if flat else len(output), -1)
    return array


def _largest(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> float:
    return float(np.max(values))
