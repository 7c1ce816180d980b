"""What a step's process is told: its command line, its environment, its request."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import OurBug
from lmi_compile.step import Argv, Call, Step
from lmi_compile.workspace import Staging

_PLACE = re.compile(r"\{(out|tmp|in:([A-Za-z0-9_-]+))\}")


def command(
    step: Step,
    inputs: Mapping[str, Path],
    staging: Staging,
    *,
    python: str = sys.executable,
    expected: Mapping[str, JSONValue] | None = None,
) -> list[str]:
    """The command line of `step`; a call's request is written into the staging directory.

    Args:
        step: what is run.
        inputs: the output directories of the steps it needs, by name.
        staging: where it runs.
        python: what runs a call.
        expected: what the place where a call runs must be like (`lmi_compile.place`).
    """
    match step.run:
        case Argv(argv=argv):
            return [fill(part, inputs, staging) for part in argv]
        case Call(function=function, params=params):
            request = staging.root / "request.json"
            paths = {name: str(path) for name, path in inputs.items()} | dict(step.local_inputs)
            content = {
                "function": function,
                "params": dict(params),
                "inputs": paths,
                "out": str(staging.out),
                "failure": str(staging.failure),
                **({"expected": dict(expected)} if expected else {}),
            }
            request.write_text(json.dumps(content), encoding="utf-8")
            return [python, "-P", "-m", "lmi_compile.worker", str(request)]


def environment(
    step: Step, inputs: Mapping[str, Path], staging: Staging, *, threads: int
) -> dict[str, str]:
    """The variables that every executor sets, and the step's own over them.

    Args:
        step: What is run.
        inputs: The output directories of the steps it needs.
        staging: Where it writes.
        threads: For OpenMP.

    Raises:
        OurBug: as `fill`.
    """
    fixed = {
        # More OpenMP threads than free cores spin against each other: seconds become minutes.
        "OMP_NUM_THREADS": str(threads),
        "TMPDIR": str(staging.tmp),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",  # beside a script that an earlier step made
        "HF_HUB_OFFLINE": "1",
    }
    return fixed | {name: fill(value, inputs, staging) for name, value in step.env.items()}


def fill(text: str, inputs: Mapping[str, Path], staging: Staging) -> str:
    """`text` with the names of `lmi_compile.step.Argv` replaced by this machine's paths.

    Raises:
        OurBug: it names a step that this one does not need.
    """

    def path(match: re.Match[str]) -> str:
        name = match.group(1)
        if name == "out":
            return str(staging.out)
        if name == "tmp":
            return str(staging.tmp)
        if match.group(2) not in inputs:
            what = f"{match.group()} names no step that is needed: {', '.join(inputs) or 'none'}"
            raise OurBug(what)
        return str(inputs[match.group(2)])

    return _PLACE.sub(path, text)
