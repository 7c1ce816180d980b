"""`lmi-compile`, and `python -m lmi_compile`."""

import gc
import sys

gc.set_threshold(100_000)  # all that a start allocates is kept; collecting it finds nothing

from lmi_compile.cli.app import run  # noqa: E402 - the line above is for this one


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
