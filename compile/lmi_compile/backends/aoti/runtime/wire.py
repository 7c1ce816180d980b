"""Between a packaged model and the process that started it: one JSON object a line, both ways.

Told first, on stdout: `{"ready": {...}}` or `{"refused": why}`. The end of stdin ends the process.
"""

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from .environment import RuntimeMismatch
from .request import BadRequest
from .threads import Threads

_PROTOCOL = 1


class Wire:
    """What is told to the process that started this one; any thread may tell."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def tell(self, told: Mapping[str, Any]) -> None:
        """One line."""
        line = json.dumps(told, allow_nan=False).encode() + b"\n"
        with self._lock:
            self._out.write(line)
            self._out.flush()

    def ready(self, description: Mapping[str, Any], threads: Threads) -> None:
        """That the model is loaded, and what it is."""
        ready = {
            "protocol": _PROTOCOL,
            "pid": os.getpid(),
            "name": description["name"],
            "limits": description["limits"],
            "threads": {"count": threads.count, "why": threads.why},
        }
        self.tell({"ready": ready})

    def fail(self, number: int, error: BaseException) -> None:
        """Why a request has no answer: its own fault in words, ours in the log."""
        told = {"code": 400, "error": str(error)}
        if not isinstance(error, BadRequest):
            traceback.print_exception(error)
            told = {"code": 500, "error": "the model failed on this request; see the server's log"}
        self.tell({"id": number, "error": told})


def talk(load: Callable[[Path, Wire], Callable[[dict[str, Any]], None]]) -> int:
    """Loads the model of this tree, and hands on what is asked until stdin ends.

    Args:
        load: Given the tree and the wire; returns what takes each thing asked.

    Returns:
        The exit code.
    """
    wire = Wire(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # whatever else is printed must not be taken for an answer
    try:
        take = load(Path(__file__).resolve().parent.parent, wire)
    except RuntimeMismatch as error:
        wire.tell({"refused": str(error)})
        return 1
    for line in sys.stdin.buffer:
        take(json.loads(line))
    return 0
