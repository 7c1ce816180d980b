"""Measures a candidate's outputs against the reference's and the baseline's. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np  # noqa: TID253 - nobody imports this module before it is named

from lmi_verify.consistency import choices_off, draws_off, ends_rightly, log_probs_off
from lmi_verify.errors import OutputsUnusable
from lmi_verify.measurements import Divergence, Measurements, PromptMeasurement
from lmi_verify.outputs import Arrays, Generated, Outputs, Prompts, PromptTokens
from lmi_verify.rows import Rows, Values, compare_rows, is_frozen, kl_rows
from lmi_verify.statistics import block_interval, share_intervals
from lmi_verify.tensorfiles import FloatArray

_SCATTER = 24  # pairs of logits kept of each prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side's answer to one prompt; a baseline generates nothing."""

    arrays: Arrays
    generated: Generated | None = None
    text_ids: tuple[int, ...] | None = None


def compare(
    prompts: Prompts, reference: Outputs, candidate: Outputs, baseline: Outputs | None = None
) -> Measurements:
    """All measurements of a candidate.

    Args:
        prompts: What all sides were asked.
        reference: The Hugging Face model's outputs in float32.
        candidate: The build's outputs.
        baseline: The same model in the build's own numbers, where there is one.

    Raises:
        OutputsUnusable: The reference or the baseline itself holds NaN or infinity.
    """
    measured: list[PromptMeasurement] = []
    scatter: list[tuple[float, float]] = []
    corpus = _Corpus()
    for index, prompt in enumerate(prompts.prompts):
        right, built = _side(reference, index), _side(candidate, index)
        base = None if baseline is None else _side(baseline, index)
        earlier = None if prompt.repeats is None else candidate.arrays(prompt.repeats)
        measured.append(
            measure_prompt(
                prompt,
                eos_token_ids=prompts.eos_token_ids,
                reference=right,
                candidate=built,
                baseline=base,
                earlier=earlier,
            )
        )
        scatter += _scatter(right.arrays.forced_logits, built.arrays.forced_logits, index)
        if prompt.corpus:
            corpus.add(right, built, base)
    return Measurements(
        prompts_version=prompts.version,
        prompts_digest=prompts.digest,
        prompts=tuple(measured),
        whole=_whole(prompts, candidate),
        intervals=corpus.intervals() | share_intervals(measured),
        perplexity=corpus.perplexity(),
        scatter=tuple(scatter),
        shown=tuple(sorted(candidate.shown)),
    )


def measure_prompt(
    prompt: PromptTokens,
    *,
    eos_token_ids: Sequence[int],
    reference: Side,
    candidate: Side,
    baseline: Side | None = None,
    earlier: Arrays | None = None,
) -> PromptMeasurement:
    """The measurements of one prompt.

    Args:
        prompt: Its tokens.
        eos_token_ids: The ids that end a continuation.
        reference: The Hugging Face model's answer.
        candidate: The build's.
        baseline: The same model's in the build's own numbers.
        earlier: The build's answer when it was asked the same before.

    Raises:
        OutputsUnusable: The reference or the baseline holds NaN or infinity.
    """
    _require_finite("reference", prompt, reference)
    _require_finite("baseline", prompt, baseline)
    ours, theirs = reference.arrays, candidate.arrays
    prefill = compare_rows(ours.prompt_logits, theirs.prompt_logits)
    decode = compare_rows(ours.forced_logits, theirs.forced_logits)
    scale = float(max(prefill.scale.max(initial=0.0), decode.scale.max(initial=0.0))) or 1.0
    values = _values(prefill, decode, scale) | _state_values(theirs, earlier, scale)
    series = _series(prompt, prefill, decode, scale)
    if baseline is not None:
        pairs = _baseline_rows(ours, theirs, baseline.arrays)
        values |= _baseline_values(pairs, scale)
        series["baseline_kl"] = _rounded([rows.kl for _, rows in pairs])
    if prompt.corpus:
        values |= _corpus_values(reference, candidate, baseline)
    if candidate.text_ids is not None and prompt.text_ids is not None:
        values["token_mismatches"] = float(candidate.text_ids != prompt.text_ids)
    divergence = None
    if reference.generated is not None and candidate.generated is not None:
        divergence = find_divergence(
            ours.forced_logits, reference.generated.ids, candidate.generated.ids, scale
        )
        values |= _own_values(prompt, candidate, eos_token_ids, scale)
        values["greedy_divergences"] = float(reference.generated.ids != candidate.generated.ids)
        values["greedy_margin"] = divergence.gap if divergence else 0.0
    return PromptMeasurement(
        id=prompt.id,
        rows=len(prefill.kl) + len(decode.kl),
        values=values,
        divergence=divergence,
        nonfinite_rows=prefill.nonfinite + decode.nonfinite,
        flat_rows=prefill.flat + decode.flat,
        frozen=_freezes(ours, theirs),
        identical_rows=prefill.identical + decode.identical,
        tokens=len(prompt.input_ids) - 1 if prompt.corpus else 0,
        prompt_tokens=len(prompt.input_ids),
        series=series,
        reference_pieces=_pieces(reference),
        candidate_pieces=_pieces(candidate),
    )


