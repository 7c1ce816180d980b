"""SIMULATOR of torch_neuron (Inf1): `trace` with the real signature, over torch.jit.trace."""

from typing import Any

from neuron_simulator import neuron_cc, tracing

__version__ = "simulated"


def trace(*positional: Any, **keywords: Any) -> Any:
    call = tracing.bound("torch_neuron", positional, keywords)
    flags = call["compiler_args"] or []
    if not isinstance(flags, list):
        message = "compiler_args must be a list of strings"
        raise TypeError(message)
    neuron_cc.parse(flags, inside_trace=True)
    return tracing.traced(call)
