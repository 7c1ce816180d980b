"""What both trace simulators share: the signature by its table, and PyTorch's own trace."""

import warnings
from pathlib import Path
from typing import Any

import torch

from neuron_simulator import base


def bound(module: str, positional: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
    """The call's arguments by name; what the signature does not know is a TypeError."""
    parameters = base.table("trace")[module]["parameters"]
    names = list(parameters)
    if len(positional) > 2:
        message = f"trace() takes 2 positional arguments but {len(positional)} were given"
        raise TypeError(message)
    given = dict(zip(names, positional, strict=False))
    for name, value in keywords.items():
        if name not in parameters:
            message = f"trace() got an unexpected keyword argument '{name}'"
            raise TypeError(message)
        given[name] = value
    for name, default in parameters.items():
        if default == "required" and name not in given:
            message = f"trace() missing 1 required positional argument: '{name}'"
            raise TypeError(message)
    return parameters | given


def traced(call: dict[str, Any]) -> Any:
    """The CPU in the compiler's place: PyTorch's own trace, with true numbers."""
    base.compile_graph(1)
    if call["compiler_workdir"] is not None:
        folder = Path(call["compiler_workdir"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "graph.neff").write_bytes(base.NOT_A_NEFF)
    model = call.get("func", call.get("model"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch 2.13 says that its trace is deprecated
        return torch.jit.trace(model, call["example_inputs"], check_trace=False)
