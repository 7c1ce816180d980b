"""Bytes on one rank, by kind, and how much of the asked batch and length they leave room for."""

import math
from dataclasses import dataclass

from lmi_artifacts.digest import JSONValue
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.shape import Tensor
from lmi_compile.feasibility.tables import (
    DEFAULT_NUM_TOKENS,
    DTYPE_BYTES,
    FORMATS,
    GPU_RESERVE,
    KV_FRACTION,
    LOGIT_BYTES,
    NEURON_RESERVE,
    WeightFormat,
)

_MOST_LENGTH = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What one rank holds, in bytes.

    Attributes:
        weights: of the fullest rank, with scales.
        kv_cache: of the whole asked batch at full length.
        activations: of the largest step.
        logits: of the asked batch.
        runtime_reserve: what the driver and its libraries keep.
        sequence: the KV cache of one sequence at full length.
        capacity: memory of the device; None when it is not known.
    """

    weights: int
    kv_cache: int
    activations: int
    logits: int
    runtime_reserve: int
    sequence: int
    capacity: int | None

    @property
    def fixed(self) -> int:
        """All but the cache and the logits."""
        return self.weights + self.activations + self.runtime_reserve

    @property
    def total(self) -> int:
        """All of it, with the whole batch at full length."""
        return self.fixed + self.logits + self.kv_cache

    def to_json(self) -> dict[str, JSONValue]:
        """The kinds, their sum and the device's memory."""
        return {
            "weights": self.weights,
            "kv_cache": self.kv_cache,
            "activations": self.activations,
            "logits": self.logits,
            "runtime_reserve": self.runtime_reserve,
            "total": self.total,
            "capacity": self.capacity,
        }


def memory_of(question: Question) -> Memory:
    """The memory of the fullest rank."""
    sequence = kv_bytes(question, question.seq_len)
    return Memory(
        weights=weight_bytes(question),
        kv_cache=sequence * question.batch,
        activations=_activations(question),
        logits=question.batch * question.shape.vocabulary * LOGIT_BYTES,
        runtime_reserve=_reserve(question),
        sequence=sequence,
        capacity=question.rank_bytes,
    )


def kv_bytes(question: Question, length: int) -> int:
    """The cache of one sequence of `length` tokens on one rank.

    2 (K and V) * layers * kv heads * head width * bytes per value; a head is never divided, so
    below one head a rank keeps a copy. Windows shorten it where the cache is paged.
    """
    shape = question.shape
    if not shape.generates:
        return 0
    heads = math.ceil(shape.kv_heads / question.tensor_parallel)
    each = 2 * heads * shape.head_dim * kv_value_bytes(question)
    whole = shape.layers * length
    tokens = shape.cached_tokens(length) if question.is_paged else whole
    return math.ceil(each * tokens / question.pipeline_parallel)


def kv_value_bytes(question: Question) -> int:
    """Bytes of one cached value."""
    return DTYPE_BYTES[question.dtype] if question.kv_dtype == "auto" else 1


def weight_bytes(question: Question) -> int:
    """The weights of the fullest rank, with scales.

    The layers are dealt among the pipeline's stages; the embedding is on the first and the head
    on the last, so the fullest stage has the larger of the two.
    """
    layers = ends = head = 0
    for tensor in question.shape.tensors:
        size = tensor_bytes(tensor, question, question.tensor_parallel)
        if tensor.kind == "embedding":
            ends += size
        elif tensor.kind == "head":
            head += size
        else:
            layers += size
    head += _doubled_head(question, question.tensor_parallel)
    if question.pipeline_parallel == 1:
        return layers + ends + head
    return math.ceil(layers / question.pipeline_parallel) + max(ends, head)


def checkpoint_bytes(question: Question) -> int:
    """The checkpoint of all ranks together: what is kept whole is stored once a rank."""
    degree = question.tensor_parallel
    each = sum(tensor_bytes(one, question, degree) for one in question.shape.tensors)
    return degree * (each + _doubled_head(question, degree))


