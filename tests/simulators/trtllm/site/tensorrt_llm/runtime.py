"""The C++ runner's Python face, as 0.12 has it."""

import os
from typing import Any

import torch

from tensorrt_llm.simulated import Engine


class ModelRunnerCpp:
    """Loads an engine directory; one process for each rank."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def from_dir(cls, *, engine_dir: str, rank: int) -> "ModelRunnerCpp":
        """Load; the number of processes has to be the engine's."""
        del rank
        engine = Engine(engine_dir)
        world = int(os.environ.get("SIMULATED_WORLD", "1"))
        if world != engine.world:
            raise RuntimeError("Assertion failed: mpiSize == tp * pp")
        return cls(engine)

    def generate(
        self,
        *,
        batch_input_ids: list[torch.Tensor],
        max_new_tokens: int,
        end_id: int,
        pad_id: int,
        temperature: float,
        top_k: int,
        return_dict: bool,
        output_sequence_lengths: bool,
    ) -> dict[str, Any]:
        """Greedy continuation of one prompt."""
        assert return_dict and output_sequence_lengths and top_k == 1 and temperature == 1.0
        (given,) = batch_input_ids
        ids, _ = self._engine.greedy(given.tolist(), max_new_tokens, {end_id})
        whole = given.tolist() + ids
        padded = whole + [pad_id] * (len(given) + max_new_tokens - len(whole))
        answer: dict[str, Any] = {
            "output_ids": torch.tensor([[padded]]),
            "sequence_lengths": torch.tensor([[len(whole)]]),
        }
        if self._engine.gathers_context:
            answer["context_logits"] = [self._engine.context_logits(given.tolist())]
        return answer
