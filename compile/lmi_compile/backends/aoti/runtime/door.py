"""What both handlers of a packaged model share: loading, and answers as djl-serving wants them.

The sync handler (`model.py` of batch 1) answers one request at a time; the async one (batch above
1) hands requests to the batcher. Nothing heavy is imported until `load`.
"""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from djl_python import Input, Output

if TYPE_CHECKING:
    from .service import Service

# Never the request's own words: this becomes the status line.
_PHRASES = {400: "Bad Request", 500: "Internal Server Error", 503: "Service Unavailable"}


def load(root: Path) -> "Service":
    """The model in the tree at `root`.

    Raises:
        RuntimeMismatch: This container cannot serve it, and why.
    """
    from . import environment  # noqa: PLC0415 - says in words why torch is wrong

    environment.check(environment.load_description(root)["requires"])
    from .service import Service  # noqa: PLC0415 - imports torch, after the check

    service = Service(root)
    threads = service.graphs.threads
    logging.getLogger(__name__).info("%d threads: %s", threads.count, threads.why)
    return service


def problem(inputs: Input, *, loaded: bool) -> Output | None:
    """The refusal of a request that no model can answer; None when there is nothing wrong."""
    if not loaded:
        return refusal(503, "the model is not loaded: the first request must be empty")
    if inputs.is_empty():
        return refusal(400, "the request has no body")
    if inputs.is_batch():
        return refusal(400, "each request is answered by itself: leave batch_size at 1")
    return None


def failure(error: Exception) -> Output:
    """The answer when a request failed: its own fault in words, ours in the log."""
    from .request import BadRequest  # noqa: PLC0415 - loaded with the service

    if isinstance(error, BadRequest):
        return refusal(400, str(error))
    logging.getLogger(__name__).error("a request failed", exc_info=error)
    return refusal(500, "the model failed on this request; see the container's log")


def refusal(code: int, error: str) -> Output:
    """An answer with an error code."""
    return as_json(Output(code=code, message=_PHRASES[code]), {"code": code, "error": error})


def as_json(output: Output, content: dict[str, object]) -> Output:
    """`output` with `content` as its body."""
    output.add_property("content-type", "application/json")
    output.add(json.dumps(content, ensure_ascii=False, allow_nan=False))
    return output
