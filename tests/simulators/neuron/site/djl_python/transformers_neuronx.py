"""SIMULATOR of djl_python.transformers_neuronx, 0.30.0-dlc: the service that loads a tree."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from neuron_simulator import base
from neuron_simulator.answering import Model


class _Loaded:
    """transformers-neuronx's forward: the last position's logits, [rows, vocabulary]."""

    def __init__(self, *, continuous: bool, batch: int) -> None:
        self.neuron_config = SimpleNamespace(continuous_batching=object() if continuous else None)
        self._rows = 1 if continuous else batch
        self._dimensions = 2 if continuous else 1
        self._model = Model()

    def __call__(
        self, input_ids: torch.Tensor, cache_ids: torch.Tensor, start_ids: torch.Tensor | None
    ) -> torch.Tensor:
        if input_ids.shape[0] != self._rows or cache_ids.dim() != self._dimensions:
            message = f"[simulator] input_ids {tuple(input_ids.shape)}, cache {cache_ids.dim()}-D"
            raise ValueError(message)
        assert (start_ids is None) == (self._dimensions == 1)
        row = self._model.step(input_ids[0].tolist(), int(cache_ids.flatten()[0]))
        return row[None].repeat(input_ids.shape[0], 1)


class TransformersNeuronXService:
    """Reads a tree as the service and its loader do."""

    def set_configs(self, properties: dict[str, str]) -> None:
        self._tree = Path(properties["model_id"])
        words = base.table("partition")["properties"]
        known = {name for part in words.values() for name in part} | _DJL
        unknown = sorted(set(properties) - known)
        if unknown:
            message = f"[simulator] the property classes have no {', '.join(unknown)}"
            raise ValueError(message)
        self.config = SimpleNamespace(batch_size=int(properties["max_rolling_batch_size"]))

    def set_model_loader(self) -> None:
        self.model_loader = self

    def load_unwrapped_model(self) -> _Loaded:
        config: dict[str, Any] = json.loads((self._tree / "config.json").read_bytes())
        if "neuron" not in config or any(self._tree.glob("*.safetensors")):
            raise RuntimeError("[simulator] compiled/ is ignored, and the model compiled anew")
        if not any((self._tree / "compiled").glob("*.neff")):
            raise FileNotFoundError(
                "Could not find a matching NEFF for your HLO in this directory."
            )
        batch = self.config.batch_size
        return _Loaded(continuous=config["model_type"] == "llama" and batch > 1, batch=batch)


# Read by DJL itself, or handed over by it.
_DJL = frozenset({"engine", "entryPoint", "model_id", "model_dir", "model_loading_timeout"})
