"""A simulated engine: checks what a runtime checks at load, and computes on a CPU."""

import json
import os
from pathlib import Path
from typing import Any

import torch

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
        ranks = [
            json.loads((Path(directory) / f"rank{rank}.engine").read_bytes())
            for rank in range(self.world)
        ]
        first = ranks[0]
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
        self._model = _model_of(first, config["pretrained_config"]["dtype"])

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


def _model_of(rank: dict[str, Any], dtype: str) -> Any:
    if "checkpoint" in rank:
        from lmi_compile.quantize.checkpoint import read_merged
        from lmi_compile.quantize.simulate import simulated

        return simulated(read_merged(Path(rank["checkpoint"])))
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(rank["hf"], dtype=torch.float32)
    return model.to(getattr(torch, dtype)).float().eval()
