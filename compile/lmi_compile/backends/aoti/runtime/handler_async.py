"""Serves the packaged model to several callers at once (`option.async_mode=true`).

As in the sync handler, everything is loaded in the first call. Requests then meet in the batcher:
each joins the running decode when a slot is free and leaves it when it has ended.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from djl_python import Input, Output

_ROOT = Path(__file__).resolve().parent
sys.dont_write_bytecode = True  # the tree may be read-only, and stays as it was checked
if str(_ROOT) not in sys.path:
    sys.path.insert(0, str(_ROOT))
from lmi_aoti_runtime import door  # type: ignore[import-not-found]  # noqa: E402 - the packaged name, beside this file

if TYPE_CHECKING:
    from lmi_aoti_runtime.batching import Batcher  # type: ignore[import-not-found]
    from lmi_aoti_runtime.generate import Generation, Token  # type: ignore[import-not-found]
    from lmi_aoti_runtime.request import Request  # type: ignore[import-not-found]

_batcher: Optional["Batcher"] = None


async def handle(inputs: Input) -> Output | AsyncIterator[Output] | None:
    """Loads the model on the first, empty request; answers every later one, streamed if it asks.

    Raises:
        RuntimeMismatch: While loading: this container cannot serve the model, and why.
    """
    global _batcher  # noqa: PLW0603 - djl-serving keeps the module as the model's state
    if _batcher is None and inputs.is_empty():
        service = door.load(_ROOT)
        from lmi_aoti_runtime.batching import Batcher  # noqa: PLC0415 - after the checks

        _batcher = Batcher(service)
        return None
    wrong = door.problem(inputs, loaded=_batcher is not None)
    if wrong is not None or _batcher is None:
        return door.refused_piece(wrong)
    try:
        request, ids = _batcher.service.read(bytes(inputs.get_as_bytes()))
        if request.stream:
            return _stream(_batcher, request, ids)
        done = await asyncio.wrap_future(_batcher.submit(request, ids))
    except Exception as error:  # noqa: BLE001 - becomes the answer
        return door.refused_piece(door.failure(error))
    from lmi_aoti_runtime.service import answer_of  # type: ignore[import-not-found]  # noqa: PLC0415 - loaded with the service

    return door.whole_piece(answer_of(request, done))


async def _stream(batcher: "Batcher", request: "Request", ids: list[int]) -> AsyncIterator[Output]:
    """One piece for each token; a failure becomes the last one."""
    from lmi_aoti_runtime.service import line_of  # noqa: PLC0415 - loaded with the service

    loop = asyncio.get_running_loop()
    told: asyncio.Queue[tuple[Token, Generation | None] | None] = asyncio.Queue()

    def tell(token: "Token", done: "Generation | None") -> None:
        loop.call_soon_threadsafe(told.put_nowait, (token, done))

    promise = batcher.submit(request, ids, tell)
    promise.add_done_callback(lambda _: loop.call_soon_threadsafe(told.put_nowait, None))
    while (piece := await told.get()) is not None:
        token, done = piece
        yield door.line_piece(line_of(request, token, done), last=done is not None)
    error = promise.exception()
    if error is not None:
        yield door.refused_piece(door.failure(error))
