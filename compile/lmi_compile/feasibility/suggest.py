"""The smallest changes that would make it fit, smallest first."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lmi_artifacts.digest import JSONValue
from lmi_compile.feasibility.memory import largest_batch_with_reserve, memory_of
from lmi_compile.feasibility.placement import degrees_of, holds
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.rules import findings
from lmi_recipes.instance import Instance, instance_names, read_instance
from lmi_recipes.model import Dtype, KvCacheDtype, QuantizationMethod

_SHORTEST = 128
_STEP = 64
_INSTANCES = 2
_MOST = 8
_METHODS: tuple[QuantizationMethod, ...] = ("none", "fp8", "int8_wo", "awq", "smoothquant")
_CACHES: tuple[KvCacheDtype, ...] = ("auto", "fp8", "int8")
_DTYPES: tuple[Dtype, ...] = ("bfloat16", "float16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """One change.

    Attributes:
        change: in words.
        set: the recipe's fields and their new values, as `--set` takes them.
        batch: sequences at full length that fit then, with every reserve.
    """

    change: str
    set: dict[str, JSONValue]
    batch: int | None

    def to_json(self) -> dict[str, JSONValue]:
        """As `plan --json` shows it."""
        return {
            "change": self.change,
            "set": self.set,
            "max_batch_size_with_reserve": self.batch,
        }


Candidate = tuple[str, dict[str, JSONValue], Question]


def suggestions(question: Question, *, whole_batch: bool) -> tuple[Suggestion, ...]:
    """Changes after which everything holds, ranked: limits, degree, types, machine.

    Args:
        question: what does not fit.
        whole_batch: the asked batch has to fit at full length, not one sequence only.
    """
    found = [
        suggestion
        for candidate in _single(question)
        if (suggestion := _try(candidate, whole_batch=whole_batch)) is not None
    ]
    if not found:
        found = [
            suggestion
            for first in (*_degrees(question), *_caches(question))
            for second in _methods(first[2])
            if (suggestion := _try(_joined(first, second), whole_batch=whole_batch)) is not None
        ]
    found = found[: _MOST - _INSTANCES] + _machines(question, whole_batch=whole_batch)
    return tuple(found)


def works(question: Question, *, whole_batch: bool) -> bool:
    """Whether no rule is broken and the memory suffices."""
    if any(level == "problem" for level, _, _ in findings(question)):
        return False
    memory = memory_of(question)
    if not holds(question, memory):
        return False
    most = largest_batch_with_reserve(question, memory)
    return not whole_batch or most is None or most >= question.batch


def _try(candidate: Candidate, *, whole_batch: bool) -> Suggestion | None:
    change, fields, question = candidate
    if not works(question, whole_batch=whole_batch):
        return None
    batch = largest_batch_with_reserve(question, memory_of(question))
    return Suggestion(change=change, set=fields, batch=batch)


def _single(question: Question) -> Iterator[Candidate]:
    yield from _limits(question)
    yield from _degrees(question)
    yield from _caches(question)
    yield from _dtypes(question)
    yield from _methods(question)


def _limits(question: Question) -> Iterator[Candidate]:
    most = largest_batch_with_reserve(question, memory_of(question))
    if most and most < question.batch:
        fields: dict[str, JSONValue] = {"shapes.max_batch_size": most}
        yield f"a batch of {most}", fields, replace(question, batch=most)
    tokens = max(question.batch, question.input_len)
    if question.num_tokens is not None and question.num_tokens < tokens:
        fields = {"shapes.max_num_tokens": tokens}
        yield f"{tokens} tokens a step", fields, replace(question, num_tokens=tokens)
    shorter = _shorter(question)
    if shorter is not None:
        prompt = min(question.input_len, max(1, shorter - question.output_len), shorter - 1)
        fields = {"shapes.max_seq_len": shorter, "shapes.max_input_len": prompt}
        changed = replace(question, seq_len=shorter, input_len=prompt)
        yield f"sequences of {shorter} tokens", fields, changed


def _shorter(question: Question) -> int | None:
    """The longest sequences, in steps of 64, for which the memory suffices; None if none do."""
    limit = min(question.seq_len, question.shape.max_positions or question.seq_len)
    if not question.shape.generates:
        return limit if limit < question.seq_len else None
    low, high = 0, limit // _STEP
    while low < high:
        middle = (low + high + 1) // 2
        length = middle * _STEP
        changed = replace(question, seq_len=length, input_len=min(question.input_len, length - 1))
        if holds(changed, memory_of(changed)):
            low = middle
        else:
            high = middle - 1
    return low * _STEP if _SHORTEST <= low * _STEP < question.seq_len else None


def _degrees(question: Question) -> Iterator[Candidate]:
    for degree in degrees_of(question):
        if degree != question.tensor_parallel:
            fields: dict[str, JSONValue] = {"tensor_parallel_degree": degree}
            changed = replace(question, tensor_parallel=degree)
            yield f"tensor parallel degree {degree}", fields, changed


def _caches(question: Question) -> Iterator[Candidate]:
    for kind in _CACHES:
        if kind != question.kv_dtype and question.shape.generates:
            fields: dict[str, JSONValue] = {"quantization.kv_cache_dtype": kind}
            yield f"a KV cache in {kind}", fields, replace(question, kv_dtype=kind)


def _dtypes(question: Question) -> Iterator[Candidate]:
    for kind in _DTYPES:
        if kind != question.dtype:
            yield kind, {"dtype": kind}, replace(question, dtype=kind)


def _methods(question: Question) -> Iterator[Candidate]:
    for method in _METHODS:
        if method != question.method:
            fields: dict[str, JSONValue] = {"quantization.method": method}
            what = "no quantisation" if method == "none" else f"quantisation {method}"
            yield what, fields, replace(question, method=method)


def _joined(first: Candidate, second: Candidate) -> Candidate:
    return f"{first[0]} and {second[0]}", first[1] | second[1], second[2]


def _machines(question: Question, *, whole_batch: bool) -> list[Suggestion]:
    """The smallest other machines, each with the smallest degree that does."""
    if question.instance is None:
        return []
    found: list[Suggestion] = []
    seen = set()
    for instance in machines(question):
        kind = (instance.accelerator and instance.accelerator.name, instance.devices)
        if kind in seen or instance.name == question.instance.name:
            continue
        seen.add(kind)
        there = replace(question, instance=instance)
        for degree in degrees_of(there):
            fields: dict[str, JSONValue] = {"target.instance_type": instance.name}
            if degree != question.tensor_parallel:
                fields["tensor_parallel_degree"] = degree
            changed = replace(there, tensor_parallel=degree)
            candidate = (f"{instance.name} at degree {degree}", fields, changed)
            suggestion = _try(candidate, whole_batch=whole_batch)
            if suggestion is not None:
                found.append(suggestion)
                break
        if len(found) == _INSTANCES:
            break
    return found


def machines(question: Question) -> list[Instance]:
    """Instance types that the backend and its toolchain can be for, smallest first."""
    every = (read_instance(name) for name in instance_names())
    usable = [
        one
        for one in every
        if one.accelerator is not None
        and one.accelerator.vendor in question.vendors
        and one.endpoint
        and (not question.sm or one.accelerator.sm in question.sm)
        and (not question.neuron or one.neuron_target in question.neuron)
    ]
    return sorted(
        usable,
        key=lambda one: (
            one.devices * (one.accelerator.memory_mib if one.accelerator else 0),
            one.memory_mib or 0,
        ),
    )
