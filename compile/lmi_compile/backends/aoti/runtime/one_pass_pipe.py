"""Serves a model of one pass to the process that started it (`wire` says how they talk).

    python -m lmi_aoti_runtime.one_pass_pipe     (in the packaged tree)

Asked: `{"id": n, "body": base64, "content_type": str}`, a request as a container gets it. Told of
each: `{"id": n, "done": {"finish_reason": "answer", "answer": ...}}`, or `{"id": n, "error":
{"code", "error"}}`. One is answered after the other; `{"id": n, "cancel": true}` changes nothing.
"""

import base64
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .one_pass import OnePass
from .wire import Wire, talk


def _load(root: Path, wire: Wire) -> Callable[[dict[str, Any]], None]:
    model = OnePass(root)
    wire.ready(model.description, model.threads)

    def take(asked: dict[str, Any]) -> None:
        if asked.get("cancel"):
            return
        number: int = asked["id"]
        try:
            answer = model.reply(base64.b64decode(asked["body"]), asked["content_type"])
            wire.tell({"id": number, "done": {"finish_reason": "answer", "answer": answer}})
        except Exception as error:  # noqa: BLE001 - becomes the answer
            wire.fail(number, error)

    return take


if __name__ == "__main__":
    sys.exit(talk(_load))
