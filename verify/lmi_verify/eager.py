"""A Hugging Face decoder as a probe: it reads prompts, decodes, works in batches, draws tokens."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch  # noqa: TID253 - nobody imports this module before it is named

from lmi_verify.huggingface import LoadedModel


@dataclass(slots=True, kw_only=True)
class State:
    """One sequence in the making: the cache, and how many tokens are in it."""

    cache: object
    length: int


class Eager:
    """The model itself, one call at a time. Nothing is kept between two prompts.

    Attributes:
        loaded: Model, tokenizer and end tokens.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self._takes = set(inspect.signature(loaded.model.forward).parameters)

    @property
    def batches(self) -> bool:
        """Whether sequences of different lengths can be asked together (padded on the left)."""
        return {"attention_mask", "position_ids"} <= self._takes

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The ids that end a continuation."""
        return self.loaded.eos_token_ids

    def encode(self, text: str) -> list[int]:
        """The text's tokens, with the special tokens that the model expects."""
        return self.loaded.tokenizer.encode(text, verbose=False)

    def piece(self, token: int) -> str:
        """The text of one token."""
        return self.loaded.tokenizer.decode([token])

    @torch.inference_mode()
    def prefill(self, ids: Sequence[int]) -> tuple[torch.Tensor, State]:
        """Reads a prompt from its beginning.

        Args:
            ids: Its tokens, n of them.

        Returns:
            float32 [n, vocab], row i predicting token i + 1; and the state for `decode`.
        """
        step = self.loaded.model(input_ids=torch.tensor([list(ids)]), use_cache=True)
        return step.logits[0].float(), State(cache=step.past_key_values, length=len(ids))

    @torch.inference_mode()
    def decode(self, state: State, token: int) -> torch.Tensor:
        """Adds one token; float32 [vocab], which predict the next."""
        step = self.loaded.model(
            input_ids=torch.tensor([[token]]), past_key_values=state.cache, use_cache=True
        )
        state.cache = step.past_key_values
        state.length += 1
        return step.logits[0, -1].float()

    @torch.inference_mode()
    def batch(
        self, prompts: Sequence[Sequence[int]], forced: Sequence[Sequence[int]], tokens: int
    ) -> list[torch.Tensor]:
        """Asks several prompts together, padded on the left.

        Args:
            prompts: Their tokens.
            forced: The tokens forced after each; where they end, its last is repeated.
            tokens: Rows that are wanted of each, b.

        Returns:
            For each prompt float32 [b, vocab]; row j predicts its forced token j.
        """
        longest = max(map(len, prompts))
        padding = [longest - len(prompt) for prompt in prompts]
        ids = torch.tensor([[0] * pad + list(p) for pad, p in zip(padding, prompts, strict=True)])
        mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in padding])
        places = (mask.cumsum(1) - 1).clamp(min=0)
        step = self.loaded.model(
            input_ids=ids, attention_mask=mask, position_ids=places, use_cache=True
        )
        rows = [step.logits[:, -1].float()]
        for index in range(tokens - 1):
            mask = torch.cat((mask, torch.ones_like(mask[:, :1])), dim=1)
            places = places[:, -1:] + 1
            given = [each[min(index, len(each) - 1)] for each in forced]
            step = self.loaded.model(
                input_ids=torch.tensor(given)[:, None],
                attention_mask=mask,
                position_ids=places,
                past_key_values=step.past_key_values,
                use_cache=True,
            )
            rows.append(step.logits[:, -1].float())
        return list(torch.stack(rows, dim=1))

    def draw(self, logits: torch.Tensor, temperature: float, seed: int) -> int:
        """A token drawn from softmax(logits / temperature); the same seed gives the same.

        Args:
            logits: float32 [vocab].
            temperature: Above 0.
            seed: Of the generator.
        """
        generator = torch.Generator().manual_seed(seed)
        chances = torch.softmax(logits / temperature, 0)
        return int(torch.multinomial(chances, 1, generator=generator))

    def log_prob(self, logits: torch.Tensor, token: int) -> float:
        """The log-probability, in nats, that is reported of a token; `logits` is [vocab]."""
        return float(logits[token] - logits.logsumexp(0))


def likelihoods(logits: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """float32 [n - 1]: the log-probability of each token of a prompt after the first.

    Args:
        logits: float32 [n, vocab].
        ids: The prompt's n tokens.
    """
    given, following = logits[:-1], torch.tensor(list(ids[1:]), dtype=torch.int64)
    chosen = given[torch.arange(len(following)), following]
    return chosen - given.logsumexp(1)
