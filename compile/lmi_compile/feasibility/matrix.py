"""Which machines can serve a model, with the best degree for each."""

from dataclasses import replace

from lmi_artifacts.digest import JSONValue
from lmi_compile.feasibility.answer import judge
from lmi_compile.feasibility.memory import largest_batch_with_reserve, memory_of
from lmi_compile.feasibility.placement import best, placements
from lmi_compile.feasibility.question import Question
from lmi_recipes.instance import Instance, instance_names, read_instance
from lmi_recipes.model import BackendName

_BACKENDS: dict[str, BackendName] = {"nvidia": "tensorrt-llm", "aws": "neuron"}


def every_target(question: Question) -> list[JSONValue]:
    """One row for each instance type, in the catalogue's order."""
    return [_row(_there(question, read_instance(name))) for name in instance_names()]


def _there(question: Question, instance: Instance) -> Question:
    """The same question on another machine.

    Where the recipe's backend does not run there, the one that does is asked, with no toolchain of
    its own, because the recipe names none.
    """
    moved = replace(question, instance=instance)
    vendor = instance.accelerator.vendor if instance.accelerator else None
    if vendor is None or vendor in question.vendors:
        return moved
    return replace(moved, backend=_BACKENDS[vendor], toolchain="", sm=(), neuron=())


def _row(question: Question) -> dict[str, JSONValue]:
    """The best degree that the machine can serve the model with, or why there is none.

    The best is the fastest at the recipe's batch; where a figure for that is missing, the smallest
    degree that fits.
    """
    assert question.instance is not None  # noqa: S101 - the caller puts it there
    device = question.instance.accelerator
    row: dict[str, JSONValue] = {
        "instance_type": question.instance.name,
        "accelerator": device.name if device else None,
        "ranks": question.instance.ranks,
        "backend": question.backend if device else None,
    }
    ways = [
        way
        for way in placements(question)
        if way.fits and _works(replace(question, tensor_parallel=way.degree))
    ]
    if not ways:
        problems = judge(question, memory_of(question)).problems
        why = problems[0][1] if problems else "nothing is known of its accelerator"
        return row | {
            "fits": False if problems else None,
            "why": why,
            "tensor_parallel_degree": None,
            "replicas": None,
            "max_batch_size_with_reserve": None,
            "tokens_per_second": None,
        }
    chosen = best(tuple(ways), for_latency=False) or ways[0]
    there = replace(question, tensor_parallel=chosen.degree)
    return row | {
        "fits": True,
        "why": None,
        "tensor_parallel_degree": chosen.degree,
        "replicas": chosen.replicas,
        "max_batch_size_with_reserve": largest_batch_with_reserve(there, memory_of(there)),
        "tokens_per_second": chosen.rate,
    }


def _works(question: Question) -> bool:
    return judge(question, memory_of(question)).fits is True
