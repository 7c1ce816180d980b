"""The test of a task: two sides answer the same questions, so only those count where they differ.

Light and exact: sums of binomial chances, no approximation by a normal distribution.
"""

import math
from dataclasses import dataclass

CONFIDENCE = 0.95
_HALVINGS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOutcome:
    """A task, answered by both sides.

    Attributes:
        name: The recipe's.
        source: Where its questions are from.
        questions: How many were asked.
        reference: The share that the reference has right.
        candidate: The share that the build has right.
        lost: Questions that the reference has right and the build wrong.
        gained: The other way round.
        drop: Points lost: (lost - gained) per 100 questions.
        least_drop: Its lower bound with 95 % confidence, in points; what the gate is held against.
        max_drop: The gate, in points.
        p_value: Of McNemar's exact test, one-sided: by chance so many are lost.
    """

    name: str
    source: str
    questions: int
    reference: float
    candidate: float
    lost: int
    gained: int
    drop: float
    least_drop: float
    max_drop: float
    p_value: float


def at_least(hits: int, trials: int, chance: float) -> float:
    """The chance of `hits` or more in so many independent trials (binomial upper tail)."""
    if hits <= 0:
        return 1.0
    if chance <= 0.0 or chance >= 1.0:
        return float(chance >= 1.0)
    yes, no = math.log(chance), math.log1p(-chance)
    whole = math.lgamma(trials + 1)
    terms = (
        whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * yes + (trials - k) * no
        for k in range(hits, trials + 1)
    )
    return min(math.fsum(map(math.exp, terms)), 1.0)


def mcnemar(lost: int, gained: int) -> float:
    """The one-sided exact p-value of McNemar's test (1947).

    The chance of so many lost questions, or more, among those that are answered differently, if
    losing and gaining were equally likely.
    """
    return at_least(lost, lost + gained, 0.5)


def least_drop(lost: int, gained: int, questions: int) -> float:
    """The lower bound, with 95 % confidence, of the share of questions that a build loses.

    One-sided Clopper-Pearson (1934) for the share of losses among the questions that are answered
    differently, whose number is taken as given: above 0 exactly where `mcnemar` is below 0.05.

    Args:
        lost: Right on the reference, wrong on the build.
        gained: The other way round.
        questions: All of them.
    """
    apart = lost + gained
    if not lost:
        return -apart / questions
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if at_least(lost, apart, middle) < 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return apart / questions * (2 * low - 1)
