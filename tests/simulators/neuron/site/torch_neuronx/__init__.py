"""SIMULATOR of torch_neuronx: `trace` with the real signature, over torch.jit.trace."""

import shlex
from typing import Any

from neuron_simulator import base, neuronx_cc, tracing

__version__ = "simulated"


def trace(*positional: Any, **keywords: Any) -> Any:
    call = tracing.bound("torch_neuronx", positional, keywords)
    flags = call["compiler_args"] or []
    flags = shlex.split(flags) if isinstance(flags, str) else list(flags)
    if not base.machine()["devices"]:
        if not call["cpu_backend"]:
            raise RuntimeError(base.quoted("no-device"))
        if not any(flag.partition("=")[0] == "--target" for flag in flags):
            raise ValueError(base.quoted("target-missing"))
    neuronx_cc.parse(flags, inside_trace=True)
    return tracing.traced(call)
