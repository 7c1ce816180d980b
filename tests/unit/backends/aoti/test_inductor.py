"""What decides the bytes of a compiled graph: the graph and the target, not this machine's day."""

import hashlib
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from lmi_compile.backends.aoti import inductor
from lmi_compile.backends.aoti.export import Exported
from lmi_compile.backends.aoti.scratch import fixed_scratch

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]


class Rows(torch.nn.Module):
    """Loops that Inductor splits among threads, a reduction among them."""

    def forward(self, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.softmax(given * 2 + 1, -1), given.sum()


def test_the_bytes_do_not_depend_on_the_threads_that_are_free() -> None:
    target = inductor.Target(march="x86-64-v3", simdlen=256)
    inductor.require_vectors(target)
    given = (torch.arange(64.0 * 4096).reshape(64, 4096),)
    before, digests = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            program = torch.export.export(Rows(), given)
            exported: Any = SimpleNamespace(program=program, example=given)
            with fixed_scratch("test-inductor-threads") as scratch:
                library = scratch / "graph" / "model.so"
                inductor.compile_to(cast("Exported", exported), library, target)
                digests.append(hashlib.sha256(library.read_bytes()).hexdigest())
    finally:
        torch.set_num_threads(before)
    assert digests[0] == digests[1]
