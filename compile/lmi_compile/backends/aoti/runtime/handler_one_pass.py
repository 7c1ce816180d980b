"""Serves a packaged encoder or image classifier in a djl-serving Python worker.

As in the text generator's handler, everything is loaded in the first call, which is empty.
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
    from lmi_aoti_runtime.one_pass import OnePass  # type: ignore[import-not-found]

_model: Optional["OnePass"] = None


def handle(inputs: Input) -> Output | None:
    """Loads the model on the first, empty request; answers every later one.

    Raises:
        RuntimeMismatch: While loading: this container cannot serve the model, and why.
    """
    global _model  # noqa: PLW0603 - djl-serving keeps the module as the model's state
    if _model is None and inputs.is_empty():
        _model = door.load_one_pass(_ROOT)
        return None
    wrong = door.problem(inputs, loaded=_model is not None)
    if wrong is not None or _model is None:
        return door.refused(wrong)
    content_type = inputs.get_property("content-type") or "application/json"
    try:
        asked = _model.read(bytes(inputs.get_as_bytes()), content_type)
        return door.whole(Output(), _model.answer(asked))
    except Exception as error:  # noqa: BLE001 - becomes the answer
        return door.refused(door.failure(error))
