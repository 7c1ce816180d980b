"""Serves the packaged model to several callers at once (`option.async_mode=true`).

As in the sync handler, everything is loaded in the first call. Requests then meet in the batcher:
each joins the running decode when a slot is free and leaves it when it has ended.
"""

import asyncio
import sys
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

_batcher: Optional["Batcher"] = None


async def handle(inputs: Input) -> Output | None:
    """Loads the model on the first, empty request; answers every later one.

    Raises:
        RuntimeMismatch: While loading: this container cannot serve the model, and why.
    """
    global _batcher  # noqa: PLW0603 - djl-serving keeps the module as the model's state
    if _batcher is None and inputs.is_empty():
        service = door.load(_ROOT)
        from lmi_aoti_runtime.batching import Batcher  # noqa: PLC0415 - after the checks

        _batcher = Batcher(service)
        return None
    refused: Output | None = door.problem(inputs, loaded=_batcher is not None)
    if refused is not None or _batcher is None:
        return refused
    try:
        answer = await asyncio.wrap_future(_batcher.submit(bytes(inputs.get_as_bytes())))
    except Exception as error:  # noqa: BLE001 - becomes the answer
        return door.failure(error)
    return door.as_json(Output(), answer)
