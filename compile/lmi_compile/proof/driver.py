"""Runs inside the sealed child process: loads a served tree and sends it one request.

It does what DJL Serving's Python engine does with a custom model.py (djl_python_engine.py,
service_loader.py and python_sync_engine.py at deepjavalibrary/djl-serving d21927c4): the working
directory and the first import path are the tree, the entry point is executed three times under
one module name (once as the service, twice to look for marked formatters), the first request is
empty and carries the model's properties, the second one is real. No socket is opened: the engine's
own socket to the Java side would drown what the proof looks for.

Usage: `python -P driver.py CONFIG` in the tree and with it as PYTHONPATH, CONFIG being JSON with
`tree`, `report` (a file descriptor), `started` (CLOCK_MONOTONIC when the process began),
`properties` (as Python sees them: without `option.`), `request` (JSON) and `stand_in` (a file).
Each stage is reported as one line of JSON: `loaded`, `ready`, then `answer` or `failed`.

Standard library only, and nothing from our packages: what the driver does must never be an event.
"""

import hashlib
import importlib.util
import inspect
import json
import os
import resource
import struct
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

_TIMES_EXECUTED = 3
_FIRST_FAILING_CODE = 300


class Refused(Exception):
    """The tree did not do what the container asks of it."""


class Report:
    """Writes stages to an open file descriptor, each with the time and CPU spent so far."""

    def __init__(self, descriptor: int, started: float) -> None:
        self._descriptor = descriptor
        self._started = started

    def spent(self) -> dict[str, float]:
        """Seconds and CPU seconds (children that ended included) since the process began."""
        own = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        return {"seconds": time.monotonic() - self._started, "cpu_seconds": cpu}

    def stage(self, name: str, **values: object) -> None:
        """Writes one line."""
        line = json.dumps({"stage": name, **self.spent(), **values})
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]


def main() -> int:
    """Serves one request.

    Returns:
        0 for an answer, 1 for anything else.
    """
    config = json.loads(sys.argv[1])
    report = Report(config["report"], float(config["started"]))
    tree = Path(config["tree"])
    try:
        _serve(tree, config, report)
    except Refused as refused:
        report.stage("failed", reason=str(refused))
    except BaseException as error:  # noqa: BLE001 - a handler may raise anything, SystemExit too
        traceback.print_exc()
        report.stage("failed", reason=f"the handler raised {type(error).__name__}: {error}")
    else:
        return 0
    return 1


def _serve(tree: Path, config: dict[str, Any], report: Report) -> None:
    properties = config["properties"]
    djl = _djl_python(Path(config["stand_in"]))
    entry_point = properties.get("entryPoint", "model.py")
    module = _load(tree, entry_point)
    for _ in range(_TIMES_EXECUTED - 1):
        _load(tree, "model.py" if (tree / "model.py").is_file() else entry_point)
    name = properties.get("handler", "handle")
    handle = getattr(module, name, None)
    if not callable(handle):
        problem = f"{entry_point} has no function {name}(inputs)"
        raise Refused(problem)
    handle = _called_at_once(handle)
    report.stage("loaded", djl_python=getattr(djl, "__file__", None) or "namespace")

    first = djl.Input()
    first.function_name = name
    first.properties.update(properties, model_dir=str(tree), device_id="-1")
    output = handle(first)
    if output is not None:
        _checked(output, djl, "the first, empty request")
    report.stage("ready")

    second = djl.Input()
    second.function_name = name
    second.properties.update(
        {"content-type": "application/json", "model_dir": str(tree), "device_id": "-1"}
    )
    body = json.dumps(config["request"], ensure_ascii=False).encode("utf-8")
    second.content.add(key="data", value=bytearray(body))
    output = _checked(handle(second), djl, "the request")
    first_token = report.spent()
    if getattr(output, "stream_content", None) is not None:
        text, first_token = _drained(output, report)
    else:
        count = output.content.size()
        text = b"".join(bytes(output.content.value_at(i)) for i in range(count))
    if not text.strip():
        problem = "the answer is empty"
        raise Refused(problem)
    report.stage("answer", first_token=first_token, body=text.decode("utf-8", "backslashreplace"))


