"""SIMULATOR: `MODEL_TYPES`, whose classes load a tree as `NeuronApplicationBase.load` does."""

import json
from pathlib import Path
from typing import Any


class Application:
    """Reads what loading reads: the archive, the configuration and every rank's weights."""

    def __init__(self, model_path: str, config: Any = None) -> None:
        del config
        self.path = Path(model_path)
        self.config = json.loads((self.path / "neuron_config.json").read_bytes())

    def load(self, compiled_model_path: str) -> None:
        tree = Path(compiled_model_path)
        built = self.config["neuron_config"]
        if not built["save_sharded_checkpoint"]:
            message = "Sharding weights on load..."
            raise RuntimeError(message)
        for rank in range(built["tp_degree"]):
            (tree / f"weights/tp{rank}_sharded_checkpoint.safetensors").read_bytes()
        (tree / "model.pt").read_bytes()


MODEL_TYPES = {
    name: {"causal-lm": Application}
    for name in ("llama", "mixtral", "dbrx", "qwen2", "qwen3", "qwen3_moe")
}
