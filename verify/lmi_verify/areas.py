"""Where a fault is to be looked for: what the measurements point at. Pure and light.

A build shows its outputs only, so an area is a reading of their pattern: what fails, in which rows,
and whether it fails beside others. One area is named where the pattern belongs to one; two where
outputs cannot tell them apart (a wrong head order looks like wrong weights).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lmi_verify.measurements import Measurements, PromptMeasurement
from lmi_verify.verdict import Area, Check

_CLEAN = 0.25  # of the level elsewhere: rows above it are wrong too
_FAINT = 0.02  # of the level elsewhere: rows below it are right
_ROUGH = 0.005  # KL of right rows in fewer bits than float32's
_TINY = 1e-9  # a KL that float32 rounding alone gives; measured 1e-10 on SmolLM2-135M
_NEAR, _FAR = range(4, 8), 12
_GRADUAL = 5.0  # a level so many times the first row's has begun to grow
_GROSS = 50.0  # times a method's own divergence: no rounding, however wrong
_SAME_CHOICES = 0.9  # top-1 agreement: a factor on the logits changes no choice, rounding a few
_EVEN = 0.15  # of a slope: rows whose slopes differ by less are all scaled alike
_LOW_PRECISION = 0.003  # mean KL that 16-bit arithmetic gives; measured 0.0019 on SmolLM2-135M
_ROWS = frozenset(
    {
        "kl_mean", "kl_max", "top1_agreement", "clear_flips", "top1_margin", "logit_error",
        "logit_error_rel", "nll_rise", "nll_excess", "rank_max", "greedy_margin",
        "baseline_kl_mean", "baseline_error_rel", "slope_error", "baseline_slope_error",
    }
)  # fmt: skip
_TELLING = (
    ("token_mismatches", "tokenizer", "its tokenizer makes other tokens of the same text"),
    ("settings_errors", "tokenizer", "its end tokens are not the model's"),
    ("repeat_error_rel", "cache", "the same prompt asked again is answered differently"),
    ("draws_off", "sampling", "drawn tokens do not follow its own logits at that temperature"),
    ("log_prob_error", "sampling", "reported log-probabilities are not those of its own logits"),
    ("choice_margin", "sampling", "greedy choices are not the best of its own logits"),
)


def diagnose(
    checks: Sequence[Check], measurements: Measurements, *, dtype: str, method: str
) -> tuple[Area, ...]:
    """The areas that a verdict names, the likeliest first, two at most.

    Args:
        checks: Every gate; those that failed are what is explained.
        measurements: What they were made on.
        dtype: The build's.
        method: The quantisation method, `none` without.
    """
    failed = {check.metric for check in checks if not check.passed}
    found = [_area(area, why) for metric, area, why in _TELLING if metric in failed]
    if found:
        return _distinct(found)
    if any(prompt.nonfinite_rows for prompt in measurements.prompts):
        return _overflow(method)
    failed_rows = {name for name in failed if name in _ROWS or name.startswith("topk_error")}
    if not failed_rows and "batch_error_rel" in failed:
        return _company(measurements)
    if not failed_rows and "stop_errors" in failed:
        why = "only where texts end is wrong"
        return (_area("tokenizer", why), _area("sampling", why))
    return _by_rows(measurements, dtype=dtype, method=method)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Levels:
    """Mean divergence by kind of row: 0 where there is none.

    Attributes:
        lone: The first token of a prompt that has no other.
        first: The first token of longer prompts: in a causal model it sees only itself.
        near: Positions 4 to 7.
        far: Positions from 12.
        prefill: All of a prompt.
        decode: What was decoded.
    """

    lone: float
    first: float
    near: float
    far: float
    prefill: float
    decode: float


def _by_rows(measurements: Measurements, *, dtype: str, method: str) -> tuple[Area, ...]:
    if not any(_rows(prompt) for prompt in measurements.prompts):
        return ()  # a running endpoint shows no rows
    levels = _levels(measurements.prompts)
    noise = _TINY if dtype == "float32" and method == "none" else _ROUGH
    scaled = _scaled(measurements)
    if scaled:
        return (_area("sampling", scaled),)
    if levels.prefill <= _CLEAN * levels.decode / 2 and levels.decode > _TINY:
        why = f"prompts are read right, decoding is off (KL {levels.decode:.2g})"
        return (_area("positions", why), _area("cache", why))
    far = max(levels.far, levels.prefill)
    if levels.first <= min(max(noise, _FAINT * far), _CLEAN * far):
        return _growing(levels)
    if levels.lone <= _TINY < _CLEAN * levels.first:
        why = "the first token is right alone and wrong before others: it sees what follows it"
        return (_area("attention", why),)
    return _flat(measurements, dtype=dtype, method=method)


def _growing(levels: _Levels) -> tuple[Area, ...]:
    """The first token is right, or nearly; later ones are not.

    Positions leave the first token untouched. A wrong layer in the middle of a trained model may
    hardly move it, for its state is large; noise of few bits looks the same.
    """
    grown = f"(KL {levels.first:.1g} to {levels.far:.2g})"
    if levels.near <= _GRADUAL * max(levels.first, _TINY):
        why = f"right up to some distance, wrong beyond {grown}"
        return (_area("attention", why), _area("positions", why))
    if levels.first <= _TINY:
        why = f"the first token is right, later ones are not {grown}"
        return (_area("positions", why), _area("attention", why))
    why = f"the first token is nearly right, later ones are not {grown}"
    return (_area("weights", why), _area("positions", why))


def _flat(measurements: Measurements, *, dtype: str, method: str) -> tuple[Area, ...]:
    """Wrong at every position, the first too, where attention has nothing to choose from."""
    kl = measurements.overall("kl_mean").value
    base = measurements.overall("baseline_kl_mean").value
    own = measurements.overall("method_kl_mean").value
    gross = kl is not None and own is not None and kl > _GROSS * own
    if kl is not None and base is not None and base > kl and method != "none":
        why = "further from the method's own arithmetic than from float32"
        return (_area("quantisation", why), _area("weights", why))
    if method != "none" and not gross and base is not None:
        why = "the method's own error is in it, and another beside it"
        return (_area("weights", why), _area("quantisation", why))
    if method != "none" and not gross:
        why = "wrong at every position"
        return (_area("quantisation", why), _area("weights", why))
    if dtype == "float32" and kl is not None and kl <= _LOW_PRECISION:
        why = f"wrong at every position, by as much as 16-bit numbers are (mean KL {kl:.2g})"
        return (_area("quantisation", why), _area("weights", why))
    why = "wrong at every position, the first too"
    return (_area("weights", why), _area("attention", why))


def _overflow(method: str) -> tuple[Area, ...]:
    why = "NaN or infinity"
    if method == "none":
        return (_area("weights", why), _area("attention", why))
    return (_area("quantisation", f"{why}: numbers beyond what {method} holds"),)


def _company(measurements: Measurements) -> tuple[Area, ...]:
    """Prompts are right alone and wrong together: is the longest, which has no padding, too?"""
    together = [each for each in measurements.prompts if "batch_error_rel" in each.values]
    longest = max(each.prompt_tokens for each in together)
    errors = {
        each.prompt_tokens: each.values["batch_error_rel"] or 0.0
        for each in sorted(together, key=lambda each: each.values["batch_error_rel"] or 0.0)
    }
    if errors[longest] <= _CLEAN / 10 * max(errors.values()):
        why = "in company shorter prompts are wrong and the longest is not: padding is seen"
        return (_area("attention", why), _area("cache", why))
    why = "right alone, wrong in company, the longest prompt too"
    return (_area("cache", why), _area("attention", why))


def _scaled(measurements: Measurements) -> str | None:
    """Why the logits are the right ones times a number, if they are."""
    names = ("baseline_slope_error", "slope_error")
    name = next((each for each in names if measurements.overall(each).there), names[-1])
    slopes = [each for p in measurements.prompts if (each := p.values.get(name)) is not None]
    alike = measurements.overall("top1_agreement").value or 0.0
    if (
        not slopes
        or max(slopes) <= 0
        or alike < _SAME_CHOICES
        or max(slopes) - min(slopes) > _EVEN * max(slopes)
    ):
        return None
    return f"all logits are scaled alike, by {max(slopes):.3g} off 1"


def _levels(prompts: Iterable[PromptMeasurement]) -> _Levels:
    kinds: dict[str, list[float]] = {name: [] for name in _Levels.__slots__}
    for prompt in prompts:
        for place, value in _rows(prompt):
            for kind in _kinds(prompt.prompt_tokens, place):
                kinds[kind].append(value)
    return _Levels(**{name: sum(found) / max(len(found), 1) for name, found in kinds.items()})


def _rows(prompt: PromptMeasurement) -> list[tuple[float, float]]:
    """Position and divergence of each row: from the baseline where there is one."""
    series = prompt.series
    values = series.get("baseline_kl") or series.get("kl", ())
    both = zip(series.get("position", ()), values, strict=False)
    return [(place, value) for place, value in both if place is not None and value is not None]


def _kinds(tokens: int, place: float) -> tuple[str, ...]:
    if place >= tokens:
        return ("decode",)
    if place == 0:
        return ("lone",) if tokens == 1 else ("first",)
    if place in _NEAR:
        return ("near", "prefill")
    return ("far", "prefill") if place >= _FAR else ("prefill",)


def _area(name: str, evidence: str) -> Area:
    return Area(name=name, evidence=evidence)


def _distinct(found: Iterable[Area]) -> tuple[Area, ...]:
    first: dict[str, Area] = {}
    for area in found:
        first.setdefault(area.name, area)
    return tuple(first.values())[:2]
