"""Serves a text generator to the process that started it (`wire` says how they talk).

    python -m lmi_aoti_runtime.pipe     (in the packaged tree)

Asked: `{"id": n, "body": {...}, "special_tokens": bool, "fill": bool}`, the body being a request as
`request.parse` reads it, and `{"id": n, "cancel": true}`. Told of each request:
`{"id": n, "prompt": tokens}`, `{"id": n, "token": {...}}` for each, and `{"id": n, "done": {...}}`
or `{"id": n, "error": {"code", "error"}}`.
"""

import os
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from .batching import Batcher
from .environment import RankLost
from .generate import Generation, Token
from .service import Service, token_of
from .wire import Wire, talk


class Pipe:
    """Requests from one process, answered as the batcher makes them."""

    def __init__(self, root: Path, wire: Wire) -> None:
        """Loads the model, and tells that it is ready.

        Raises:
            RuntimeMismatch: It cannot be served here; the text says why.
        """
        service = Service(root)
        self._batcher = Batcher(service)
        self._wire = wire
        self._promises: dict[int, Future[Generation]] = {}
        wire.ready(service.graphs.description, service.threads)

    def take(self, asked: dict[str, Any]) -> None:
        """Begins a request, or ends one that nobody waits for any more."""
        number: int = asked["id"]
        if asked.get("cancel"):
            promise = self._promises.get(number)
            if promise is not None:
                promise.cancel()
            return
        try:
            self._begin(number, asked)
        except Exception as error:  # noqa: BLE001 - becomes the answer
            self._wire.fail(number, error)

    def _begin(self, number: int, asked: dict[str, Any]) -> None:
        request, ids = self._batcher.service.accept(
            asked["body"], special_tokens=asked["special_tokens"], fill=asked["fill"]
        )
        self._wire.tell({"id": number, "prompt": len(ids)})

        def tell(token: Token, done: Generation | None) -> None:
            del done  # told when the promise is kept
            self._wire.tell({"id": number, "token": token_of(token)})

        promise = self._batcher.submit(request, ids, tell)
        self._promises[number] = promise
        promise.add_done_callback(lambda ended: self._end(number, ended))

    def _end(self, number: int, ended: "Future[Generation]") -> None:
        self._promises.pop(number, None)
        if ended.cancelled():
            return
        error = ended.exception()
        if isinstance(error, RankLost):
            self._wire.tell({"id": number, "error": {"code": 503, "error": str(error)}})
            os._exit(1)  # whoever started this process starts it again
        if error is not None:
            self._wire.fail(number, error)
            return
        done = ended.result()
        told = {"finish_reason": done.finish_reason, "text": done.text}
        self._wire.tell({"id": number, "done": told})


if __name__ == "__main__":
    code = talk(lambda root, wire: Pipe(root, wire).take)
    sys.stderr.flush()
    os._exit(code)  # the decode thread may be inside a graph, where an interpreter cannot end it
