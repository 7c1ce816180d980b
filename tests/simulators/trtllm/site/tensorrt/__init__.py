"""Stands in for TensorRT's Python package."""

import json
import os
from pathlib import Path

_MACHINE = json.loads((Path(os.environ["SIMULATED_TRTLLM"]) / "machine.json").read_bytes())
__version__ = _MACHINE.get("tensorrt", "10.11.0.33")
