"""The child process that runs one `Call`: `python -m lmi_compile.worker REQUEST.json`.

The request holds the function, its params, the input directories and the output directory, and,
away from the machine that planned it, what this place must be like. Its standard input stays open
as long as the parent lives: when it ends, the parent is dead, and the worker kills its whole
process group, compilers included, so that nothing goes on unattended.
"""

import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

from lmi_compile.errors import OurBug, exit_code_of, to_failure


def main(request_file: str) -> int:
    """Run the call that `request_file` describes; returns the exit code."""
    threading.Thread(target=_die_with_the_parent, daemon=True).start()
    request = json.loads(Path(request_file).read_bytes())
    module, _, function = request["function"].partition(":")
    try:
        if "expected" in request:
            from lmi_compile.place import require_place  # noqa: PLC0415 - only away from home

            require_place(request["function"], request["expected"])
        run = getattr(importlib.import_module(module), function)
        inputs = {name: Path(path) for name, path in request["inputs"].items()}
        run(request["params"], inputs, Path(request["out"]))
    except Exception as error:  # noqa: BLE001 - every failure must cross to the parent as data
        failure = to_failure(error)
        if failure["kind"] == OurBug.__name__:
            traceback.print_exc()
        else:  # the parent says it to people; the log says it too
            print("\n".join(filter(None, (failure["what"], failure["why"]))))  # noqa: T201 - the log
        with contextlib.suppress(OSError):  # a full disk; the log says as much
            Path(request["failure"]).write_text(json.dumps(failure), encoding="utf-8")
        return exit_code_of(error)
    return 0


def _die_with_the_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a file, as started
    code = main(sys.argv[1])
    sys.stdout.flush()
    os._exit(code)  # libraries with threads of their own must not hold up a finished step
