"""A SIMULATOR of djl-serving's Python worker: what it does to a model.py, without the socket.

    python worker.py MODEL_DIR < requests.json > answers.json

As the real worker (0.36) does: the current directory and PYTHONPATH are the model's; `model.py` is
executed three times under the name `model_<md5>`, and the first execution serves; the
first request is empty and alone carries the properties; an exception becomes an answer with code
424. An `async def handle` gets all later requests at once, as with option.async_mode, and its
answers are read as the Java side reads them: each Output is one frame of `data`, `last`, `code` and
`error` (Request.java and AsyncRequestManager.java, d21927c4).
`requests.json` is a list of texts (or null for an empty request) that follow the first.
"""

import asyncio
import hashlib
import importlib.util
import inspect
import json
import logging
import struct
import sys
import types
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from djl_python import Input, Output

PROPERTIES = {"engine": "Python", "entryPoint": "model.py", "device_id": "-1"}
EXECUTIONS = 3


def load(model_dir: Path) -> ModuleType:
    file = model_dir / "model.py"
    digest = hashlib.md5(str(file).encode(), usedforsecurity=False).hexdigest()
    name = f"model_{digest[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


async def invoke(module: ModuleType, inputs: Input) -> Output:
    try:
        output = module.handle(inputs)
        if inspect.isawaitable(output):
            output = await output
    except Exception as error:
        logging.getLogger("simulator").exception("Failed invoke service.invoke_handler()")
        return Output().error(str(error))
    if output is None:
        return Output(code=204, message="No content")
    if inspect.iscoroutinefunction(module.handle):
        return await java_reads(output)
    if isinstance(output, Output) and output.stream_content is not None:
        output.contents = [chunk.encode() for chunk in output.stream_content]
    if not isinstance(output, Output):
        return Output().error(f"Invalid output type: {type(output)}")
    return output


async def java_reads(answer: Output | types.AsyncGeneratorType[Output, None]) -> Output:
    pieces = [answer] if isinstance(answer, Output) else [piece async for piece in answer]
    whole = Output()
    for piece in pieces:
        assert piece.code == 200, "the body of an async Output with another code is dropped"
        fields = frame(piece.contents[0])
        whole.properties |= piece.properties
        if "code" in fields:
            whole.code = int(fields["code"])
            told = {"code": whole.code, "error": fields["error"]}
            whole.contents.append(json.dumps(told).encode())
        else:
            whole.contents.append(fields["data"].encode())
    assert fields["last"] == "true", "the client would wait for more"
    return whole


def frame(data: bytes) -> dict[str, str]:
    words, place = [], 2
    for _ in range(2 * struct.unpack_from(">h", data)[0]):
        (length,) = struct.unpack_from(">i", data, place)
        words.append(data[place + 4 : place + 4 + length].decode())
        place += 4 + length
    assert place == len(data)
    return dict(zip(words[::2], words[1::2], strict=True))


async def serve(module: ModuleType, first: Input, later: list[Input]) -> list[Output]:
    outputs = [await invoke(module, first)]
    if inspect.iscoroutinefunction(module.handle):
        return [*outputs, *await asyncio.gather(*(invoke(module, one) for one in later))]
    return [*outputs, *[await invoke(module, one) for one in later]]


def main(model_dir: Path) -> None:
    modules = [load(model_dir) for _ in range(EXECUTIONS)]
    service = modules[0]
    heavy_before = "torch" in sys.modules
    headers = {"content-type": "application/json", "model_dir": str(model_dir)}
    first = Input({**PROPERTIES, "model_dir": str(model_dir)}, None)
    later = [
        Input(headers, None if body is None else body.encode()) for body in json.load(sys.stdin)
    ]
    outputs = asyncio.run(serve(service, first, later))
    report: dict[str, Any] = {
        "torch_imported_before_the_first_request": heavy_before,
        "modules": sorted(sys.modules),
        "outputs": [
            {
                "code": output.code,
                "properties": output.properties,
                "body": b"".join(output.contents).decode(),
            }
            for output in outputs
        ],
    }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
