"""What is measured on a candidate: the metrics by name, and their values for each prompt.

Light: the judge reads these without numpy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, assert_never

Direction: TypeAlias = Literal["at_most", "at_least"]
Over: TypeAlias = Literal["worst", "rows", "sum"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A measured quantity.

    Attributes:
        name: Its name in gates, recipes and verdicts.
        title: A few words for a table.
        direction: Which side of a limit is good.
        over: How prompts make one value: the `worst` prompt's, the mean over all `rows`
            (positions) of all prompts, or their `sum`.
    """

    name: str
    title: str
    direction: Direction = "at_most"
    over: Over = "worst"


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
            title="rise of the text's negative log-likelihood, nats (ln 1.1: +10 % perplexity)",
            over="rows",
        ),
        Metric(name="top1_agreement", title="top-1 agreement", direction="at_least", over="rows"),
        Metric(name="top1_margin", title="reference's margin where top-1 differs / max |logit|"),
        Metric(name="greedy_divergences", title="greedy continuations that differ", over="sum"),
        Metric(name="greedy_margin", title="reference's margin at divergence / max |logit|"),
        Metric(name="stop_errors", title="continuations stopped wrongly", over="sum"),
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
        rows: Positions compared: every prompt position and every forced one.
        values: By metric name; None where no row had finite logits.
        divergence: Of the greedy continuation, if any.
        nonfinite_rows: Candidate rows that hold NaN or infinity; left out of `values`.
        flat_rows: Candidate rows whose logits are all equal where the reference's are not.
        frozen: The candidate's logits are bit for bit the same at every position of the prompt or
            of the continuation, where the reference's are not.
        identical_rows: Candidate rows that are bit for bit the reference's.
    """

    id: str
    rows: int
    values: Mapping[str, float | None]
    divergence: Divergence | None
    nonfinite_rows: int
    flat_rows: int
    frozen: bool
    identical_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A metric over all prompts, and the prompt that is worst in it (None when all are equal)."""

    value: float | None
    prompt: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """All values of one comparison, and the prompts they were made on."""

    prompts_version: str
    prompts_digest: str
    prompts: tuple[PromptMeasurement, ...]

    def overall(self, name: str) -> Measured:
        """The metric over all prompts; its value is None when any prompt has none."""
        metric = METRICS[name]
        known: list[tuple[PromptMeasurement, float]] = []
        for prompt in self.prompts:
            value = prompt.values.get(name)
            if value is None:
                return Measured(value=None, prompt=prompt.id)
            known.append((prompt, value))
        if not known:
            return Measured(value=None, prompt=None)
        sign = 1.0 if metric.direction == "at_most" else -1.0
        worst, extreme = max(known, key=lambda pair: sign * pair[1])
        match metric.over:
            case "worst":
                value = extreme
            case "sum":
                value = sum(each for _, each in known)
            case "rows":
                rows = sum(prompt.rows for prompt, _ in known)
                value = sum(prompt.rows * each for prompt, each in known) / rows
            case _:
                assert_never(metric.over)
        alike = all(each == extreme for _, each in known)
        return Measured(value=value, prompt=None if alike else worst.id)
