"""SIMULATOR of optimum-neuron 0.4.5's decoder class: loads a tree, and its forward's signature."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from neuron_simulator.answering import Model


class NeuronModelForCausalLM:
    """Reads what loading reads; forward as NxDModelForCausalLM's, on the CPU."""

    def __init__(self, built: dict[str, Any]) -> None:
        self.neuron_config = SimpleNamespace(**built)
        self._model = Model()

    @classmethod
    def from_pretrained(cls, model_id: str) -> "NeuronModelForCausalLM":
        tree = Path(model_id)
        built = json.loads((tree / "neuron_config.json").read_bytes())
        for rank in range(built["tp_degree"]):
            (tree / f"checkpoint/weights/tp{rank}_sharded_checkpoint.safetensors").read_bytes()
        (tree / "model.pt").read_bytes()
        return cls(built)

    def reset(self) -> None:
        self._model.forget()

    def __call__(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        seq_ids: torch.Tensor | None = None,
        sampling_params: torch.Tensor | None = None,
    ) -> torch.Tensor:
        assert seq_ids is not None and sampling_params is not None
        if (
            input_ids.shape[0] > self.neuron_config.batch_size
            or position_ids.shape != input_ids.shape
        ):
            message = f"[simulator] input_ids {tuple(input_ids.shape)}"
            raise ValueError(message)
        start = int(position_ids.min())
        return self._model.step(input_ids[0].tolist(), start)[None, None]
