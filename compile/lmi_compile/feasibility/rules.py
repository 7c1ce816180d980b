"""What cannot be, whatever the memory: degrees, types, toolchains, limits."""

from collections.abc import Callable, Iterator
from typing import Literal

from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.tables import (
    BFLOAT16_SM,
    FAMILY_LACKS,
    NEURON_METHODS,
    SM_KV,
    SM_METHODS,
)

Level = Literal["problem", "warning"]
Finding = tuple[Level, str, str]
Rule = Callable[[Question], Iterator[Finding]]


def findings(question: Question) -> tuple[Finding, ...]:
    """Every rule that is broken or touched: level, the recipe's field, a sentence."""
    return tuple(finding for rule in _RULES for finding in rule(question))


def degree_is_possible(question: Question) -> bool:
    """Whether the model and the machine can be split so many ways at all."""
    found = (one for rule in (_degrees, _heads, _widths) for one in rule(question))
    return not any(level == "problem" for level, _, _ in found)


def _machine(question: Question) -> Iterator[Finding]:
    instance, vendors = question.instance, question.vendors
    if instance is None:
        if vendors:
            wanted = f"an instance type with {' or '.join(vendors)} accelerators"
            message = f"backend {question.backend} needs {wanted}, not a CPU level"
            yield "problem", "target", message
        return
    if instance.accelerator is None:
        yield "warning", "target", f"nothing is known of {instance.name}; memory is UNKNOWN"
    elif instance.accelerator.vendor not in vendors:
        runs = " or ".join(vendors) or "the CPU"
        message = f"backend {question.backend} runs on {runs}; {instance.name} has " + (
            instance.accelerator.name
        )
        yield "problem", "target", message


def _degrees(question: Question) -> Iterator[Finding]:
    instance = question.instance
    if instance is None or instance.accelerator is None:
        return
    if question.ranks > instance.ranks:
        what = f"{question.tensor_parallel} x {question.pipeline_parallel} ranks"
        have = f"{instance.name} has {instance.ranks}"
        yield "problem", "tensor_parallel_degree", f"{what} are asked and {have}"
    known = instance.tensor_parallel_degrees
    if known is not None and question.tensor_parallel not in known:
        nearest = ", ".join(str(one) for one in known if one <= instance.ranks)
        message = f"{question.tensor_parallel} is no degree of {instance.family}: {nearest}"
        yield "problem", "tensor_parallel_degree", message


def _heads(question: Question) -> Iterator[Finding]:
    shape, degree = question.shape, question.tensor_parallel
    if degree == 1 or question.facts.heads == "pad":
        if shape.heads % degree:
            message = f"{shape.heads} heads are padded to a multiple of {degree}"
            yield "warning", "tensor_parallel_degree", message
        return
    if shape.heads % degree:
        message = f"{shape.heads} attention heads cannot be split {degree} ways"
        yield "problem", "tensor_parallel_degree", message
    if shape.kv_heads % degree and degree % shape.kv_heads:
        message = f"{shape.kv_heads} KV heads can neither be split nor repeated {degree} ways"
        yield "problem", "tensor_parallel_degree", message
    elif shape.kv_heads < degree:
        message = f"{shape.kv_heads} KV heads are repeated on {degree} ranks"
        yield "warning", "tensor_parallel_degree", message
        if question.method == "smoothquant":
            message = (
                "SmoothQuant's per-channel scales cannot be repeated with the KV heads "
                "(modelopt: 'Duplicating KV heads per-channel scales is not supported')"
            )
            yield "problem", "quantization.method", message
    if shape.vocabulary % degree:
        message = f"the vocabulary of {shape.vocabulary} is padded to a multiple of {degree}"
        yield "warning", "tensor_parallel_degree", message


