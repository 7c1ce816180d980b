"""One token from one row of logits."""

import torch

from .request import Parameters


class Chooser:
    """Chooses tokens as `parameters` say; the same seed gives the same tokens."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
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
            The id; its log-probability under the model itself, before temperature and cuts.
        """
        token = self._draw(logits) if self._parameters.do_sample else int(logits.argmax())
        return token, float(logits[token] - logits.logsumexp(0))

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
