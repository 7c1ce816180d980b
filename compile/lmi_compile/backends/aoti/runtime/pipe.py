"""Serves the tree to the process that started it: one JSON object a line, both ways.

    python -m lmi_aoti_runtime.pipe     (in the packaged tree)

Asked on stdin: `{"id": n, "body": {...}, "special_tokens": bool, "fill": bool}`, the body
being a request as `request.parse` reads it, and `{"id": n, "cancel": true}`. Told on stdout: first
`{"ready": {...}}` or `{"refused": why}`; then for each request `{"id": n, "prompt": tokens}`,
`{"id": n, "token": {...}}` for each, and `{"id": n, "done": {...}}` or `{"id": n, "error": {"code",
"error"}}`.
The end of stdin ends the process.
"""

import json
import os
import sys
import threading
import traceback
from concurrent.futures import Future
from pathlib import Path
from typing import Any, BinaryIO

from .batching import Batcher
from .environment import RankLost, RuntimeMismatch
from .generate import Generation, Token
from .request import BadRequest
from .service import Service, token_of

_PROTOCOL = 1


class Pipe:
    """Requests from one process, answered as the batcher makes them."""

    def __init__(self, service: Service, out: BinaryIO) -> None:
        """Tells on `out` that the model is ready, and what it is."""
        self._batcher = Batcher(service)
        self._out = out
        self._lock = threading.Lock()
        self._promises: dict[int, Future[Generation]] = {}
        graphs = service.graphs
        ready = {
            "protocol": _PROTOCOL,
            "pid": os.getpid(),
            "name": graphs.description["name"],
            "limits": graphs.description["limits"],
            "threads": {"count": graphs.threads.count, "why": graphs.threads.why},
        }
        self._tell({"ready": ready})

    def serve(self, lines: BinaryIO) -> None:
        """Takes requests until there are no more."""
        for line in lines:
            asked = json.loads(line)
            number: int = asked["id"]
            if asked.get("cancel"):
                promise = self._promises.get(number)
                if promise is not None:
                    promise.cancel()
                continue
            try:
                self._begin(number, asked)
            except BadRequest as error:
                self._tell({"id": number, "error": {"code": 400, "error": str(error)}})

    def _begin(self, number: int, asked: dict[str, Any]) -> None:
        request, ids = self._batcher.service.accept(
            asked["body"], special_tokens=asked["special_tokens"], fill=asked["fill"]
        )
        self._tell({"id": number, "prompt": len(ids)})

        def tell(token: Token, done: Generation | None) -> None:
            del done  # told when the promise is kept
            self._tell({"id": number, "token": token_of(token)})

        promise = self._batcher.submit(request, ids, tell)
        self._promises[number] = promise
        promise.add_done_callback(lambda ended: self._end(number, ended))

    def _end(self, number: int, ended: "Future[Generation]") -> None:
        self._promises.pop(number, None)
        if ended.cancelled():
            return
        error = ended.exception()
        if isinstance(error, RankLost):
            self._tell({"id": number, "error": {"code": 503, "error": str(error)}})
            os._exit(1)  # whoever started this process starts it again
        if error is not None:
            traceback.print_exception(error)
            told = {"code": 500, "error": "the model failed on this request; see the server's log"}
            self._tell({"id": number, "error": told})
            return
        done = ended.result()
        told = {"finish_reason": done.finish_reason, "text": done.text}
        self._tell({"id": number, "done": told})

    def _tell(self, told: dict[str, Any]) -> None:
        line = json.dumps(told, allow_nan=False).encode() + b"\n"
        with self._lock:
            self._out.write(line)
            self._out.flush()


def main() -> int:
    """Serves until stdin ends; returns the exit code."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed must not be taken for an answer
    try:
        service = Service(Path(__file__).resolve().parent.parent)
    except RuntimeMismatch as error:
        out.write(json.dumps({"refused": str(error)}).encode() + b"\n")
        out.flush()
        return 1
    Pipe(service, out).serve(sys.stdin.buffer)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # the decode thread may be inside a graph, where an interpreter cannot end it
