"""SIMULATOR of vLLM with the Neuron plugin of SDK 2.33: what its documents let it take and refuse.

With VLLM_NEURON_CPU_COMPILE=1 an engine's start writes its compile cache and it answers nothing;
else a start looks its graphs up, and answers with the CPU in the device's place.
"""

from typing import Any

from neuron_simulator import base
from neuron_simulator.vllm_engine import Engine

_TABLE = base.table("vllm")


def _known(name: str, keywords: dict[str, Any]) -> None:
    for word in keywords:
        if word not in _TABLE["keywords"][name]:
            message = f"{name}.__init__() got an unexpected keyword argument '{word}'"
            raise TypeError(message)


class SamplingParams:
    """The fields that the documents show."""

    def __init__(self, **keywords: Any) -> None:
        _known("SamplingParams", keywords)
        self.logprobs = keywords.get("logprobs")


class LLM:
    """An engine's start."""

    def __init__(self, **keywords: Any) -> None:
        _known("LLM", keywords)
        self._engine = Engine(keywords, _TABLE)

    def generate(self, prompts: list[dict[str, Any]], sampling: SamplingParams) -> list[Any]:
        return [
            self._engine.answer(each["prompt_token_ids"], sampling.logprobs) for each in prompts
        ]
