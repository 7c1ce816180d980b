"""What is measured on a candidate: the metrics by name, and their values for each prompt.

Light: the judge reads these without numpy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, assert_never

Direction: TypeAlias = Literal["at_most", "at_least"]
Scope: TypeAlias = Literal["logits", "generation", "outputs"]
Over: TypeAlias = Literal["worst", "rows", "sum", "corpus", "whole"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A measured quantity.

    Attributes:
        name: Its name in gates, recipes and verdicts.
        title: A few words for a table.
        direction: Which side of a limit is good.
        over: How prompts make one value: the `worst` prompt's, the mean over all `rows`
            (positions) of all prompts, their `sum`, or the mean over all tokens of the `corpus`;
            or it is one value of the `whole` comparison.
        noisy: It scatters around zero for right builds too, so it breaks a limit only when its
            whole interval does.
    """

    name: str
    title: str
    direction: Direction = "at_most"
    over: Over = "worst"
    noisy: bool = False


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="logit_error", title="max |logit error|"),
        Metric(name="logit_error_rel", title="max |logit error| / max |logit|"),
        Metric(name="logit_error_rel_prefill", title="max |logit error| / max |logit|, prefill"),
        Metric(name="logit_error_rel_decode", title="max |logit error| / max |logit|, decode"),
        Metric(name="topk_error_5", title="relative error, top 5"),
        Metric(name="topk_error_50", title="relative error, top 50"),
        Metric(name="topk_error_1000", title="relative error, top 1000"),
        Metric(name="topk_error_all", title="relative error, all logits by position"),
        Metric(name="kl_mean", title="KL(reference || candidate), mean, nats", over="rows"),
        Metric(name="kl_max", title="KL(reference || candidate), max, nats"),
        Metric(
            name="nll_rise",
            title="rise of the corpus's negative log-likelihood, nats (ln 1.1: +10 % perplexity)",
            over="corpus",
            noisy=True,
        ),
        Metric(
            name="top1_agreement",
            title="top-1 agreement",
            direction="at_least",
            over="rows",
            noisy=True,
        ),
        Metric(
            name="clear_flips",
            title="choices that the reference has 0.5 nats or more behind, share",
            over="rows",
            noisy=True,
        ),
        Metric(name="top1_margin", title="reference's margin where top-1 differs / max |logit|"),
        Metric(name="greedy_divergences", title="greedy continuations that differ", over="sum"),
        Metric(name="greedy_margin", title="reference's margin at divergence / max |logit|"),
        Metric(name="stop_errors", title="continuations stopped wrongly", over="sum"),
        Metric(name="rank_max", title="worst rank of the reference's token"),
        Metric(name="slope_error", title="|slope of the logits over the reference's - 1|"),
        Metric(name="choice_margin", title="own margin of greedy choices that are not its best"),
        Metric(name="log_prob_error", title="reported log-probabilities off the logits, nats"),
        Metric(name="repeat_error_rel", title="same prompt asked again: error / max |logit|"),
        Metric(name="batch_error_rel", title="same prompt in company: error / max |logit|"),
        Metric(name="output_error_rel", title="max |output error| / max |output|"),
        Metric(name="pixel_error", title="max |pixel error| of the preparation of pictures"),
        Metric(name="token_mismatches", title="texts with other tokens", over="sum"),
        Metric(name="settings_errors", title="end tokens that differ", over="whole"),
        Metric(
            name="draws_off", title="drawn tokens off softmax(logits / t), deviations", over="whole"
        ),
        Metric(name="reported_error", title="reported log-probability off the reference's, nats"),
        Metric(
            name="reported_error_mean",
            title="reported log-probability off the reference's, mean, nats",
            over="rows",
        ),
        Metric(name="method_kl_mean", title="KL(reference || baseline), mean, nats", over="rows"),
        Metric(name="baseline_kl_mean", title="KL(baseline || candidate), mean, nats", over="rows"),
        Metric(name="baseline_error_rel", title="max |error to the baseline| / max |logit|"),
        Metric(name="baseline_slope_error", title="|slope of the logits over the baseline's - 1|"),
        Metric(
            name="nll_excess",
            title="the corpus's negative log-likelihood above the baseline's, nats",
            over="corpus",
            noisy=True,
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Where a greedy continuation leaves the reference's.

    Attributes:
        index: First differing position of the continuation.
        reference_id: The reference's token there.
        candidate_id: The candidate's token there.
        margin: The reference's best logit minus its second, relative to the prompt's max |logit|.
        gap: The reference's best logit minus its logit of the candidate's token, relative to the
            same; equals `margin` when the candidate took the second-best, else it is larger.
    """

    index: int
    reference_id: int
    candidate_id: int
    margin: float
    gap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMeasurement:
    """The values of one prompt.

    Attributes:
        id: The prompt's.
        rows: Positions compared: those of the prompt, then every forced one.
        values: By metric name; None where no row had finite logits, absent where the metric is
            not of this prompt or the candidate does not show what it needs.
        divergence: Of the greedy continuation, if any.
        nonfinite_rows: Candidate rows that hold NaN or infinity; left out of `values`.
        flat_rows: Candidate rows whose logits are all equal where the reference's are not.
        frozen: The candidate's logits are bit for bit the same at every position of the prompt or
            of the continuation, where the reference's are not.
        identical_rows: Candidate rows that are bit for bit the reference's.
        tokens: Tokens whose likelihood was measured.
        prompt_tokens: Tokens of the prompt.
        series: By row: `position`, `error_rel`, `kl`, `rank`, with a baseline `baseline_kl`; NaN is
            None.
        reference_pieces: The text of each token of the reference's continuation.
        candidate_pieces: Of the candidate's, where it tells.
    """

    id: str
    rows: int
    values: Mapping[str, float | None]
    divergence: Divergence | None
    nonfinite_rows: int
    flat_rows: int
    frozen: bool
    identical_rows: int
    tokens: int = 0
    prompt_tokens: int = 0
    series: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    reference_pieces: tuple[str, ...] = ()
    candidate_pieces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A metric over all prompts.

    Attributes:
        value: None when any prompt that has it has no number, or when no prompt has it.
        prompt: The prompt that is worst in it; None when all are equal.
        there: Whether it is measured at all.
        low: Where a noisy metric's interval begins.
        high: Where it ends.
    """

    value: float | None
    prompt: str | None
    there: bool = True
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """All values of one comparison, and the prompts they were made on.

    Attributes:
        prompts_version: Of the prompt set.
        prompts_digest: Of the reference's tokens.
        prompts: By prompt.
        whole: Metrics of the whole comparison, by name.
        intervals: 95 % intervals of noisy metrics, by name.
        perplexity: On the corpus, of `reference`, `baseline`, `candidate`.
        scatter: Pairs of logits, the reference's and the candidate's, spread over all rows.
        shown: What the candidate wrote beside logits and continuations.
    """

    prompts_version: str
    prompts_digest: str
    prompts: tuple[PromptMeasurement, ...]
    whole: Mapping[str, float | None] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    perplexity: Mapping[str, float] = field(default_factory=dict)
    scatter: tuple[tuple[float, float], ...] = ()
    shown: tuple[str, ...] = ()

    def overall(self, name: str) -> Measured:
        """The metric over all prompts."""
        metric = METRICS[name]
        if metric.over == "whole":
            return Measured(value=self.whole.get(name), prompt=None, there=name in self.whole)
        known: list[tuple[PromptMeasurement, float]] = []
        for prompt in self.prompts:
            if name not in prompt.values:
                continue
            value = prompt.values[name]
            if value is None:
                return Measured(value=None, prompt=prompt.id)
            known.append((prompt, value))
        if not known:
            return Measured(value=None, prompt=None, there=False)
        sign = 1.0 if metric.direction == "at_most" else -1.0
        worst, extreme = max(known, key=lambda pair: sign * pair[1])
        low, high = self.intervals.get(name, (None, None))
        alike = all(each == extreme for _, each in known)
        return Measured(
            value=_over(metric.over, known, extreme),
            prompt=None if alike else worst.id,
            low=low,
            high=high,
        )


def _over(over: Over, known: list[tuple[PromptMeasurement, float]], extreme: float) -> float:
    match over:
        case "worst" | "whole":
            return extreme
        case "sum":
            return sum(each for _, each in known)
        case "rows":
            return _mean([(prompt.rows, each) for prompt, each in known])
        case "corpus":
            return _mean([(prompt.tokens, each) for prompt, each in known])
        case _:
            assert_never(over)


def _mean(weighted: list[tuple[int, float]]) -> float:
    return sum(weight * each for weight, each in weighted) / sum(weight for weight, _ in weighted)
