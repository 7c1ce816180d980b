"""Linear layers in the form that each graph runs fastest, over one set of stored tensors.

One row (decode, batch 1): a sum. The BLAS matmul runs on one thread there and moves half of the
memory's bandwidth; of a reduction, Inductor generates the loop itself, parallel over the output
rows and fused with its neighbours (measured: 1.75 times faster decode at 2 threads, float32).
A few rows (decode of several sequences): our own kernel, which reads the weights once, as they
are stored. Many rows: a float32 matmul, whatever the type of the weights. A bfloat16 matmul is 8
times slower than that on a processor without AVX512_BF16 (measured, 256 x 576 x 1536).
The parameters stay the same tensors under the same names.
"""

from typing import TYPE_CHECKING, Literal

import torch  # noqa: TID253 - imported by the compile worker only

from lmi_compile.backends.aoti.few_rows import few_rows

if TYPE_CHECKING:  # as in `quantised`
    from transformers import PreTrainedModel

Rows = Literal["one", "few", "many", "any"]


class GraphLinear(torch.nn.Module):
    """A linear layer that knows how many rows its graph gives it.

    Attributes:
        rows: one row in all; a few (decode of several sequences); many (prefill); any: on a CUDA
            device, whose library has a matmul for each.
        to_float32: whether the result stays float32, as logits do, instead of x's type.
        sums_ranks: whether each rank of a split model computes a part of the sum.
    """

    def __init__(self, *, to_float32: bool) -> None:
        super().__init__()
        self.rows: Rows = "many"
        self.to_float32 = to_float32
        self.sums_ranks = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[..., in]` to `[..., out]`; one row in all where `rows` says so."""
        out = self.multiply(x)
        if self.sums_ranks:
            out = all_reduce(out)
        return out if self.to_float32 else out.to(x.dtype)

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """`[..., in]` to `[..., out]` in float32, the bias added."""
        raise NotImplementedError


class FloatLinear(GraphLinear):
    """`x @ weight.T + bias`, computed in float32."""

    def __init__(self, linear: torch.nn.Linear, *, to_float32: bool = False) -> None:
        super().__init__(to_float32=to_float32)
        self.weight = linear.weight
        self.bias: torch.nn.Parameter | None = linear.bias

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """As `GraphLinear.multiply`; see the module's text for the three ways."""
        bias = None if self.bias is None else self.bias.float()
        if self.rows == "many":
            return torch.nn.functional.linear(x.float(), self.weight.float(), bias)
        rows = x.float().reshape(-1, x.shape[-1])
        if self.rows == "few":
            out: torch.Tensor = few_rows(rows, self.weight)
        else:
            out = (rows * self.weight.float()).sum(-1)
        if bias is not None:
            out = out + bias
        return out.reshape(*x.shape[:-1], self.weight.shape[0])


def swap_linears(model: "PreTrainedModel") -> int:
    """Replaces every plain `Linear` in place; subclasses keep their own forward.

    Returns:
        How many were replaced.
    """
    head = model.get_output_embeddings()
    swapped = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is torch.nn.Linear:
                setattr(module, name, FloatLinear(child, to_float32=child is head))
                swapped += 1
    return swapped


def all_reduce(part: torch.Tensor) -> torch.Tensor:
    """The sum of all ranks' tensors of one shape, over the group named "0" when the graph runs."""
    pending = torch.ops._c10d_functional.all_reduce(part, "sum", "0")  # noqa: SLF001 - the functional form, which graphs hold
    total: torch.Tensor = torch.ops._c10d_functional.wait_tensor(pending)  # noqa: SLF001 - the same
    return total


def set_rows(model: torch.nn.Module, rows: Rows) -> None:
    """Tells every swapped layer how many rows the next graph gives it."""
    for module in model.modules():
        if isinstance(module, GraphLinear):
            module.rows = rows
