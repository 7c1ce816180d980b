"""The packaged model as a function from a request's body to its answer."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .generate import Generation, Token, Writer, require_fit, write
from .graphs import Graphs
from .request import Request, decode, parse
from .text import encode, load_tokenizer


class Service:
    """The loaded model.

    Attributes:
        graphs: The compiled graphs.
        threads: The thread decision, for the log.
        tokenizer: The tokenizer of the tree.
        eos_token_ids: What ends a text, from the model's generation configuration.
    """

    def __init__(self, root: Path) -> None:
        """Loads the tree at `root`.

        Raises:
            RuntimeMismatch: It cannot be served here; the text says why.
        """
        self.graphs = Graphs(root)
        self.threads = self.graphs.threads
        self.tokenizer = load_tokenizer(root)
        self.eos_token_ids = frozenset(self.graphs.description["eos_token_ids"])

    def reply(self, body: bytes, content_type: str) -> dict[str, Any] | Iterator[str]:
        """The answer to a body: in one piece, or as lines of JSON where it asks for a stream.

        Raises:
            BadRequest: The request is at fault; the text names the field.
        """
        del content_type  # JSON, whatever it is called
        request, ids = self.read(body)
        if request.stream:
            return self._lines(request, ids)
        writer = self.writer(request, ids)
        for _ in write(self.graphs, ids, writer):
            pass
        return answer_of(request, writer.done)

    def _lines(self, request: Request, ids: list[int]) -> Iterator[str]:
        writer = self.writer(request, ids)
        for token in write(self.graphs, ids, writer):
            yield line_of(request, token, writer.done if writer.ended else None)

    def read(self, body: bytes) -> tuple[Request, list[int]]:
        """The request in a body, and its prompt's tokens, which fit.

        Raises:
            BadRequest: The request is at fault; the text names the field.
        """
        return self.accept(decode(body))

    def accept(
        self, body: object, *, special_tokens: bool = True, fill: bool = False
    ) -> tuple[Request, list[int]]:
        """The request in a decoded body, and its prompt's tokens, which fit.

        Args:
            body: As `request.parse` reads it.
            special_tokens: Whether the tokenizer adds its own; a chat template has written them.
            fill: Whether the continuation may take all the room that the prompt leaves, instead
                of `max_new_tokens`.

        Raises:
            BadRequest: The request is at fault; the text names the field.
        """
        request = parse(body)
        most = self.graphs.max_input_len
        ids: list[int] = encode(
            self.tokenizer, request.inputs, most, special_tokens=special_tokens
        ).ids
        if fill:
            room = max(1, self.graphs.max_seq_len - len(ids))
            parameters = replace(request.parameters, max_new_tokens=room)
            request = replace(request, parameters=parameters)
        require_fit(self.graphs, len(ids), request.parameters.max_new_tokens)
        return request, ids

    def writer(self, request: Request, ids: list[int]) -> Writer:
        """The continuation of a request's prompt, still to be written."""
        return Writer(self.tokenizer, ids, request.parameters, self.eos_token_ids)


def answer_of(request: Request, done: Generation) -> dict[str, Any]:
    """The body of the answer, by the LMI schema."""
    answer = _text_of(request, done)
    if request.parameters.details:
        answer["details"]["tokens"] = [token_of(token) for token in done.tokens]
    return answer


def line_of(request: Request, token: Token, done: Generation | None) -> str:
    """One line of a streamed answer: a token; with the last one also the text, and details.

    Source: `_jsonlines_output_formatter` of djl_python/output_formatter.py, d21927c4.
    """
    line = {"token": token_of(token)} | ({} if done is None else _text_of(request, done))
    return json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"


def token_of(token: Token) -> dict[str, Any]:
    """A token, by the LMI schema."""
    special = {"special_token": True} if token.special else {}
    return {"id": token.id, "text": token.text, "log_prob": token.log_prob, **special}


def _text_of(request: Request, done: Generation) -> dict[str, Any]:
    prefix = request.inputs if request.parameters.return_full_text else ""
    answer: dict[str, Any] = {"generated_text": prefix + done.text}
    if request.parameters.details:
        answer["details"] = {
            "finish_reason": done.finish_reason,
            "generated_tokens": len(done.tokens),
            "inputs": request.inputs,
        }
    return answer
