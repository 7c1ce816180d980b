"""What one side's answers say of themselves: choices, log-probabilities, ends and draws."""

import math
from collections.abc import Sequence

import numpy as np  # noqa: TID253 - nobody imports this module before it is named

from lmi_verify.outputs import Arrays, Generated, PromptTokens
from lmi_verify.rows import log_softmax
from lmi_verify.tensorfiles import FloatArray


def ends_rightly(generated: Generated, eos_token_ids: Sequence[int], limit: int) -> bool:
    """Whether a continuation stops at its first end token or at the limit, and says which."""
    first = next((i for i, each in enumerate(generated.ids) if each in eos_token_ids), None)
    if first is not None:
        return first == len(generated.ids) - 1 and generated.finish_reason == "eos_token"
    return len(generated.ids) == limit and generated.finish_reason == "length"


def choices_off(prompt: PromptTokens, arrays: Arrays, generated: Generated) -> float:
    """The largest own margin by which a greedy choice is not the best of its own logits.

    Only as far as the continuation follows the forced one: from there on the logits are others.
    """
    worst = 0.0
    for row, token in followed(prompt.forced_ids, arrays.forced_logits, generated.ids):
        worst = max(worst, float(row.max() - row[token]))
    return worst


def log_probs_off(prompt: PromptTokens, arrays: Arrays, generated: Generated) -> float | None:
    """The largest |reported log-probability - that of the logits|, in nats; None if none is told.

    Reported are those of the continuation, and those of the prompt's own tokens.
    """
    errors: list[float] = []
    if generated.log_probs is not None:
        told = zip(
            followed(prompt.forced_ids, arrays.forced_logits, generated.ids),
            generated.log_probs,
            strict=False,
        )
        errors += [abs(_log_prob(row, token) - said) for (row, token), said in told]
    if arrays.likelihoods is not None:
        for index, place in enumerate(prompt.rows):
            if place + 1 < len(prompt.input_ids):
                right = _log_prob(arrays.prompt_logits[index], prompt.input_ids[place + 1])
                errors.append(abs(right - float(arrays.likelihoods[place])))
    if not errors:
        return None
    return max(errors) if all(map(math.isfinite, errors)) else math.inf


def draws_off(row: FloatArray, temperature: float, draws: Sequence[int]) -> float:
    """How far drawn tokens are from softmax(row / temperature), in standard deviations.

    The statistic is their mean -log p: its expectation is the entropy, its variance that of -log p.

    Args:
        row: The side's own logits [vocab].
        temperature: That was asked for.
        draws: The tokens.
    """
    likely = log_softmax(row[None].astype(np.float64) / temperature)[0]
    chances = np.exp(likely)
    entropy = -float((chances * likely).sum())
    variance = float((chances * (likely + entropy) ** 2).sum())
    mean = -float(likely[np.array(draws)].mean())
    return abs(mean - entropy) / max(math.sqrt(variance / len(draws)), 1e-9)


def followed(
    forced: Sequence[int], rows: FloatArray, ids: Sequence[int]
) -> list[tuple[FloatArray, int]]:
    """The rows that a continuation's tokens were chosen from, as long as it follows the forced.

    Args:
        forced: The forced continuation.
        rows: [m, vocab]; row j predicts its token j.
        ids: The continuation.
    """
    found: list[tuple[FloatArray, int]] = []
    for row, token, right in zip(rows, ids, forced, strict=False):
        found.append((row, token))
        if token != right:
            break
    return found


def _log_prob(row: FloatArray, token: int) -> float:
    return float(log_softmax(row[None].astype(np.float64))[0, token])
