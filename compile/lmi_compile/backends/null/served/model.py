"""The null backend's handler, as DJL Serving calls it."""

from pathlib import Path
from typing import Any

from djl_python import Input, Output

_state: dict[str, Any] = {}


def handle(inputs: Input) -> Output | None:
    """Answer one request; the first, empty one opens the table."""
    if inputs.is_empty():
        from null_runtime import Loaded  # noqa: PLC0415 - DJL runs this module three times

        _state["loaded"] = Loaded(Path(__file__).parent)
        return None
    request = inputs.get_as_json()
    tokens = request.get("parameters", {}).get("max_new_tokens", 30)
    ids = _state["loaded"].generate(request["inputs"], tokens)
    text = "".join(chr(97 + token % 26) for token in ids)
    return Output().add_as_json({"generated_text": text})
