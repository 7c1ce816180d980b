"""Entry of the simulated programs: `run.py TOOL ARGUMENTS...`."""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "site"))

if __name__ == "__main__":
    tool, *arguments = sys.argv[1:]
    module = importlib.import_module(f"neuron_simulator.{tool.replace('-', '_')}")
    sys.exit(module.main(arguments))
