"""A simulated engine: checks what a runtime checks at load, and computes on a CPU."""

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from trtllm_simulator.carried import read_rank

MACHINE: dict[str, Any] = json.loads(
    (Path(os.environ["SIMULATED_TRTLLM"]) / "machine.json").read_bytes()
)


class Engine:
    """An engine directory, loaded."""

    def __init__(self, directory: str) -> None:
        config = json.loads((Path(directory) / "config.json").read_bytes())
        self.build = config["build_config"]
        self.world = config["pretrained_config"]["mapping"]["world_size"]
        self.gathers_context = bool(self.build.get("gather_context_logits"))
        ranks = [read_rank(Path(directory) / f"rank{rank}.engine") for rank in range(self.world)]
        first, _ = ranks[0]
        if first["tensorrt"] != MACHINE.get("tensorrt", "10.11.0.33"):
            raise RuntimeError(
                "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed."
                "Version tag does not match. Note: Current Version: 228, Serialized Engine "
                "Version: 237"
            )
        if first["sm"] != MACHINE.get("sm", 86):
            ours, theirs = MACHINE.get("sm", 86), first["sm"]
            raise RuntimeError(
                "The engine plan file is generated on an incompatible device, expecting compute "
                f"{ours / 10} got compute {theirs / 10}, please rebuild."
            )
        if config["version"] != MACHINE["tensorrt_llm"]:
            raise RuntimeError("[json.exception.out_of_range.403] key 'builder_config' not found")
        parts = [part for _, part in ranks]
        self._model = _model_of(first, parts, config["pretrained_config"]["dtype"])

    @torch.inference_mode()
    def context_logits(self, ids: list[int]) -> torch.Tensor:
        """Logits [tokens, vocab] at every position of a prompt."""
        if not self.gathers_context:
            raise RuntimeError("the engine was not built with --gather_context_logits")
        self._check(ids)
        logits: torch.Tensor = self._model(input_ids=torch.tensor([ids])).logits[0].float()
        return logits

    @torch.inference_mode()
    def greedy(
        self, ids: list[int], limit: int, ends: set[int | None]
    ) -> tuple[list[int], torch.Tensor]:
        """Greedy ids with the end token, and the logits they were taken from."""
        self._check(ids)
        made: list[int] = []
        rows = []
        while len(made) < limit and not (made and made[-1] in ends):
            logits = self._model(input_ids=torch.tensor([ids + made])).logits[0, -1].float()
            rows.append(logits)
            made.append(int(logits.argmax()))
        return made, torch.stack(rows)

    def _check(self, ids: list[int]) -> None:
        most = self.build["max_input_len"]
        if len(ids) > most:
            raise RuntimeError(
                f"Prompt length ({len(ids)}) exceeds maximum sequence length ({most})"
            )


def _model_of(about: dict[str, Any], parts: list[bytes], dtype: str) -> Any:
    """The model that the engine stands for, from what its ranks carry."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        config = about.get("hf") or about["checkpoint"]
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        if "hf" in about:
            return _hugging_face_model(folder, parts, dtype)
        from lmi_compile.quantize.checkpoint import read_merged
        from lmi_compile.quantize.simulate import simulated

        for rank, part in enumerate(parts):
            (folder / f"rank{rank}.safetensors").write_bytes(part)
        return simulated(read_merged(folder))


def _hugging_face_model(folder: Path, parts: list[bytes], dtype: str) -> Any:
    from safetensors.torch import load, save_file
    from transformers import AutoModelForCausalLM

    tensors = {name: tensor for part in parts for name, tensor in load(part).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.to(getattr(torch, dtype)).float().eval()
