"""Stands in for TensorRT-LLM: loads simulated engines and computes what they stand for on a CPU.

The LLM class as 0.20 has it. What it refuses at load it refuses with the real text, quoted in
its issues and its runtime's source.
"""

import os
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch

from tensorrt_llm.simulated import MACHINE, Engine

__version__ = MACHINE["tensorrt_llm"]
_GPUS = MACHINE.get("gpus", 4)
_SM = MACHINE.get("sm", 86)

torch.cuda.device_count = lambda: _GPUS
torch.cuda.get_device_capability = lambda _: divmod(_SM, 10)
torch.cuda.get_device_name = lambda _: MACHINE.get("gpu", "NVIDIA A10G")
torch.cuda.get_device_properties = lambda _: SimpleNamespace(
    total_memory=MACHINE.get("memory_bytes", 24_000_000_000)
)


def mpi_rank() -> int:
    """This process's rank."""
    return int(os.environ.get("SIMULATED_RANK", "0"))


@dataclass
class SamplingParams:
    """The fields that the probe sets; another one is refused, as the real class does."""

    max_tokens: int = 32
    temperature: float | None = None
    end_id: int | None = None
    stop_token_ids: list[int] | None = None
    add_special_tokens: bool = True
    return_context_logits: bool = False
    return_generation_logits: bool = False


@dataclass
class _Output:
    token_ids: list[int]
    finish_reason: str
    stop_reason: int | None
    generation_logits: torch.Tensor | None


@dataclass
class _Answer:
    outputs: list[_Output]
    context_logits: torch.Tensor | None = field(default=None)


class LLM:
    """Loads an engine directory."""

    def __init__(
        self,
        model: str,
        *,
        skip_tokenizer_init: bool = False,
        gather_generation_logits: bool = False,
    ) -> None:
        del skip_tokenizer_init
        self._engine: Engine | None = Engine(model)
        self._generation_logits = gather_generation_logits

    def generate(self, prompt: dict[str, Any], sampling: SamplingParams) -> _Answer:
        """Greedy continuation; the end token is left out of the ids."""
        assert self._engine is not None
        given = prompt["prompt_token_ids"]
        context = None
        if sampling.return_context_logits:
            context = self._engine.context_logits(given)
        ends = {sampling.end_id, *(sampling.stop_token_ids or [])}
        ids, rows = self._engine.greedy(given, sampling.max_tokens, ends)
        reason, stop = "length", None
        if ids[-1] in ends:
            reason, stop = "stop", None if ids[-1] == sampling.end_id else ids[-1]
            ids = ids[:-1]
        logits = rows if self._generation_logits and sampling.return_generation_logits else None
        return _Answer([_Output(ids, reason, stop, logits)], context)

    def shutdown(self) -> None:
        """Free it."""
        self._engine = None
