"""Serves the packaged model in a djl-serving Python worker (`option.entryPoint=model.py`).

The worker executes this file several times and calls `handle` once with an empty request, which
carries the properties; so nothing is loaded at import, and everything in that first call.
"""

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
    from lmi_aoti_runtime.service import Service  # type: ignore[import-not-found]

_service: Optional["Service"] = None


def handle(inputs: Input) -> Output | None:
    """Loads the model on the first, empty request; answers every later one, streamed if it asks.

    Raises:
        RuntimeMismatch: While loading: this container cannot serve the model, and why.
    """
    global _service  # noqa: PLW0603 - djl-serving keeps the module as the model's state
    if _service is None and inputs.is_empty():
        _service = door.load(_ROOT)
        return None
    wrong = door.problem(inputs, loaded=_service is not None)
    if wrong is not None or _service is None:
        return door.refused(wrong)
    try:
        request, ids = _service.read(bytes(inputs.get_as_bytes()))
        if request.stream:
            return door.streamed(_service.lines(request, ids))
        return door.whole(Output(), _service.answer(request, ids))
    except Exception as error:  # noqa: BLE001 - becomes the answer
        return door.refused(door.failure(error))