def _freezes(reference: Arrays, candidate: Arrays) -> bool:
    """Row 0 of a continuation comes from the prompt; the others from a decode of their own."""
    return any(
        is_frozen(built) and not is_frozen(right)
        for built, right in (
            (candidate.prompt_logits, reference.prompt_logits),
            (candidate.forced_logits[1:], reference.forced_logits[1:]),
        )
    )


def _require_finite(name: str, prompt: PromptTokens, side: Side | None) -> None:
    if side is not None and not all(np.isfinite(part).all() for part in _blocks(side.arrays)):
        raise OutputsUnusable((f"the {name} of prompt {prompt.id} holds NaN or infinity",))


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


class _Corpus:
    """Collects the likelihoods of the corpus's tokens, of all sides."""

    def __init__(self) -> None:
        self._nll: dict[str, list[Values]] = {}

    def add(self, reference: Side, candidate: Side, baseline: Side | None) -> None:
        """One passage."""
        sides = {"reference": reference, "baseline": baseline, "candidate": candidate}
        for name, side in sides.items():
            if side is not None and side.arrays.likelihoods is not None:
                self._nll.setdefault(name, []).append(-side.arrays.likelihoods.astype(np.float64))

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Of the noisy metrics."""
        pairs = {"nll_rise": "reference", "nll_excess": "baseline"}
        built = self._nll.get("candidate")
        if built is None or not all(np.isfinite(each).all() for each in built):
            return {}
        return {
            name: block_interval(
                [one - two for one, two in zip(built, self._nll[side], strict=True)]
            )
            for name, side in pairs.items()
            if side in self._nll and any(map(len, built))
        }

    def perplexity(self) -> dict[str, float]:
        """Of every side whose likelihoods are finite."""
        means = {
            name: float(np.concatenate(parts).mean())
            for name, parts in self._nll.items()
            if any(map(len, parts))
        }
        found = {name: float(np.exp(min(mean, 700.0))) for name, mean in means.items()}
        return {name: value for name, value in found.items() if np.isfinite(value)}


def _side(outputs: Outputs, index: int) -> Side:
    return Side(
        arrays=outputs.arrays(index),
        generated=outputs.generated[index] if outputs.generated else None,
        text_ids=outputs.text_ids[index],
    )


def _pieces(side: Side) -> tuple[str, ...]:
    return () if side.generated is None else side.generated.pieces or ()


def _blocks(arrays: Arrays) -> list[FloatArray]:
    return [arrays.prompt_logits, arrays.forced_logits]


def _values(prefill: Rows, decode: Rows, scale: float) -> dict[str, float | None]:
    """The metrics by row of one prompt; those of a block without a finite row are None."""
    both = (prefill, decode)
    values: dict[str, float | None] = {
        "logit_error_rel_prefill": _worst([prefill.error], scale),
        "logit_error_rel_decode": _worst([decode.error], scale),
        "logit_error": _worst([part.error for part in both]),
        "logit_error_rel": _worst([part.error for part in both], scale),
        "kl_mean": _mean([part.kl for part in both]),
        "kl_max": _worst([part.kl for part in both]),
        "top1_agreement": _mean([part.agreeing for part in both]),
        "clear_flips": _mean([part.flipped for part in both]),
        "top1_margin": _worst([part.gap for part in both], scale),
        "rank_max": _worst([part.rank for part in both]),
        "slope_error": _away([part.slope for part in both]),
    }
    return values | {
        f"topk_error_{name}": _worst([part.topk[name] for part in both]) for name in prefill.topk
    }


def _baseline_rows(
    reference: Arrays, candidate: Arrays, baseline: Arrays
) -> list[tuple[Values, Rows]]:
    """By block: the baseline's KL from the reference, and the candidate against the baseline."""
    sides = zip(_blocks(reference), _blocks(baseline), _blocks(candidate), strict=True)
    return [(kl_rows(right, base), compare_rows(base, built)) for right, base, built in sides]


def _baseline_values(pairs: Sequence[tuple[Values, Rows]], scale: float) -> dict[str, float | None]:
    """The same again with the baseline in the reference's place, as far as gates ask for it."""
    return {
        "method_kl_mean": _mean([own for own, _ in pairs]),
        "baseline_kl_mean": _mean([rows.kl for _, rows in pairs]),
        "baseline_error_rel": _worst([rows.error for _, rows in pairs], scale),
        "baseline_slope_error": _away([rows.slope for _, rows in pairs]),
    }


