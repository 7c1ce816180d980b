"""Starts vLLM's engine once, so that it compiles every graph into its cache, and ends.

    VLLM_NEURON_CPU_COMPILE=1 python vllm_compile.py --model DIR --tensor-parallel-size N ...

The vendor's own example starts the API server, which does not end by itself.
"""

import argparse
import importlib
import sys
from typing import Any


def main(arguments: "list[str]") -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="vllm_compile")
    parser.add_argument("--model", required=True)
    for name in ("tensor-parallel-size", "max-model-len", "max-num-seqs"):
        parser.add_argument(f"--{name}", type=int, required=True)
    asked = parser.parse_args(arguments)
    vllm: Any = importlib.import_module("vllm")
    vllm.LLM(
        model=asked.model,
        tensor_parallel_size=asked.tensor_parallel_size,
        max_model_len=asked.max_model_len,
        max_num_seqs=asked.max_num_seqs,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
