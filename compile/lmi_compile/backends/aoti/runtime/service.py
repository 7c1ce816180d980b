"""The packaged model as a function from a request's body to its answer."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from .environment import RuntimeMismatch
from .generate import Generation, generate, require_fit
from .graphs import Graphs
from .request import BadRequest, Request, parse


class Service:
    """The loaded model.

    Attributes:
        graphs: The compiled graphs.
        tokenizer: The tokenizer of the tree.
        eos_token_ids: What ends a text, from the model's generation configuration.
    """

    def __init__(self, root: Path) -> None:
        """Loads the tree at `root`.

        Raises:
            RuntimeMismatch: It cannot be served here; the text says why.
        """
        self.graphs = Graphs(root)
        try:
            self.tokenizer = Tokenizer.from_file(str(root / "tokenizer.json"))
        except Exception as error:
            what = f"tokenizer.json cannot be read ({error})"
            raise RuntimeMismatch(what, "Package the model again") from error
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.eos_token_ids = frozenset(self.graphs.description["eos_token_ids"])

    def answer(self, body: bytes) -> dict[str, Any]:
        """The answer to a request.

        Args:
            body: JSON as `request.parse` reads it.

        Raises:
            BadRequest: The request is at fault; the text names the field.
        """
        request, ids = self.read(body)
        done = generate(self.graphs, self.tokenizer, ids, request.parameters, self.eos_token_ids)
        return answer_of(request, done)

    def read(self, body: bytes) -> tuple[Request, list[int]]:
        """The request in a body, and its prompt's tokens, which fit.

        Raises:
            BadRequest: The request is at fault; the text names the field.
        """
        try:
            decoded = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body is not JSON ({error})") from error
        request = parse(decoded)
        ids: list[int] = self.tokenizer.encode(request.inputs).ids
        require_fit(self.graphs, len(ids), request.parameters.max_new_tokens)
        return request, ids


def answer_of(request: Request, done: Generation) -> dict[str, Any]:
    """The body of the answer, by the LMI schema."""
    prefix = request.inputs if request.parameters.return_full_text else ""
    answer: dict[str, Any] = {"generated_text": prefix + done.text}
    if request.parameters.details:
        answer["details"] = {
            "finish_reason": done.finish_reason,
            "generated_tokens": len(done.tokens),
            "tokens": [
                {"id": token.id, "text": token.text, "log_prob": token.log_prob}
                | ({"special_token": True} if token.special else {})
                for token in done.tokens
            ],
        }
    return answer
