"""Ceilings: what memory bandwidth and arithmetic allow at best, and where they meet."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmi_artifacts.digest import JSONValue
from lmi_compile.feasibility.memory import kv_bytes, weight_bytes, weight_value_bytes
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.tables import DTYPE_BYTES, DTYPE_COMPUTE, FORMATS

if TYPE_CHECKING:
    from lmi_recipes.instance import ComputeType


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """What one rank can do; None is UNKNOWN.

    Attributes:
        flops: operations per second in the type the weights are multiplied in.
        bandwidth: bytes per second from its own memory.
        link: bytes per second to another rank of the machine, one direction.
    """

    flops: float | None
    bandwidth: float | None
    link: float | None


def speeds_of(question: Question) -> Speeds:
    """The speeds of the question's machine."""
    accelerator = question.instance.accelerator if question.instance else None
    if accelerator is None:
        return Speeds(flops=None, bandwidth=None, link=None)
    link = accelerator.link_gbps
    return Speeds(
        flops=accelerator.rank_flops(compute_type(question)),
        bandwidth=accelerator.rank_bandwidth,
        link=None if link is None else link * 1e9,
    )


def compute_type(question: Question) -> "ComputeType":
    """The type that the linear layers multiply in."""
    form = FORMATS[question.method]
    return (form.compute if form else None) or DTYPE_COMPUTE[question.dtype]


def critical_batch(question: Question, speeds: Speeds) -> int | None:
    """The batch at which a decode step stops being bound by reading the weights.

    B* = FLOPS / bandwidth * bytes per weight / 2 operations per weight; the number of ranks
    cancels. Attention over the cache is not in it: it is bound by memory at any batch.
    """
    if speeds.flops is None or speeds.bandwidth is None:
        return None
    return int(speeds.flops / speeds.bandwidth * weight_value_bytes(question) / 2)


def read_bytes(question: Question, batch: float) -> float:
    """Weights that one decode step reads on all ranks of a replica together.

    The embedding is looked up, not read; of the experts only those that some sequence chose:
    at most the batch times the experts of a token.
    """
    shape = question.shape
    whole = float(weight_bytes(question) * question.ranks)
    table = sum(one.parameters for one in shape.tensors if one.kind == "embedding")
    whole -= 0 if shape.tied and not question.facts.doubled_head else table * _plain(question)
    if shape.experts:
        used = min(1.0, batch * shape.experts_per_token / shape.experts)
        experts = sum(one.parameters for one in shape.tensors if one.kind == "experts")
        whole -= (1 - used) * experts * weight_value_bytes(question)
    return whole


def decode_seconds(question: Question, speeds: Speeds, batch: float) -> float | None:
    """The shortest decode step of `batch` sequences at mean length: the slower of the two roofs."""
    if speeds.flops is None or speeds.bandwidth is None:
        return None
    memory = decode_memory_seconds(question, speeds.bandwidth, batch)
    arithmetic = 2 * question.shape.active_parameters * batch / (speeds.flops * question.ranks)
    return max(memory, arithmetic)


def decode_memory_seconds(question: Question, bandwidth: float, batch: float) -> float:
    """Reading the weights once and the cache of every sequence."""
    cache = batch * kv_bytes(question, mean_length(question)) * question.pipeline_parallel
    weights = read_bytes(question, batch) / question.ranks
    return (weights + cache) / bandwidth


def prefill_seconds(question: Question, speeds: Speeds) -> float | None:
    """The shortest prefill of one prompt: its arithmetic, or reading the weights once."""
    if speeds.flops is None or speeds.bandwidth is None:
        return None
    arithmetic = 2 * question.shape.active_parameters * question.input_len
    reading = read_bytes(question, question.input_len) / question.ranks / speeds.bandwidth
    return max(arithmetic / (speeds.flops * question.ranks), reading)


def ceiling(question: Question, speeds: Speeds, concurrency: int) -> float | None:
    """Output tokens per second that no program can pass at this concurrency.

    Every request is prefilled once and decoded token by token; as many run together as have room
    beside the weights at mean length. Prefills are charged their arithmetic only, because one
    reading of the weights can serve many prompts.
    """
    if speeds.flops is None or speeds.bandwidth is None:
        return None
    batch = min(float(concurrency), room(question))
    if batch <= 0:
        return 0.0
    step = decode_seconds(question, speeds, batch)
    arithmetic = 2 * question.shape.active_parameters * question.input_len
    prompts = batch * arithmetic / (speeds.flops * question.ranks) / question.output_len
    return None if step is None else batch / (step + prompts)


def room(question: Question) -> float:
    """Sequences of mean length beside the weights alone; without bound where none is known."""
    capacity, each = question.rank_bytes, kv_bytes(question, mean_length(question))
    if capacity is None or each == 0:
        return math.inf
    return max(0.0, (capacity - weight_bytes(question)) / each)


def mean_length(question: Question) -> int:
    """How long a sequence is on average while it is decoded."""
    return question.input_len + question.output_len // 2


def roofline_json(question: Question, most: int | None) -> dict[str, JSONValue]:
    """The ceilings as `plan --json` shows them; UNKNOWN is null and named.

    Args:
        question: what is asked.
        most: the largest batch that fits with every reserve.
    """
    speeds = speeds_of(question)
    figures = (("FLOPS", speeds.flops), ("bandwidth", speeds.bandwidth), ("link", speeds.link))
    missing: list[JSONValue] = [name for name, figure in figures if figure is None]
    if speeds.flops is None or speeds.bandwidth is None:
        return {"unknown": missing, "critical_batch_size": None, "prefill": None, "decode": None,
                "knee": None}  # fmt: skip
    flops, active = speeds.flops * question.ranks, question.shape.active_parameters
    prompt = prefill_seconds(question, speeds)
    critical = critical_batch(question, speeds)
    return {
        "unknown": missing,
        "critical_batch_size": critical,
        "prefill": {
            "compute_bound_tokens_per_second": flops / (2 * active),
            "memory_bound_tokens_per_second": question.input_len
            * speeds.bandwidth * question.ranks / read_bytes(question, question.input_len),
            "seconds_per_prompt": prompt,
        },
        "decode": {
            "memory_bound_tokens_per_second": question.batch
            / decode_memory_seconds(question, speeds.bandwidth, question.batch),
            "compute_bound_tokens_per_second": flops / (2 * active),
            "seconds_per_step": decode_seconds(question, speeds, question.batch),
            "seconds_per_step_alone": decode_seconds(question, speeds, 1),
        } if question.shape.generates else None,
        "knee": _knee(critical, most) if question.shape.generates else None,
    }  # fmt: skip


def _knee(critical: int | None, most: int | None) -> dict[str, JSONValue] | None:
    """Where more sequences stop paying: the cache is full, or arithmetic is the limit."""
    if critical is None:
        return None
    if most is not None and most < critical:
        return {"batch_size": most, "why": "the KV cache is full"}
    return {"batch_size": critical, "why": "past it a step is bound by arithmetic"}


def _plain(question: Question) -> int:
    return DTYPE_BYTES[question.dtype]
