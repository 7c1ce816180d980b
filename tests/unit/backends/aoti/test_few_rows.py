"""The kernel for few rows, called by a real compiled graph, against float64."""

from pathlib import Path

import pytest
import torch
from torch.export import export

from lmi_compile.backends.aoti import few_rows, inductor
from lmi_compile.backends.aoti.export import Exported

TYPES = (torch.float32, torch.bfloat16, torch.int8)
# Rows below, at and above the tile; lengths that are whole vectors and that are not.
SHAPES = ((1, 64, 16), (2, 33, 7), (3, 40, 5), (5, 7, 3), (8, 96, 17), (11, 129, 33))


class Products(torch.nn.Module):
    """All products of one graph, in order."""

    def forward(self, xs: list[torch.Tensor], weights: list[torch.Tensor]) -> list[torch.Tensor]:
        return [few_rows.few_rows(x, weight) * 1.0 for x, weight in zip(xs, weights, strict=True)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_every_shape_and_type_is_right(tmp_path: Path) -> None:
    torch.manual_seed(0)
    xs, weights = [], []
    for rows, width, out in SHAPES:
        for dtype in TYPES:
            weight = torch.randn(out, width) * 40
            weights.append(weight.round().clamp(-127, 127).to(dtype))
            xs.append(torch.randn(rows, width))
    kernels = few_rows.build(tmp_path / "kernels", "x86-64-v3")
    given = (xs, weights)
    exported = Exported(program=export(Products(), given), example=given)  # type: ignore[arg-type]  # its type is a decoder's
    library = tmp_path / "graph" / "model.so"
    target = inductor.Target(march="x86-64-v3", simdlen=256)
    inductor.compile_to(exported, library, target, kernels)
    runner = torch._C._aoti.AOTIModelContainerRunnerCpu(str(library), 1)
    for x, weight, found in zip(xs, weights, runner.run([*xs, *weights]), strict=True):
        expected = x.double() @ weight.double().T
        worst = float((found.double() - expected).abs().max() / expected.abs().max())
        assert worst < 1e-6, (list(x.shape), weight.dtype, worst)
