"""Prefill, then decode token by token until something ends it."""

from collections.abc import Iterator, Sequence
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


class Writer:
    """A continuation in the making: takes logits, gives tokens, knows when it ends.

    Attributes:
        done: What has been written.
        ended: Whether anything ended it.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        parameters: Parameters,
        eos_token_ids: frozenset[int],
    ) -> None:
        """For the continuation of a prompt's tokens."""
        self._prompt = len(prompt)
        self._parameters = parameters
        self._eos = eos_token_ids
        self._chooser = Chooser(parameters, prompt)
        self._stream = TextStream(tokenizer)
        self._special = {
            number for number, one in tokenizer.get_added_tokens_decoder().items() if one.special
        }
        self.done = Generation()
        self.ended = False

    @property
    def last(self) -> Token:
        """The last token, which decode wants next."""
        return self.done.tokens[-1]

    @property
    def position(self) -> int:
        """Where the last token stands."""
        return self._prompt + len(self.done.tokens) - 1

    def take(self, logits: torch.Tensor) -> None:
        """Adds the token that the logits (float32 `[V]`) lead to."""
        token, log_prob = self._chooser.choose(logits)
        text = self._stream.add(token)
        self.done.tokens.append(Token(token, text, log_prob, token in self._special))
        stop = None
        if token in self._eos:
            self.done.finish_reason = "eos_token"
        else:
            stop = _first_stop(self._stream.text, self._parameters.stop_sequences)
            if stop is None and len(self.done.tokens) < self._parameters.max_new_tokens:
                return
        self.ended = True
        if stop is not None:
            self.done.finish_reason, self.done.text = "stop_sequence", self._stream.text[:stop]
            return
        self._stream.finish()
        self.done.text = self._stream.text


def generate(
    graphs: Graphs,
    tokenizer: Tokenizer,
    ids: Sequence[int],
    parameters: Parameters,
    eos_token_ids: frozenset[int],
) -> Generation:
    """Continues a text alone, in slot 0.

    Args:
        graphs: Their slots are overwritten.
        tokenizer: For the text of the tokens.
        ids: The prompt's tokens.
        parameters: How to continue.
        eos_token_ids: Tokens that end a text; the one that does is part of `tokens`.

    Raises:
        BadRequest: The prompt, or the prompt with its continuation, is too long.
    """
    require_fit(graphs, len(ids), parameters.max_new_tokens)
    writer = Writer(tokenizer, ids, parameters, eos_token_ids)
    for _ in write(graphs, ids, writer):
        pass
    return writer.done


def write(graphs: Graphs, ids: Sequence[int], writer: Writer) -> Iterator[Token]:
    """The tokens of a continuation as they come, alone in slot 0; they fit."""
    writer.take(first_logits(graphs, ids, 0))
    yield writer.last
    while not writer.ended:
        writer.take(graphs.decode(writer.last.id, writer.position))
        yield writer.last


def first_logits(graphs: Graphs, ids: Sequence[int], slot: int) -> torch.Tensor:
    """Reads a prompt into a slot; float32 `[V]` for the token after it."""
    prompt = torch.tensor(ids, dtype=torch.int64)
    return graphs.prefill(prompt, torch.tensor([len(ids) - 1]), slot)[0]


def require_fit(graphs: Graphs, prompt: int, new: int) -> None:
    """Refuses what the slots cannot hold.

    Raises:
        BadRequest: With the limit that is broken.
    """
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