def _widths(question: Question) -> Iterator[Finding]:
    shape, degree = question.shape, question.tensor_parallel
    for width in shape.mlp_widths:
        if width % degree:
            pads = question.facts.heads == "pad"
            how = (
                f"is padded to a multiple of {degree}" if pads else f"cannot be split {degree} ways"
            )
            message = f"the MLP's width {width} {how}"
            yield "warning" if pads else "problem", "tensor_parallel_degree", message
    if question.pipeline_parallel > 1 and shape.layers % question.pipeline_parallel:
        message = f"{shape.layers} layers cannot be dealt to {question.pipeline_parallel} stages"
        yield "problem", "pipeline_parallel_degree", message


def _quantization(question: Question) -> Iterator[Finding]:
    accelerator = question.instance.accelerator if question.instance else None
    method, field = question.method, "quantization.method"
    if accelerator is None:
        return
    name = accelerator.name
    if accelerator.sm is not None:
        least, why = SM_METHODS.get(method, (0, ""))
        if accelerator.sm < least:
            yield "problem", field, f"{why}; {name} is sm_{accelerator.sm}"
        least, why = SM_KV.get(question.kv_dtype, (0, ""))
        if accelerator.sm < least:
            yield "problem", "quantization.kv_cache_dtype", f"{why}; {name} is sm_{accelerator.sm}"
        if question.dtype == "bfloat16" and accelerator.sm < BFLOAT16_SM:
            message = f"bfloat16 needs sm_{BFLOAT16_SM}; {name} is sm_{accelerator.sm}"
            yield "problem", "dtype", message
    if accelerator.neuroncore is not None and method != "none":
        generation = NEURON_METHODS.get(method)
        if generation is None:
            yield "problem", field, f"{method} does not exist on Neuron; int8_wo and fp8 do"
        elif accelerator.neuroncore < generation:
            message = f"{method} needs NeuronCore-v{generation}; {name} has v"
            yield "problem", field, f"{message}{accelerator.neuroncore}"


def _family(question: Question) -> Iterator[Finding]:
    lacks = FAMILY_LACKS.get(question.shape.model_type, ())
    if question.backend == "tensorrt-llm" and question.method in lacks:
        message = f"TensorRT-LLM has no {question.method} for {question.shape.model_type}"
        yield "problem", "quantization.method", message
    if question.backend == "tensorrt-llm" and question.kv_dtype == "int8":
        message = "an int8 KV cache needs --use_paged_context_fmha disable"
        yield "warning", "quantization.kv_cache_dtype", message


def _toolchain(question: Question) -> Iterator[Finding]:
    instance = question.instance
    accelerator = instance.accelerator if instance else None
    if instance is None or accelerator is None:
        return
    if question.sm and accelerator.sm is not None and accelerator.sm not in question.sm:
        can = ", ".join(f"sm_{one}" for one in question.sm)
        message = f"{question.toolchain} builds for {can}; {accelerator.name} is "
        yield "problem", "toolchain", f"{message}sm_{accelerator.sm}"
    if question.neuron and instance.neuron_target not in question.neuron:
        can = ", ".join(question.neuron)
        message = f"{question.toolchain} builds for {can}; {instance.name} is "
        yield "problem", "toolchain", f"{message}{instance.neuron_target}"


def _limits(question: Question) -> Iterator[Finding]:
    longest, tokens = question.shape.max_positions, question.num_tokens
    if longest is not None and question.seq_len > longest:
        message = f"{question.seq_len} is above the model's {longest} positions"
        yield "problem", "shapes.max_seq_len", message
    if tokens is None or not question.shape.generates:
        return
    if tokens < question.batch:
        message = f"{tokens} tokens a step are fewer than the batch of {question.batch}"
        yield "problem", "shapes.max_num_tokens", message
    if tokens < question.input_len:
        message = f"a prompt of {question.input_len} never fits a step of {tokens} tokens"
        yield "problem", "shapes.max_num_tokens", message


_RULES: tuple[Rule, ...] = (
    _machine,
    _degrees,
    _heads,
    _widths,
    _quantization,
    _family,
    _toolchain,
    _limits,
)
