"""The CPU in the device's place: the model itself, in float32, with true numbers.

The simulated trees hold no weights; `NEURON_SIMULATOR_MODEL` names the directory that has them.
"""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM


class Model:
    """Logits of whatever has been said so far."""

    def __init__(self) -> None:
        path = Path(os.environ["NEURON_SIMULATOR_MODEL"])
        self._model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self._said: list[int] = []

    @torch.inference_mode()
    def logits(self, ids: list[int]) -> torch.Tensor:
        """[vocabulary] after `ids`."""
        found: torch.Tensor = self._model(input_ids=torch.tensor([ids])).logits[0, -1].float()
        return found

    def forget(self) -> None:
        """Start anew."""
        self._said = []

    def step(self, ids: list[int], start: int) -> torch.Tensor:
        """[vocabulary] after `ids` at position `start` of what was said before, as a KV cache."""
        if start > len(self._said):
            message = f"[simulator] position {start}, but {len(self._said)} tokens are cached"
            raise RuntimeError(message)
        self._said = [*self._said[:start], *ids]
        return self.logits(self._said)
