"""What both handlers of a packaged model share: loading, and answers as djl-serving wants them.

The sync handler answers one request at a time, of a text generator of batch 1 or of a model of one
pass; the async one (batch above 1) hands requests to the batcher. Nothing heavy is imported until
`load`.
"""

import json
import logging
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from djl_python import Input, Output

if TYPE_CHECKING:
    from .one_pass import OnePass
    from .service import Service

# Never the request's own words: this becomes the status line.
_PHRASES = {400: "Bad Request", 500: "Internal Server Error", 503: "Service Unavailable"}
_ANSWERED_SECONDS = 1.0


class Refusal(NamedTuple):
    """Why a request has no answer: an HTTP status and a sentence."""

    code: int
    error: str


def load(root: Path) -> "Service | OnePass":
    """The model in the tree at `root`.

    Raises:
        RuntimeMismatch: This container cannot serve it, and why.
    """
    from . import environment  # noqa: PLC0415 - says in words why torch is wrong

    description = environment.load_description(root)
    environment.check(description["requires"])
    model = _one_pass(root) if "head" in description else _service(root)
    logging.getLogger(__name__).info("%d threads: %s", model.threads.count, model.threads.why)
    return model


def _service(root: Path) -> "Service":
    from .service import Service  # noqa: PLC0415 - imports torch, after the check

    return Service(root)


def _one_pass(root: Path) -> "OnePass":
    from .one_pass import OnePass  # noqa: PLC0415 - the same

    return OnePass(root)


def problem(inputs: Input, *, loaded: bool) -> Refusal | None:
    """Why no model can answer this request; None when there is nothing wrong."""
    if not loaded:
        return Refusal(503, "the model is not loaded: the first request must be empty")
    if inputs.is_empty():
        return Refusal(400, "the request has no body")
    if inputs.is_batch():
        return Refusal(400, "each request is answered by itself: leave batch_size at 1")
    return None


def failure(error: BaseException) -> Refusal:
    """Why a request failed: its own fault in words, ours in the log."""
    from .environment import RankLost  # noqa: PLC0415 - loaded with the service
    from .request import BadRequest  # noqa: PLC0415 - the same

    if isinstance(error, BadRequest):
        return Refusal(400, str(error))
    if isinstance(error, RankLost):
        logging.getLogger(__name__).error("%s", error)
        # djl-serving starts a worker anew when its process ends; until then the answer is out.
        ending = threading.Timer(_ANSWERED_SECONDS, os._exit, (1,))
        ending.daemon = True
        ending.start()
        return Refusal(503, str(error))
    logging.getLogger(__name__).error("a request failed", exc_info=error)
    return Refusal(500, "the model failed on this request; see the container's log")


def refused(refusal: Refusal) -> Output:
    """A refusal as the sync worker sends it."""
    return _whole(Output(code=refusal.code, message=_PHRASES[refusal.code]), refusal._asdict())


def answered(reply: object) -> Output:
    """An answer as the sync worker sends it: whole, or lines of JSON as they come."""
    if not isinstance(reply, Iterator):
        return _whole(Output(), reply)
    output = Output()
    output.add_property("content-type", "application/jsonlines")
    output.add_stream_content(reply, output_formatter=None)
    return output


def _whole(output: Output, content: object) -> Output:
    output.add_property("content-type", "application/json")
    output.add(_json(content))
    return output


def whole_piece(content: dict[str, object]) -> Output:
    """An answer as the async worker sends it."""
    return _piece("application/json", {"data": _json(content), "last": "true"})


def line_piece(line: str, *, last: bool) -> Output:
    """One line of a streamed answer, as the async worker sends it."""
    return _piece("application/jsonlines", {"data": line, "last": "true" if last else "false"})


def refused_piece(refusal: Refusal) -> Output:
    """A refusal as the async worker sends it; its body becomes the code and the error."""
    fields = {"data": "", "last": "true", "code": str(refusal.code), "error": refusal.error}
    return _piece("application/json", fields)


def _piece(content_type: str, fields: dict[str, str]) -> Output:
    """A piece of an async answer: `data`, whether it is the `last`, and `code` and `error`.

    The Java side reads every answer of an async handler like this, whole ones too. The Output's
    own code stays 200: with another one the body would be dropped.
    Source: `_create_output` of djl_python/async_utils.py, and `addResponse` of Request.java and
    `sendErrorResponse` of AsyncRequestManager.java in engines/python, d21927c4.
    """
    content = bytearray(struct.pack(">h", len(fields)))
    for word in (word for field in fields.items() for word in field):
        encoded = word.encode()
        content += struct.pack(">i", len(encoded)) + encoded
    output = Output()
    output.add_property("content-type", content_type)
    output.add(bytes(content))
    return output


def _json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False)
