"""`testbed.py ARGS...`: `lmi-compile`, with a registry that takes what simulators made."""

import sys
from functools import partial

from lmi_artifacts import registry
from lmi_compile.cli.app import run

if __name__ == "__main__":
    registry.open_registry = partial(  # type: ignore[assignment]
        registry.open_registry, allow_simulated=True
    )
    sys.exit(run(sys.argv[1:]))
