"""One machine, several ways to share it: tensor parallel degrees times replicas."""

from dataclasses import dataclass, replace

from lmi_artifacts.digest import JSONValue
from lmi_compile.feasibility.memory import Memory, memory_of
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.roofline import ceiling, decode_seconds, speeds_of
from lmi_compile.feasibility.rules import degree_is_possible
from lmi_compile.feasibility.throughput import expected

_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A degree with as many replicas as the machine holds.

    Attributes:
        alone: seconds per token of a single request; None where a figure is UNKNOWN.
        rate: output tokens per second of all replicas, each at the recipe's batch.
        roof_alone: the ceiling of the one: the shortest decode step of a single request.
        roof: the ceiling of the other.
    """

    degree: int
    replicas: int
    fits: bool
    alone: float | None
    rate: float | None
    roof_alone: float | None
    roof: float | None

    def to_json(self, price: float | None) -> dict[str, JSONValue]:
        """As `plan --json` shows it, with the cost of a million tokens where a price is given."""
        cost = None if price is None or not self.rate else dollars_per_million(price, self.rate)
        return {
            "tensor_parallel_degree": self.degree,
            "replicas": self.replicas,
            "fits": self.fits,
            "seconds_per_token_alone": self.alone,
            "tokens_per_second": self.rate,
            "ceiling_tokens_per_second": self.roof,
            "usd_per_million_tokens": cost,
        }


def dollars_per_million(price: float, rate: float) -> float:
    """1e6 / tokens per second / 3600 * price of an hour."""
    return 1e6 / rate / _HOUR * price


def degrees_of(question: Question) -> tuple[int, ...]:
    """The degrees that the machine has the ranks for and the model can be split by."""
    instance = question.instance
    if instance is None or not instance.ranks:
        return (question.tensor_parallel,)
    known = instance.tensor_parallel_degrees or tuple(
        1 << power for power in range(instance.ranks.bit_length())
    )
    asked = {*known, question.tensor_parallel, instance.ranks}
    room = instance.ranks // question.pipeline_parallel
    return tuple(
        degree
        for degree in sorted(asked)
        if degree <= room and degree_is_possible(replace(question, tensor_parallel=degree))
    )


def placements(question: Question) -> tuple[Placement, ...]:
    """Every way to share the machine, by degree."""
    return tuple(_place(replace(question, tensor_parallel=one)) for one in degrees_of(question))


def holds(question: Question, memory: Memory) -> bool | None:
    """Whether it fits: paged, with one whole sequence; static, with the whole batch."""
    if memory.capacity is None:
        return None
    if question.is_paged:
        logits = memory.logits // max(1, question.batch)
        return memory.fixed + logits + memory.sequence <= memory.capacity
    return memory.total <= memory.capacity


def best(found: tuple[Placement, ...], *, for_latency: bool) -> Placement | None:
    """The best placement that fits; of equals the one with fewer ranks to a replica.

    By what is expected of a server; where that is UNKNOWN for one of them, by the ceilings.
    """
    usable = [one for one in found if one.fits]
    if any(one.rate is None or one.alone is None for one in usable):
        usable = [one for one in usable if one.roof and one.roof_alone]
        if for_latency:
            return min(usable, key=lambda one: one.roof_alone or 0.0, default=None)
        return max(usable, key=lambda one: one.roof or 0.0, default=None)
    if for_latency:
        return min(usable, key=lambda one: one.alone or 0.0, default=None)
    return max(usable, key=lambda one: one.rate or 0.0, default=None)


def _place(question: Question) -> Placement:
    fits = bool(holds(question, memory_of(question)))
    ranks = question.instance.ranks if question.instance else question.ranks
    replicas = max(1, ranks // question.ranks)
    works = fits and question.shape.generates
    speeds = speeds_of(question)
    alone = expected(question, 1) if works else None
    full = expected(question, question.batch) if works else None
    roof = ceiling(question, speeds, question.batch) if works else None
    return Placement(
        degree=question.tensor_parallel,
        replicas=replicas,
        fits=fits,
        alone=alone[1] if alone else None,
        rate=full[0] * replicas if full else None,
        roof_alone=decode_seconds(question, speeds, 1) if works else None,
        roof=roof * replicas if roof else None,
    )
