"""The proof step: nothing of a NEFF's start can be watched without a Neuron device.

What can be said offline is said by the package step, which refuses a tree whose container would
compile: ranks without weights, other shapes than the compiled ones, failed cache entries.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.proof.record import Proof


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes `proof.json` with the decision SKIPPED and why.

    Args:
        params: `route`.
        inputs: `package`, the served tree; not read.
        out: receives the file.
    """
    del inputs
    why = (
        f"a tree of the route {params['route']} starts only on a Neuron device, in its own"
        " container; the watched start is for the host's own interpreter"
    )
    proof = Proof(decision="SKIPPED", reasons=(why,))
    text = json.dumps(proof.to_json(), indent=2, ensure_ascii=False)
    (out / "proof.json").write_text(text + "\n", encoding="utf-8")
    print(proof.line(), flush=True)  # noqa: T201 - a step's progress is its stdout
