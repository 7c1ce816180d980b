"""What a server reaches, not what the silicon allows: the roofline plus what was measured.

A decode step of `b` sequences on `n` ranks takes

    reading weights and cache / bandwidth                       the roofline
  + layers * LAUNCH                                             launching kernels, layer by layer
  + 2 * layers * log2(n) * HOP                                  latency of two all-reduces a layer
  + 2 * layers * 2 (n - 1) / n * bytes / link                   their traffic, as a ring
  + b * (SEQUENCE + (n - 1) * SEQUENCE_RANK)                    the server's work for each sequence
  + b * prompt FLOPs / output tokens / FLOPS / PREFILL          the prefills, spread over the steps

The five constants in capitals are fitted on the Llama 2 7B sweep of the reference tables alone
(`benchmarks/planner_error.py`); the 13B sweep and the g5 tables only judge them. docs/planner.md
has the error.
"""

import math
from dataclasses import dataclass

from lmi_compile.feasibility.memory import (
    kv_bytes,
    largest_batch_with_reserve,
    memory_of,
)
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.roofline import (
    Speeds,
    decode_memory_seconds,
    mean_length,
    speeds_of,
)
from lmi_compile.feasibility.tables import DTYPE_BYTES, KV_FRACTION


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """What is fitted, in seconds; `prefill` is the share of the FLOPS that a prefill reaches."""

    launch: float
    hop: float
    sequence: float
    sequence_rank: float
    prefill: float


FITTED = Constants(
    launch=2.094e-4, hop=6.798e-5, sequence=6.782e-5, sequence_rank=2.124e-5, prefill=0.1746
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A step's parts: the roofline's, and what each constant multiplies."""

    batch: float
    base: float
    launch: float
    hop: float
    sequence: float
    sequence_rank: float
    prefill: float

    def seconds(self, constants: Constants) -> float:
        """The whole step."""
        return (
            self.base
            + self.launch * constants.launch
            + self.hop * constants.hop
            + self.sequence * constants.sequence
            + self.sequence_rank * constants.sequence_rank
            + self.prefill / constants.prefill
        )


def terms_of(question: Question, speeds: Speeds, concurrency: int) -> Terms | None:
    """The parts of one decode step with its share of prefills; None where a figure is UNKNOWN.

    It is UNKNOWN off NVIDIA too: the constants are those of a server on GPUs.
    """
    degree, shape = question.tensor_parallel, question.shape
    accelerator = question.instance.accelerator if question.instance else None
    if accelerator is None or accelerator.vendor != "nvidia":
        return None
    if speeds.flops is None or speeds.bandwidth is None or (speeds.link is None and degree > 1):
        return None
    batch = min(float(concurrency), room_with_reserve(question))
    if batch <= 0:
        return None
    layers = max(1, shape.layers)
    tokens = batch * (1 + question.input_len / question.output_len)
    traffic = 2 * layers * 2 * (degree - 1) / degree * tokens * shape.hidden
    traffic *= DTYPE_BYTES[question.dtype]
    arithmetic = 2 * shape.active_parameters * question.input_len * batch / question.output_len
    return Terms(
        batch=batch,
        base=decode_memory_seconds(question, speeds.bandwidth, batch)
        + (traffic / speeds.link if speeds.link else 0.0),
        launch=float(layers),
        hop=2 * layers * math.log2(degree),
        sequence=batch,
        sequence_rank=batch * (degree - 1),
        prefill=arithmetic / (speeds.flops * question.ranks),
    )


def expected(
    question: Question, concurrency: int, constants: Constants = FITTED
) -> tuple[float, float] | None:
    """Output tokens per second of one replica, and seconds per token that a client waits.

    Args:
        question: what is asked.
        concurrency: requests that are always there.
        constants: other than the fitted ones, for fitting them.
    """
    terms = terms_of(question, speeds_of(question), concurrency)
    if terms is None:
        return None
    rate = terms.batch / terms.seconds(constants)
    return rate, concurrency / rate


def room_with_reserve(question: Question) -> float:
    """Sequences that run together: at mean length where the cache is paged, else at full."""
    memory = memory_of(question)
    if not question.is_paged:
        most = largest_batch_with_reserve(question, memory)
        return math.inf if most is None else float(most)
    each = kv_bytes(question, mean_length(question))
    if memory.capacity is None or each == 0:
        return math.inf
    return max(0.0, KV_FRACTION * (memory.capacity - memory.fixed) / each)
