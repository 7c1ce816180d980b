"""Serves the packaged model in a djl-serving Python worker (`option.entryPoint=model.py`).

The worker executes this file several times and calls `handle` once with an empty request, which
carries the properties; so nothing is loaded at import, and everything in that first call.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Union

from djl_python import Input, Output

_ROOT = Path(__file__).resolve().parent
sys.dont_write_bytecode = True  # the tree may be read-only, and stays as it was checked
if str(_ROOT) not in sys.path:
    sys.path.insert(0, str(_ROOT))
from lmi_aoti_runtime import door  # type: ignore[import-not-found]  # noqa: E402 - the packaged name, beside this file

if TYPE_CHECKING:
    from lmi_aoti_runtime.one_pass import OnePass  # type: ignore[import-not-found]
    from lmi_aoti_runtime.service import Service  # type: ignore[import-not-found]

_model: Union["Service", "OnePass", None] = None


def handle(inputs: Input) -> Output | None:
    """Loads the model on the first, empty request; answers every later one, streamed if it asks.

    Raises:
        RuntimeMismatch: While loading: this container cannot serve the model, and why.
    """
    global _model  # noqa: PLW0603 - djl-serving keeps the module as the model's state
    if _model is None and inputs.is_empty():
        _model = door.load(_ROOT)
        return None
    wrong = door.problem(inputs, loaded=_model is not None)
    if wrong is not None or _model is None:
        return door.refused(wrong)
    try:
        content_type = inputs.get_property("content-type") or "application/json"
        return door.answered(_model.reply(bytes(inputs.get_as_bytes()), content_type))
    except Exception as error:  # noqa: BLE001 - becomes the answer
        return door.refused(door.failure(error))
