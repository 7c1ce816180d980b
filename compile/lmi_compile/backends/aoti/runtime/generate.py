"""Prefill, then decode token by token until something ends it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from tokenizers import Tokenizer

from .graphs import Graphs
from .request import BadRequest, Parameters
from .sampling import Chooser
from .text import TextStream

FinishReason = Literal["length", "eos_token", "stop_sequence"]


@dataclass(frozen=True)
class Token:
    """One generated token.

    Attributes:
        id: Its number.
        text: What it added to the text; empty while a character is incomplete.
        log_prob: Natural logarithm of the model's probability for it.
        special: Whether it is a control token, such as the end of the text.
    """

    id: int
    text: str
    log_prob: float
    special: bool


@dataclass
class Generation:
    """A continuation; `text` ends before the stop sequence that ended it."""

    finish_reason: FinishReason = "length"
    text: str = ""
    tokens: list[Token] = field(default_factory=list)


def generate(
    graphs: Graphs,
    tokenizer: Tokenizer,
    ids: Sequence[int],
    parameters: Parameters,
    eos_token_ids: frozenset[int],
) -> Generation:
    """Continues a text.

    Args:
        graphs: Their slots are overwritten.
        tokenizer: For the text of the tokens.
        ids: The prompt's tokens.
        parameters: How to continue.
        eos_token_ids: Tokens that end a text; the one that does is part of `tokens`.

    Raises:
        BadRequest: The prompt, or the prompt with its continuation, is too long.
    """
    _require_fit(graphs, len(ids), parameters.max_new_tokens)
    special = {
        number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special
    }
    chooser = Chooser(parameters)
    stream = TextStream(tokenizer)
    done = Generation()
    prompt = torch.tensor(ids, dtype=torch.int64)
    logits = graphs.prefill(prompt, torch.tensor([len(ids) - 1]))[0]
    while True:
        token, log_prob = chooser.choose(logits)
        done.tokens.append(Token(token, stream.add(token), log_prob, token in special))
        if token in eos_token_ids:
            done.finish_reason = "eos_token"
            break
        stop = _first_stop(stream.text, parameters.stop_sequences)
        if stop is not None:
            done.finish_reason, done.text = "stop_sequence", stream.text[:stop]
            return done
        if len(done.tokens) == parameters.max_new_tokens:
            break
        logits = graphs.decode(token, len(ids) + len(done.tokens) - 1)
    stream.finish()
    done.text = stream.text
    return done


def _require_fit(graphs: Graphs, prompt: int, new: int) -> None:
    if not prompt:
        raise BadRequest("inputs has no tokens")
    if prompt > graphs.max_input_len:
        limit = graphs.max_input_len
        raise BadRequest(f"inputs has {prompt} tokens; this model takes at most {limit}")
    if prompt + new > graphs.max_seq_len:
        limit = graphs.max_seq_len
        message = (
            f"inputs has {prompt} tokens and parameters.max_new_tokens is {new}: "
            f"together more than this model's {limit}"
        )
        raise BadRequest(message)


def _first_stop(text: str, stops: tuple[str, ...]) -> int | None:
    """Where the earliest stop sequence begins, or None."""
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    return min(found, default=None)