def _state_values(
    candidate: Arrays, earlier: Arrays | None, scale: float
) -> dict[str, float | None]:
    """The candidate against itself: asked again, and asked in company."""
    values: dict[str, float | None] = {}
    if earlier is not None:
        values["repeat_error_rel"] = _difference(_blocks(earlier), _blocks(candidate), scale)
    if candidate.batch_logits is not None:
        alone = candidate.forced_logits[: len(candidate.batch_logits)]
        values["batch_error_rel"] = _difference([alone], [candidate.batch_logits], scale)
    return values


def _own_values(
    prompt: PromptTokens, candidate: Side, eos_token_ids: Sequence[int], scale: float
) -> dict[str, float | None]:
    """What the candidate's answer says of itself."""
    generated, arrays = candidate.generated, candidate.arrays
    if generated is None:
        return {}
    wrong = not ends_rightly(generated, eos_token_ids, len(prompt.forced_ids))
    values: dict[str, float | None] = {"stop_errors": float(wrong)}
    if not all(np.isfinite(part).all() for part in _blocks(arrays)):
        return {**values, "choice_margin": None, "log_prob_error": None}
    values["choice_margin"] = choices_off(prompt, arrays, generated) / scale
    off = log_probs_off(prompt, arrays, generated)
    if off is not None:
        values["log_prob_error"] = off if np.isfinite(off) else None
    return values


def _corpus_values(
    reference: Side, candidate: Side, baseline: Side | None
) -> dict[str, float | None]:
    built = candidate.arrays.likelihoods
    values: dict[str, float | None] = {}
    for name, side in (("nll_rise", reference), ("nll_excess", baseline)):
        own = None if side is None else side.arrays.likelihoods
        if built is not None and own is not None and len(own):
            finite = bool(np.isfinite(built).all())
            values[name] = float((own.astype(float) - built).mean()) if finite else None
    return values


def _whole(prompts: Prompts, candidate: Outputs) -> Mapping[str, float | None]:
    values: dict[str, float | None] = {}
    if candidate.eos_token_ids is not None:
        differing = set(candidate.eos_token_ids) ^ set(prompts.eos_token_ids)
        values["settings_errors"] = float(len(differing))
    if candidate.draws is not None and prompts.sampling is not None:
        row = candidate.arrays(prompts.sampling.prompt).forced_logits[0]
        known = bool(np.isfinite(row).all())
        values["draws_off"] = (
            draws_off(row, prompts.sampling.temperature, candidate.draws) if known else None
        )
    return values


def _difference(
    left: Sequence[FloatArray], right: Sequence[FloatArray], scale: float
) -> float | None:
    """Max |a - b| / scale over blocks, each as long as the shorter of the two."""
    worst = 0.0
    for one, two in zip(left, right, strict=True):
        rows = min(len(one), len(two))
        if not (np.isfinite(one[:rows]).all() and np.isfinite(two[:rows]).all()):
            return None
        worst = max(worst, float(np.abs(one[:rows] - two[:rows]).max(initial=0.0)))
    return worst / scale


def _series(
    prompt: PromptTokens, prefill: Rows, decode: Rows, scale: float
) -> dict[str, tuple[float | None, ...]]:
    """What is drawn by position, to four digits."""
    last = len(prompt.input_ids) - 1
    places = (*prompt.rows, *(last + index for index in range(len(decode.kl))))
    both = (prefill, decode)
    return {
        "position": tuple(map(float, places)),
        "error_rel": _rounded([part.error / scale for part in both]),
        "kl": _rounded([part.kl for part in both]),
        "rank": _rounded([part.rank for part in both]),
    }


def _rounded(parts: list[Values]) -> tuple[float | None, ...]:
    joined = np.concatenate(parts)
    return tuple(float(f"{each:.4g}") if np.isfinite(each) else None for each in joined)


def _scatter(right: FloatArray, built: FloatArray, seed: int) -> list[tuple[float, float]]:
    """Half of the pairs are of the reference's best logits, half of any."""
    row = seed % len(right)
    if not np.isfinite(built[row]).all():
        return []
    drawn = np.random.default_rng(seed).integers(right.shape[1], size=_SCATTER // 2)
    chosen = (*np.argsort(-right[row])[: _SCATTER // 2], *drawn)
    return [(round(float(right[row, i]), 4), round(float(built[row, i]), 4)) for i in chosen]


def _worst(parts: list[Values], scale: float = 1.0) -> float | None:
    if any(np.isnan(part).all() for part in parts):
        return None
    return float(max(np.nanmax(part) for part in parts)) / scale


def _mean(parts: list[Values]) -> float | None:
    if any(np.isnan(part).all() for part in parts):
        return None
    return float(np.nanmean(np.concatenate(parts)))


def _away(parts: list[Values]) -> float | None:
    """How far the mean slope is from 1."""
    mean = _mean(parts)
    return None if mean is None else abs(mean - 1.0)
