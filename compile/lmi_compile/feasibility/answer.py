"""The whole answer to a question, as `plan --json` prints it."""

from dataclasses import dataclass

from lmi_artifacts.digest import JSONValue
from lmi_compile.feasibility.advice import advice
from lmi_compile.feasibility.building import building_json, building_warnings, gigabytes
from lmi_compile.feasibility.memory import (
    Memory,
    largest_batch,
    largest_batch_with_reserve,
    largest_length,
    memory_of,
)
from lmi_compile.feasibility.placement import (
    Placement,
    best,
    dollars_per_million,
    holds,
    placements,
)
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.roofline import critical_batch, roofline_json, speeds_of
from lmi_compile.feasibility.rules import findings
from lmi_compile.feasibility.throughput import expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether it can be, and everything against it.

    Attributes:
        fits: None when the machine's memory is not known.
        problems: `(field, sentence)`, what makes it impossible.
        warnings: `(field, sentence)`, what one should know.
        whole_batch: the asked batch fits at full length.
    """

    fits: bool | None
    problems: tuple[tuple[str, str], ...]
    warnings: tuple[tuple[str, str], ...]
    whole_batch: bool


def judge(question: Question, memory: Memory) -> Verdict:
    """Hold the question against the rules and the memory."""
    found = findings(question)
    problems = [(field, text) for level, field, text in found if level == "problem"]
    warnings = [(field, text) for level, field, text in found if level == "warning"]
    fits = holds(question, memory)
    if fits is False:
        wrong_machine = any(field == "target" for field, _ in problems)
        problems.insert(1 if wrong_machine else 0, ("target", _shortage(question, memory)))
    if not question.shape.exact:
        text = "the family is not known: weights are bounded from above by the files' headers"
        warnings.append(("model", text))
    most = largest_batch_with_reserve(question, memory)
    whole = most is None or most >= question.batch
    if fits and not whole:
        what = f"{question.batch} sequences of {question.seq_len} tokens do not fit at once"
        warnings.append(("shapes.max_batch_size", f"{what}: {most} do"))
    warnings += [("target", text) for text in building_warnings(question)]
    return Verdict(
        fits=False if problems else fits,
        problems=tuple(problems),
        warnings=tuple(warnings),
        whole_batch=whole,
    )


def answer(question: Question, *, price: float | None = None) -> dict[str, JSONValue]:
    """Everything that `plan` says beside the steps.

    Args:
        question: what is asked.
        price: of the machine for an hour, in US dollars.
    """
    memory = memory_of(question)
    verdict = judge(question, memory)
    ways = placements(question)
    most = largest_batch_with_reserve(question, memory)
    return {
        "fits": verdict.fits,
        "problems": _listed(verdict.problems),
        "warnings": _listed(verdict.warnings),
        "model": _model(question),
        "target": _target(question),
        "memory_per_rank": memory.to_json(),
        "kv_bytes_per_sequence": memory.sequence,
        "max_batch_size_that_fits": largest_batch(memory),
        "max_batch_size_with_reserve": most,
        "max_seq_len_that_fits": largest_length(question, memory),
        "critical_batch_size": critical_batch(question, speeds_of(question)),
        "roofline": roofline_json(question, most),
        "expected": _expected(question, verdict, ways, price),
        "placements": [way.to_json(price) for way in ways],
        "best_for_latency": _degree(best(ways, for_latency=True)),
        "best_for_throughput": _degree(best(ways, for_latency=False)),
        "suggestions": _changes(question, verdict),
        "other_backends": list(advice(question)),
        "build": building_json(question),
        "device_steps": list(question.facts.on_device if question.vendors else ()),
    }


def no_answer() -> dict[str, JSONValue]:
    """The same keys where there is no model to compute with: everything is UNKNOWN."""
    empty: list[JSONValue] = []
    unknown = (
        "fits", "model", "target", "memory_per_rank", "kv_bytes_per_sequence",
        "max_batch_size_that_fits", "max_batch_size_with_reserve", "max_seq_len_that_fits",
        "critical_batch_size", "roofline", "expected", "best_for_latency", "best_for_throughput",
        "build",
    )  # fmt: skip
    lists = ("problems", "warnings", "placements", "suggestions", "other_backends", "device_steps")
    return dict.fromkeys(unknown) | {name: list(empty) for name in lists}


def _changes(question: Question, verdict: Verdict) -> list[JSONValue]:
    """What would make it fit; or, where it fits, what makes room for the whole batch."""
    if verdict.fits is None or (verdict.fits and verdict.whole_batch):
        return []
    from lmi_compile.feasibility.suggest import suggestions  # noqa: PLC0415 - most recipes fit

    return [one.to_json() for one in suggestions(question, whole_batch=verdict.fits)]


def _shortage(question: Question, memory: Memory) -> str:
    name = question.instance.accelerator.name if question.instance and (
        question.instance.accelerator) else "device"  # fmt: skip
    paged = question.is_paged
    cache = memory.sequence if paged else memory.kv_cache
    need = memory.fixed + cache + memory.logits // (max(1, question.batch) if paged else 1)
    what = "one sequence" if paged else f"{question.batch} sequences"
    over = need - (memory.capacity or 0)
    return (
        f"does not fit: weights {gigabytes(memory.weights)}, reserves "
        f"{gigabytes(memory.fixed - memory.weights)}, {what} of {question.seq_len} tokens "
        f"{gigabytes(cache)} are {gigabytes(over)} more than the {gigabytes(memory.capacity or 0)}"
        f" of one {name} rank"
    )


def _expected(
    question: Question, verdict: Verdict, ways: tuple[Placement, ...], price: float | None
) -> dict[str, JSONValue] | None:
    """The asked placement at the asked batch, by the fitted model; None where it is UNKNOWN."""
    if not verdict.fits or not question.shape.generates:
        return None
    full = expected(question, question.batch)
    way = next((one for one in ways if one.degree == question.tensor_parallel), None)
    if full is None or way is None or way.rate is None:
        return None
    cost = None if price is None else dollars_per_million(price, way.rate)
    return {
        "tokens_per_second_of_one_replica": full[0],
        "seconds_per_token": full[1],
        "replicas": way.replicas,
        "tokens_per_second": way.rate,
        "usd_per_hour": price,
        "usd_per_million_tokens": cost,
    }


def _model(question: Question) -> dict[str, JSONValue]:
    shape = question.shape
    return {
        "model_type": shape.model_type,
        "parameters": shape.parameters,
        "active_parameters": shape.active_parameters,
        "exact": shape.exact,
        "layers": shape.layers,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "max_positions": shape.max_positions,
    }


def _target(question: Question) -> dict[str, JSONValue] | None:
    instance = question.instance
    if instance is None:
        return None
    device = instance.accelerator
    return {
        "instance_type": instance.name,
        "accelerator": device.name if device else None,
        "devices": instance.devices,
        "ranks": instance.ranks,
        "tensor_parallel_degree": question.tensor_parallel,
        "pipeline_parallel_degree": question.pipeline_parallel,
        "memory_bytes_per_rank": device.rank_bytes if device else None,
        "memory_bandwidth_per_rank": device.rank_bandwidth if device else None,
        "link": device.link if device else None,
    }


def _listed(found: tuple[tuple[str, str], ...]) -> list[JSONValue]:
    return [{"field": field, "message": text} for field, text in found]


def _degree(way: Placement | None) -> dict[str, JSONValue] | None:
    return None if way is None else {
        "tensor_parallel_degree": way.degree, "replicas": way.replicas,
    }  # fmt: skip
