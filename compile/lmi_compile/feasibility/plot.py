"""A picture of the answer: memory of one rank, and the ceiling of throughput against batch."""

from dataclasses import replace
from pathlib import Path

import matplotlib as mpl  # noqa: TID253 - imported when --plot is given
from matplotlib.axes import Axes  # noqa: TID253 - the same
from matplotlib.figure import Figure  # noqa: TID253 - the same

from lmi_compile.feasibility.memory import memory_of
from lmi_compile.feasibility.placement import degrees_of
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.roofline import ceiling, critical_batch, speeds_of
from lmi_compile.feasibility.throughput import expected

_KINDS = ("weights", "runtime_reserve", "activations", "logits", "kv_cache")
_BATCHES = tuple(1 << power for power in range(11))


def draw(question: Question, name: str, path: Path) -> None:
    """Write the picture as PNG.

    Args:
        question: what was asked.
        name: of the recipe.
        path: where the picture goes.

    Raises:
        OSError: it cannot be written there.
    """
    mpl.use("agg")
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _memory(left, question)
    _throughput(right, question)
    figure.suptitle(name)
    figure.savefig(path, format="png", dpi=120)


def _memory(axes: Axes, question: Question) -> None:
    degrees = degrees_of(question) or (question.tensor_parallel,)
    parts = [memory_of(replace(question, tensor_parallel=one)).to_json() for one in degrees]
    labels = [str(one) for one in degrees]
    bottom = [0.0] * len(degrees)
    for kind in _KINDS:
        sizes = [_number(part[kind]) / 1e9 for part in parts]
        axes.bar(labels, sizes, bottom=bottom, label=kind.replace("_", " "))
        bottom = [below + size for below, size in zip(bottom, sizes, strict=True)]
    if question.rank_bytes is not None:
        axes.axhline(question.rank_bytes / 1e9, color="black", linestyle="--", label="capacity")
    axes.set_xlabel("tensor parallel degree")
    axes.set_ylabel("GB on one rank, asked batch at full length")
    axes.legend(fontsize="small")


def _throughput(axes: Axes, question: Question) -> None:
    speeds = speeds_of(question)
    roof = [(batch, ceiling(question, speeds, batch)) for batch in _BATCHES]
    known = [(batch, rate) for batch, rate in roof if rate is not None]
    if not known or not question.shape.generates:
        axes.text(0.5, 0.5, "UNKNOWN", ha="center", va="center", transform=axes.transAxes)
        return
    axes.plot([one for one, _ in known], [rate for _, rate in known], label="ceiling")
    reached = [(batch, found[0]) for batch in _BATCHES if (found := expected(question, batch))]
    axes.plot([one for one, _ in reached], [rate for _, rate in reached], label="expected")
    critical = critical_batch(question, speeds)
    if critical is not None:
        axes.axvline(critical, color="gray", linestyle=":", label=f"critical batch {critical}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("requests at a time")
    axes.set_ylabel("output tokens/s of one replica")
    axes.legend(fontsize="small")


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
