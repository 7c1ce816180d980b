"""Says that this route has no probe yet, so that the artifact stays unverified.

python probe_unwritten.py --tree DIR --reference DIR --request FILE --out DIR
"""

import argparse
import json
import sys
from pathlib import Path


def main(arguments: "list[str]") -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="probe_unwritten")
    for name in ("tree", "reference", "request", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    asked = parser.parse_args(arguments)
    route = json.loads(asked.request.read_bytes())["route"]
    reason = f"there is no probe for the route {route} yet; its outputs were not compared"
    devices = sorted(path.name for path in Path("/dev").glob("neuron[0-9]*"))
    told = {"format": 1, "devices": devices, "ran": False, "reason": reason}
    (asked.out / "outputs.json").write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    print(reason, flush=True)  # noqa: T201 - the step's log
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
