"""Measures a candidate's outputs against the reference's. Pure functions over numpy arrays.

Sums run in float64 over a few rows at a time, so that memory stays bounded at any vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np  # noqa: TID253 - nobody imports this module before it is named
import numpy.typing as npt  # noqa: TID253 - as above

from lmi_verify.errors import OutputsUnusable
from lmi_verify.measurements import Divergence, Measurements, PromptMeasurement
from lmi_verify.outputs import FloatArray, Generated, Outputs, Prompts, PromptTokens

TOP_KS = (5, 50, 1000)
_CHUNK_VALUES = 1 << 20
_NLL_ROWS = 64


def compare(prompts: Prompts, reference: Outputs, candidate: Outputs) -> Measurements:
    """All measurements of a candidate.

    Args:
        prompts: What both sides were asked.
        reference: The Hugging Face model's outputs.
        candidate: The build's outputs.

    Raises:
        OutputsUnusable: The reference itself holds NaN or infinity.
    """
    measured = []
    for index, prompt in enumerate(prompts.prompts):
        measured.append(
            measure_prompt(
                prompt,
                eos_token_ids=prompts.eos_token_ids,
                reference=reference.logits(index),
                candidate=candidate.logits(index),
                reference_ids=reference.generated[index].ids,
                generated=candidate.generated[index],
            )
        )
    return Measurements(
        prompts_version=prompts.version, prompts_digest=prompts.digest, prompts=tuple(measured)
    )


def measure_prompt(
    prompt: PromptTokens,
    *,
    eos_token_ids: Sequence[int],
    reference: tuple[FloatArray, FloatArray],
    candidate: tuple[FloatArray, FloatArray],
    reference_ids: Sequence[int],
    generated: Generated,
) -> PromptMeasurement:
    """The measurements of one prompt.

    Args:
        prompt: Its tokens.
        eos_token_ids: The ids that end a continuation.
        reference: prompt_logits [n, vocab] and forced_logits [m, vocab].
        candidate: The same of the candidate.
        reference_ids: The reference's greedy continuation, up to and with its end.
        generated: The candidate's own.

    Raises:
        OutputsUnusable: The reference holds NaN or infinity.
    """
    if not all(np.isfinite(part).all() for part in reference):
        raise OutputsUnusable((f"the reference of prompt {prompt.id} holds NaN or infinity",))
    prefill = _accumulate(reference[0], candidate[0])
    decode = _accumulate(reference[1], candidate[1])
    scale = max(prefill.reference_max, decode.reference_max) or 1.0
    divergence = find_divergence(reference[1], reference_ids, generated.ids, scale)
    stopped_wrongly = not ends_rightly(generated, eos_token_ids, len(prompt.forced_ids))
    values = _values(prefill, decode, scale)
    values["nll_rise"] = _nll_rise(prompt, reference, candidate)
    values["greedy_divergences"] = float(tuple(reference_ids) != generated.ids)
    values["greedy_margin"] = divergence.gap if divergence else 0.0
    values["stop_errors"] = float(stopped_wrongly)
    return PromptMeasurement(
        id=prompt.id,
        rows=prefill.rows + decode.rows,
        values=values,
        divergence=divergence,
        nonfinite_rows=prefill.nonfinite + decode.nonfinite,
        flat_rows=prefill.flat + decode.flat,
        frozen=any(
            is_frozen(ours) and not is_frozen(theirs)
            for ours, theirs in (
                (candidate[0], reference[0]),
                # row 0 comes from the prompt; a decode that ignores its input freezes the others
                (candidate[1][1:], reference[1][1:]),
            )
        ),
        identical_rows=prefill.identical + decode.identical,
    )


def _nll_rise(
    prompt: PromptTokens,
    reference: tuple[FloatArray, FloatArray],
    candidate: tuple[FloatArray, FloatArray],
) -> float | None:
    """How much less likely the candidate finds the text; None where it has NaN or infinity."""
    if not all(np.isfinite(part).all() for part in candidate):
        return None
    if max(*prompt.input_ids, *prompt.forced_ids) >= reference[0].shape[1]:
        return None
    return _nll(prompt, candidate) - _nll(prompt, reference)


def _nll(prompt: PromptTokens, logits: tuple[FloatArray, FloatArray]) -> float:
    """Mean negative log-likelihood, in nats, of each next token of a prompt and its continuation.

    Args:
        prompt: Its tokens.
        logits: prompt_logits [n, vocab] and forced_logits [m, vocab].
    """
    targets = (np.array(prompt.input_ids[1:], dtype=int), np.array(prompt.forced_ids, dtype=int))
    total = 0.0
    for rows, ids in zip((logits[0][:-1], logits[1]), targets, strict=True):
        for start in range(0, len(ids), _NLL_ROWS):
            part = _log_softmax(rows[start : start + _NLL_ROWS].astype(np.float64))
            wanted = ids[start : start + _NLL_ROWS]
            total -= float(part[np.arange(len(wanted)), wanted].sum())
    return total / sum(map(len, targets))


def find_divergence(
    forced_logits: FloatArray,
    reference_ids: Sequence[int],
    candidate_ids: Sequence[int],
    scale: float,
) -> Divergence | None:
    """The first position where both continuations have a token and the tokens differ.

    One that merely ends earlier or later is a stop error instead (`ends_rightly`).

    Args:
        forced_logits: The reference's [m, vocab]; row j predicts token j of its continuation.
        reference_ids: The reference's continuation.
        candidate_ids: The candidate's.
        scale: max |logit| of the reference on this prompt.
    """
    pairs = zip(reference_ids, candidate_ids, strict=False)
    for index, (right, other) in enumerate(pairs):
        if right != other:
            row = forced_logits[index].astype(np.float64)
            best, second = np.sort(row)[-1], np.sort(row)[-2]
            return Divergence(
                index=index,
                reference_id=right,
                candidate_id=other,
                margin=float(best - second) / scale,
                gap=float(best - row[other]) / scale,
            )
    return None


def ends_rightly(generated: Generated, eos_token_ids: Sequence[int], limit: int) -> bool:
    """Whether a continuation stops at its first end token or at the limit, and says which."""
    first = next((i for i, each in enumerate(generated.ids) if each in eos_token_ids), None)
    if first is not None:
        return first == len(generated.ids) - 1 and generated.finish_reason == "eos_token"
    return len(generated.ids) == limit and generated.finish_reason == "length"


def is_frozen(logits: FloatArray) -> bool:
    """Whether two or more rows are all bit for bit the same."""
    return len(logits) > 1 and bool((_bits(logits) == _bits(logits[:1])).all())


@dataclass(slots=True, kw_only=True)
class _Sums:
    """What one block of rows adds up to; only rows with finite candidate logits count."""

    rows: int = 0
    nonfinite: int = 0
    flat: int = 0
    identical: int = 0
    reference_max: float = 0.0
    error_max: float = 0.0
    kl_sum: float = 0.0
    kl_max: float = 0.0
    agreeing: int = 0
    gap_max: float = 0.0
    topk: dict[str, float] = field(default_factory=lambda: {f"{k}": 0.0 for k in (*TOP_KS, "all")})


def _accumulate(reference: FloatArray, candidate: FloatArray) -> _Sums:
    sums = _Sums(rows=len(reference), reference_max=float(np.abs(reference).max(initial=0.0)))
    for ours, theirs in _chunks(reference, candidate):
        finite = np.isfinite(theirs).all(axis=1)
        sums.nonfinite += int((~finite).sum())
        sums.identical += int((_bits(ours) == _bits(theirs)).all(axis=1).sum())
        if finite.any():
            _add_rows(sums, ours[finite].astype(np.float64), theirs[finite].astype(np.float64))
    return sums


def _add_rows(sums: _Sums, ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> None:
    error = np.abs(ours - theirs)
    sums.flat += int(((np.ptp(theirs, axis=1) == 0) & (np.ptp(ours, axis=1) > 0)).sum())
    sums.error_max = max(sums.error_max, float(error.max()))
    divergence = _kl(ours, theirs)
    sums.kl_sum += float(divergence.sum())
    sums.kl_max = max(sums.kl_max, float(divergence.max()))
    rows = np.arange(len(ours))
    best, chosen = ours.argmax(axis=1), theirs.argmax(axis=1)
    sums.agreeing += int((best == chosen).sum())
    sums.gap_max = max(sums.gap_max, float((ours[rows, best] - ours[rows, chosen]).max()))
    for name, value in _topk_errors(ours, error).items():
        sums.topk[name] = max(sums.topk[name], value)


def _kl(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """KL(softmax(ours) || softmax(theirs)) of each row, in nats; rounding below 0 is cut off."""
    left, right = _log_softmax(ours), _log_softmax(theirs)
    total: npt.NDArray[np.float64] = (np.exp(left) * (left - right)).sum(axis=1)
    return np.maximum(total, 0.0)


def _log_softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    normal: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normal


def _topk_errors(ours: npt.NDArray[np.float64], error: npt.NDArray[np.float64]) -> dict[str, float]:
    """By k: the largest error over a row's k best reference logits / the largest |logit| of them.

    The form of NxD Inference's tolerance map (its `utils/accuracy.py`).
    """
    vocab = ours.shape[1]
    most = min(TOP_KS[-1], vocab)
    head = np.argpartition(-ours, most - 1, axis=1)[:, :most]
    order = np.argsort(-np.take_along_axis(ours, head, axis=1), axis=1)
    head = np.take_along_axis(head, order, axis=1)
    top, wrong = np.take_along_axis(ours, head, axis=1), np.take_along_axis(error, head, axis=1)
    found = {f"{k}": _worst_ratio(wrong[:, :k], top[:, :k]) for k in TOP_KS}
    return {**found, "all": _worst_ratio(error, ours)}


def _worst_ratio(error: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> float:
    scale = np.abs(values).max(axis=1)
    return float((error.max(axis=1) / np.where(scale > 0, scale, 1.0)).max())


def _values(prefill: _Sums, decode: _Sums, scale: float) -> dict[str, float | None]:
    """The metrics of one prompt; those of a block without a finite row are None."""
    parts = [part for part in (prefill, decode) if part.rows > part.nonfinite]
    rows = sum(part.rows - part.nonfinite for part in parts)
    whole = len(parts) == len((prefill, decode))
    values: dict[str, float | None] = {
        "logit_error_rel_prefill": _of(prefill, prefill.error_max / scale),
        "logit_error_rel_decode": _of(decode, decode.error_max / scale),
    }
    joined = {
        "logit_error": max(part.error_max for part in (prefill, decode)),
        "logit_error_rel": max(part.error_max for part in (prefill, decode)) / scale,
        "kl_mean": sum(part.kl_sum for part in parts) / max(rows, 1),
        "kl_max": max(prefill.kl_max, decode.kl_max),
        "top1_agreement": sum(part.agreeing for part in parts) / max(rows, 1),
        "top1_margin": max(prefill.gap_max, decode.gap_max) / scale,
    }
    joined |= {
        f"topk_error_{name}": max(prefill.topk[name], decode.topk[name]) for name in prefill.topk
    }
    return values | {name: value if whole else None for name, value in joined.items()}


def _of(part: _Sums, value: float) -> float | None:
    return value if part.rows > part.nonfinite else None


def _chunks(left: FloatArray, right: FloatArray) -> Iterator[tuple[FloatArray, FloatArray]]:
    step = max(1, _CHUNK_VALUES // left.shape[1])
    for start in range(0, len(left), step):
        yield left[start : start + step], right[start : start + step]


def _bits(logits: FloatArray) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray(logits).view(np.uint32)
