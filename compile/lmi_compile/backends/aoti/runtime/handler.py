"""Serves the packaged model in a djl-serving Python worker (`option.entryPoint=model.py`).

The worker executes this file several times and calls `handle` once with an empty request, which
carries the properties; so nothing is loaded at import, and everything in that first call.
"""

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from djl_python import Input, Output

if TYPE_CHECKING:
    from lmi_aoti_runtime.service import Service  # type: ignore[import-not-found]  # the packaged name

# Never the request's own words: this becomes the status line.
_PHRASES = {400: "Bad Request", 500: "Internal Server Error", 503: "Service Unavailable"}
_service: Optional["Service"] = None


def handle(inputs: Input) -> Output | None:
    """Loads the model on the first, empty request; answers every later one.

    Raises:
        RuntimeMismatch: While loading: this container cannot serve the model, and why.
    """
    global _service  # noqa: PLW0603 - djl-serving keeps the module as the model's state
    if _service is None and inputs.is_empty():
        _service = _load()
        return None
    if _service is None:
        return _refusal(503, "the model is not loaded: the first request must be empty")
    if inputs.is_empty():
        return _refusal(400, "the request has no body")
    if inputs.is_batch():
        return _refusal(400, "the model answers one request at a time: leave batch_size at 1")
    return _answer(_service, bytes(inputs.get_as_bytes()))


def _load() -> "Service":
    root = Path(__file__).resolve().parent
    sys.dont_write_bytecode = True  # the tree may be read-only, and stays as it was checked
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    from lmi_aoti_runtime import environment  # type: ignore[import-not-found]  # noqa: PLC0415 - says in words why torch is wrong

    environment.check(environment.load_description(root)["requires"])
    from lmi_aoti_runtime.service import Service  # noqa: PLC0415 - imports torch, after the check

    service = Service(root)
    threads = service.graphs.threads
    logging.getLogger(__name__).info("%d threads: %s", threads.count, threads.why)
    return service


def _answer(service: "Service", body: bytes) -> Output:
    from lmi_aoti_runtime.request import BadRequest  # type: ignore[import-not-found]  # noqa: PLC0415 - loaded with the service

    try:
        answer = service.answer(body)
    except BadRequest as error:
        return _refusal(400, str(error))
    except Exception:
        logging.getLogger(__name__).exception("a request failed")
        return _refusal(500, "the model failed on this request; see the container's log")
    return _json(Output(), answer)


def _refusal(code: int, error: str) -> Output:
    return _json(Output(code=code, message=_PHRASES[code]), {"code": code, "error": error})


def _json(output: Output, content: dict[str, object]) -> Output:
    output.add_property("content-type", "application/json")
    output.add(json.dumps(content, ensure_ascii=False, allow_nan=False))
    return output
