"""One token from one row of logits."""

from collections.abc import Sequence

import torch

from .request import Parameters


class Chooser:
    """Chooses tokens as `parameters` say; the same seed gives the same tokens."""

    def __init__(self, parameters: Parameters, prompt: Sequence[int]) -> None:
        """For the continuation of `prompt`, whose tokens count as seen."""
        self._parameters = parameters
        self._seen = set(prompt)
        self._generator = torch.Generator()
        if parameters.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(parameters.seed)

    def choose(self, logits: torch.Tensor) -> tuple[int, float]:
        """The next token's id, and the natural logarithm of the model's probability for it.

        Args:
            logits: float32 `[V]`.

        Returns:
            The id; its log-probability under the model itself, before penalty, temperature, cuts.
        """
        parameters = self._parameters
        scores = logits if parameters.repetition_penalty == 1.0 else self._penalised(logits)
        token = self._draw(scores) if parameters.do_sample else int(scores.argmax())
        self._seen.add(token)
        return token, float(logits[token] - logits.logsumexp(0))

    def _penalised(self, logits: torch.Tensor) -> torch.Tensor:
        penalty = self._parameters.repetition_penalty
        seen = torch.tensor(sorted(self._seen))
        scores = logits.clone()
        old = scores[seen]
        scores[seen] = torch.where(old < 0, old * penalty, old / penalty)
        return scores

    def _draw(self, logits: torch.Tensor) -> int:
        parameters = self._parameters
        ordered, ids = torch.sort(logits / parameters.temperature, descending=True, stable=True)
        if parameters.top_k:
            ordered, ids = ordered[: parameters.top_k], ids[: parameters.top_k]
        chances = torch.softmax(ordered, 0)
        if parameters.top_p < 1.0:
            before = chances.cumsum(0) - chances
            chances = torch.where(before < parameters.top_p, chances, 0.0)
        drawn = torch.multinomial(chances, 1, generator=self._generator)
        return int(ids[drawn])
