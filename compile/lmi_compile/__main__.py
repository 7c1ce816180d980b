"""`lmi-compile`, and `python -m lmi_compile`."""

import sys

from lmi_compile.cli.app import run


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
