"""What decides the bytes of a compiled graph: the graph and the target, not this machine's day."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow
# Loops that Inductor splits among threads, a reduction over all of them among these.
_COMPILE = """
import hashlib
from types import SimpleNamespace
import torch
from lmi_compile.backends.aoti import inductor
from lmi_compile.backends.aoti.scratch import fixed_scratch

class Rows(torch.nn.Module):
    def forward(self, given):
        return torch.softmax(given * 2 + 1, -1), given.sum()

target = inductor.Target(march="x86-64-v3", simdlen=256)
inductor.require_vectors(target)
given = (torch.arange(64.0 * 4096).reshape(64, 4096),)
exported = SimpleNamespace(program=torch.export.export(Rows(), given), example=given)
with fixed_scratch("test-inductor-threads") as scratch:
    library = scratch / "graph" / "model.so"
    inductor.compile_to(exported, library, target)
    print(torch.get_num_threads(), hashlib.sha256(library.read_bytes()).hexdigest())
"""


def test_the_bytes_do_not_depend_on_the_threads_that_are_free() -> None:
    said = []
    for threads in ("1", "2"):
        ended = subprocess.run(
            [sys.executable, "-c", _COMPILE],
            env={**os.environ, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        said.append(ended.stdout.split())
    (one, alone), (two, together) = said
    assert (one, two) == ("1", "2")
    assert alone == together
