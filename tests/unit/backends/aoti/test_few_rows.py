"""The kernel for few rows: each instruction set alone against float64, and in a compiled graph."""

import ctypes
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeAlias

import pytest
import torch
from torch.export import export

from lmi_compile.backends.aoti import few_rows, inductor
from lmi_compile.backends.aoti.export import Exported

Product: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
TYPES = (torch.float32, torch.bfloat16, torch.int8, torch.float8_e4m3fn)
# Rows below, at and above the tile; lengths that are whole cache lines and that are not.
SHAPES = ((1, 64, 16), (2, 33, 7), (3, 40, 5), (5, 7, 3), (8, 192, 18), (11, 129, 32))
NEWER = {"x86-64-v3": "avx2", "x86-64-v4": "avx512vl"}
KNOWN = Path("/proc/cpuinfo").read_text("utf-8").split()
MARCHES = ["x86-64-v2", *(march for march, flag in NEWER.items() if flag in KNOWN)]


# The kernel's name is hidden in the libraries that it is linked into.
DOOR = """
extern "C" int aoti_torch_cpu_few_rows(void*, void*, void**);
extern "C" int product(void* x, void* weight, void** y) {
  return aoti_torch_cpu_few_rows(x, weight, y);
}
"""
POINTER = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
CAPSULE = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Builds the kernel, once for each instruction set."""
    folder = tmp_path_factory.mktemp("kernels")
    return cache(lambda march: few_rows.build(folder / march, march))


@pytest.fixture(scope="module", params=MARCHES)
def product(request: pytest.FixtureRequest, kernels: Callable[[str], Path]) -> Product:
    """The kernel for one instruction set, called by its own interface."""
    built = kernels(request.param)
    library, door = built / "alone.so", built / "door.cpp"
    door.write_text(DOOR, encoding="utf-8")
    own = Path(torch.__file__).parent / "lib"
    argv = ["g++", "-shared", "-fPIC", "-fopenmp", door, f"-L{built}", "-lfew_rows", f"-L{own}"]
    subprocess.run([*argv, "-ltorch_cpu", f"-Wl,-rpath,{own}", "-o", library], check=True)
    loaded = ctypes.CDLL(str(library))

    def call(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        capsules = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors([x, weight])
        given = [ctypes.c_void_p(POINTER(one, None)) for one in capsules]
        found = ctypes.c_void_p()
        assert loaded.product(*given, ctypes.byref(found)) == 0
        return torch._C._aoti.alloc_tensor_by_stealing_from_void_ptr(CAPSULE(found, None, None))

    return call


@pytest.mark.slow
def test_every_shape_and_type_is_right(product: Product) -> None:
    torch.manual_seed(0)
    for rows, width, out in SHAPES:
        for dtype in TYPES:
            weight = (torch.randn(out, width) * 40).round().clamp(-127, 127).to(dtype)
            x = torch.randn(rows, width)
            found, expected = product(x, weight), x.double() @ weight.double().T
            worst = float((found.double() - expected).abs().max() / expected.abs().max())
            assert worst < 1e-6, (list(x.shape), weight.dtype, worst)


@pytest.mark.slow
def test_every_code_of_e4m3_is_the_number_that_torch_says(product: Product) -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    places = [0, 9, 63, 64, 69]  # the first four lie in whole cache lines
    weight = codes[:, None].expand(256, 70).contiguous()
    found = product(torch.eye(70)[places], weight)
    assert torch.equal(found.isnan(), codes.float().isnan().expand(5, 256))
    assert torch.equal(found.nan_to_num(), codes.float().nan_to_num().expand(5, 256))


class Products(torch.nn.Module):
    """Products of one graph, in order."""

    def forward(self, x: torch.Tensor, weights: list[torch.Tensor]) -> list[torch.Tensor]:
        return [few_rows.few_rows(x, weight) * 1.0 for weight in weights]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_compiled_graph_calls_it(tmp_path: Path, kernels: Callable[[str], Path]) -> None:
    torch.manual_seed(0)
    weights = [torch.randn(7, 66).mul(40).round().to(dtype) for dtype in TYPES]
    given = (torch.randn(5, 66), weights)
    exported = Exported(program=export(Products(), given), example=given)  # type: ignore[arg-type]  # its type is a decoder's
    library = tmp_path / "graph" / "model.so"
    target = inductor.Target(march="x86-64-v3", simdlen=256, draft=True)
    inductor.compile_to(exported, library, target, kernels(target.march))
    runner = torch._C._aoti.AOTIModelContainerRunnerCpu(str(library), 1)
    for weight, found in zip(weights, runner.run([given[0], *weights]), strict=True):
        torch.testing.assert_close(found, given[0] @ weight.float().T, rtol=1e-5, atol=1e-3)