def _called_at_once(handle: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """An `async def handle` (option.async_mode) as a plain function, over one event loop."""
    if not inspect.iscoroutinefunction(handle):
        return handle
    import asyncio  # noqa: PLC0415 - only an async handler pays for it, as in the real worker

    loop = asyncio.new_event_loop()

    def called(inputs: Any) -> Any:  # noqa: ANN401 - the tree's objects
        output = loop.run_until_complete(handle(inputs))
        return output if output is None else _unframed(output)

    return called


def _unframed(output: Any) -> Any:  # noqa: ANN401 - as above
    """An async answer as the Java side reads it: fields with their lengths, `data` among them.

    Source: addResponse of Request.java, ai.djl.python.engine, d21927c4.
    """
    try:
        frame = bytes(output.content.value_at(0))
        words, place = [], 2
        for _ in range(2 * struct.unpack_from(">h", frame)[0]):
            (length,) = struct.unpack_from(">i", frame, place)
            words.append(frame[place + 4 : place + 4 + length].decode("utf-8"))
            place += 4 + length
        fields = dict(zip(words[::2], words[1::2], strict=True))
        data = fields["data"]
    except (struct.error, ValueError, KeyError, IndexError, AttributeError) as error:
        problem = f"an async answer must be framed fields with `data`, and this is not: {error!r}"
        raise Refused(problem) from error
    if "code" in fields:
        output.set_code(int(fields["code"]))
        data = fields.get("error", "")
    output.content.values[0] = bytearray(data.encode("utf-8"))
    return output


def _checked(output: Any, djl: ModuleType, asked: str) -> Any:  # noqa: ANN401 - the tree's object
    if not isinstance(output, djl.Output):
        problem = f"{asked} was answered with {type(output).__name__}, not with an Output"
        raise Refused(problem)
    if output.code >= _FIRST_FAILING_CODE:
        count = output.content.size()
        said = b" ".join(bytes(output.content.value_at(i)) for i in range(count))
        detail = said.decode("utf-8", "backslashreplace") or output.message
        problem = f"{asked} was answered with code {output.code}: {detail}"
        raise Refused(problem)
    return output


def _drained(output: Any, report: Report) -> tuple[bytes, dict[str, float]]:  # noqa: ANN401 - as above
    text = bytearray()
    first_token: dict[str, float] | None = None
    for chunk in output.stream_content:
        first_token = first_token or report.spent()
        formatter = output.stream_output_formatter
        data = chunk if formatter is None else formatter(chunk)
        if isinstance(data, str):
            data = data.encode("utf-8")
        text += data if isinstance(data, bytes | bytearray) else json.dumps(data).encode("utf-8")
    return bytes(text), first_token or report.spent()


def _load(tree: Path, entry_point: str) -> ModuleType:
    """Executes the entry point as the engine does since 0.36: a fresh module under one name."""
    if not entry_point.endswith(".py"):
        return importlib.import_module(entry_point)
    file = tree / entry_point
    if not file.is_file():
        problem = f"entry-point file not found: {entry_point}"
        raise Refused(problem)
    digest = hashlib.md5(str(file).encode(), usedforsecurity=False).hexdigest()
    name = f"model_{digest[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        problem = f"{entry_point} cannot be loaded as Python"
        raise Refused(problem)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _djl_python(stand_in: Path) -> ModuleType:
    """The real djl_python where it can be imported, else the stand-in under the same names."""
    if importlib.util.find_spec("djl_python") is not None:
        return importlib.import_module("djl_python")
    spec = importlib.util.spec_from_file_location("djl_python", stand_in)
    if spec is None or spec.loader is None:
        problem = f"{stand_in} cannot be loaded"
        raise Refused(problem)
    module = importlib.util.module_from_spec(spec)
    module.__path__ = []
    for name in ("djl_python", "djl_python.inputs", "djl_python.outputs"):
        sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # No interpreter shutdown: what the handler wrote stays as it was when the answer came.
    os._exit(status)
