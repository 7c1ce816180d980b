"""A rank of a split model: runs what rank 0 tells it, until that one is gone.

    python -m lmi_aoti_runtime.rank RANK DEGREE STORE     (started by rank 0)

Says `{"ready": true}` or `{"refused": why}` on stdout, then reads a line of JSON for each step and
writes the logits of its own words as they lie in memory.
"""

import json
import os
import sys
from pathlib import Path

from .environment import RuntimeMismatch
from .graphs import Graphs
from .tensorfile import raw


def main(arguments: list[str]) -> int:
    """Serves rank 0 until its end; returns the exit code."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed must not be taken for an answer
    rank, store = int(arguments[0]), Path(arguments[2])
    try:
        graphs = Graphs(Path(__file__).resolve().parent.parent, rank)
    except RuntimeMismatch as error:
        out.write(json.dumps({"refused": str(error)}).encode() + b"\n")
        out.flush()
        return 1
    out.write(b'{"ready": true}\n')
    out.flush()
    if not sys.stdin.buffer.readline():
        return 0
    graphs.join(store)
    for line in sys.stdin.buffer:
        try:
            logits = graphs.follow(json.loads(line)).contiguous()
            out.write(raw(logits))
            out.flush()
        except (RuntimeError, OSError) as error:
            sys.stderr.write(f"rank {rank}: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # gloo's threads may be waiting for a rank that is gone