def tensor_bytes(tensor: Tensor, question: Question, degree: int) -> int:
    """One kind of tensor on one rank, in the recipe's dtype or its quantised form."""
    rows, columns = _cut(tensor, degree)
    form = FORMATS[question.method]
    if form is None or not tensor.linear or tensor.kind in {"router", "head", "convolution"}:
        return rows * columns * tensor.copies * DTYPE_BYTES[question.dtype]
    return _quantised(rows, columns, form) * tensor.copies


def weight_value_bytes(question: Question) -> float:
    """Bytes of one weight of a linear layer, without scales."""
    form = FORMATS[question.method]
    return DTYPE_BYTES[question.dtype] if form is None else form.bits / 8


def largest_batch(memory: Memory) -> int | None:
    """Sequences at full length beside the weights alone; None where nothing bounds them."""
    if memory.capacity is None or memory.sequence == 0:
        return None
    return max(0, (memory.capacity - memory.weights) // memory.sequence)


def largest_batch_with_reserve(question: Question, memory: Memory) -> int | None:
    """Sequences at full length beside everything.

    A paged cache has its own share of what is free behind the largest step; a static one, and a
    model without a cache, has the activations of every sequence beside it.
    """
    if memory.capacity is None:
        return None
    logits = question.shape.vocabulary * LOGIT_BYTES
    if question.is_paged:
        each = memory.sequence + KV_FRACTION * logits
        return max(0, int(KV_FRACTION * (memory.capacity - memory.fixed) / each))
    each = memory.sequence + logits + memory.activations / max(1, question.batch)
    free = memory.capacity - memory.weights - memory.runtime_reserve
    return max(0, int(free / each)) if each else None


def largest_length(question: Question, memory: Memory) -> int | None:
    """The longest sequences of which the asked batch fits beside the weights alone."""
    if memory.capacity is None or memory.sequence == 0:
        return None
    free = memory.capacity - memory.weights
    low, high = 0, question.shape.max_positions or _MOST_LENGTH
    while low < high:
        middle = (low + high + 1) // 2
        if kv_bytes(question, middle) * question.batch <= free:
            low = middle
        else:
            high = middle - 1
    return low


def _cut(tensor: Tensor, degree: int) -> tuple[int, int]:
    match tensor.split:
        case "rows" | "vocabulary":
            return math.ceil(tensor.rows / degree), tensor.columns
        case "columns":
            return tensor.rows, math.ceil(tensor.columns / degree)
        case "heads":
            width = tensor.rows // max(1, tensor.heads)
            return math.ceil(tensor.heads / degree) * width, tensor.columns
        case "none":
            return tensor.rows, tensor.columns


def _quantised(rows: int, columns: int, form: WeightFormat) -> int:
    groups = math.ceil(columns / form.group) if form.group else 0
    return (
        math.ceil(rows * columns * form.bits / 8)
        + rows * form.row_bytes
        + columns * form.column_bytes
        + rows * groups * form.group_bytes
        + form.tensor_bytes
    )


def _doubled_head(question: Question, degree: int) -> int:
    if not (question.shape.tied and question.facts.doubled_head):
        return 0
    rows = math.ceil(question.shape.vocabulary / degree)
    return rows * question.shape.hidden * DTYPE_BYTES[question.dtype]


def _activations(question: Question) -> int:
    """The largest step: residual stream twice, q, k, v, and the MLP's two wide activations."""
    shape, degree = question.shape, question.tensor_parallel
    most = question.batch * question.input_len
    tokens = min(most, question.num_tokens or DEFAULT_NUM_TOKENS)
    if not question.is_paged:
        tokens = most
    attention = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    width = 2 * shape.hidden + math.ceil((attention + 2 * shape.intermediate) / degree)
    return tokens * width * DTYPE_BYTES[question.dtype]


def _reserve(question: Question) -> int:
    if question.instance is None or question.instance.accelerator is None:
        return 0
    return GPU_RESERVE if question.instance.accelerator.vendor == "nvidia" else NEURON_RESERVE
