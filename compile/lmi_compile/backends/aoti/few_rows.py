"""The matmul of a few rows with weights as they are stored: the one kernel that is ours.

To PyTorch it is an operator, `lmi::few_rows`; AOTInductor's libraries call its C interface, and
the code itself is linked into each of them, so that nothing has to be registered or found when a
package is loaded.
"""

import os
import subprocess
from pathlib import Path

import torch  # noqa: TID253 - imported by the compile worker only

from lmi_compile.errors import ToolFailed

_NAME = "few_rows"
_SOURCE = Path(__file__).parent / "kernels" / f"{_NAME}.cpp"
_INTERFACE = (
    f"AOTITorchError aoti_torch_cpu_{_NAME}(AtenTensorHandle, AtenTensorHandle, AtenTensorHandle*)"
)


@torch.library.custom_op("lmi::few_rows", mutates_args=(), tags=(torch.Tag.needs_exact_strides,))
def few_rows(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`x @ weight.T`, summed in float32.

    Args:
        x: float32 `[M, K]`, contiguous.
        weight: float32, bfloat16, int8 or E4M3 `[N, K]`, contiguous.

    Returns:
        float32 `[M, N]`.
    """
    return torch.nn.functional.linear(x, weight.float())


@few_rows.register_fake
def _shape(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def build(folder: Path, march: str) -> Path:
    """Compiles the kernel for `march` to a static library in `folder`.

    Returns:
        `folder`.

    Raises:
        ToolFailed: the compiler failed.
    """
    folder.mkdir(parents=True)
    compiled, include = folder / f"{_NAME}.o", Path(torch.__file__).parent / "include"
    flags = ["-O3", "-std=c++17", "-fPIC", "-fopenmp", "-fvisibility=hidden", f"-march={march}"]
    compiler = os.environ.get("CXX", "g++")
    for argv in (
        [compiler, *flags, f"-I{include}", "-c", str(_SOURCE), "-o", str(compiled)],
        ["ar", "rcsD", str(folder / f"lib{_NAME}.a"), str(compiled)],
    ):
        told = subprocess.run(argv, capture_output=True, text=True, check=False)
        if told.returncode != 0:
            what = f"{argv[0]} could not build the kernel {_SOURCE.name}"
            raise ToolFailed(what, told.stderr.strip(), "see the step's log")
    return folder


def options(folder: Path) -> dict[str, object]:
    """Inductor's settings that call the kernel and link what `build` left in `folder`."""
    os.environ["LIBRARY_PATH"] = str(folder)  # Inductor passes the linker names, not places
    return {
        "aot_inductor.custom_ops_to_c_shims": {torch.ops.lmi.few_rows.default: [_INTERFACE]},
        "aot_inductor.custom_op_libs": [_NAME],
    }
