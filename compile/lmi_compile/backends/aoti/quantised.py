"""Linear layers and embeddings over 8-bit and 4-bit weights, read by graphs as they are stored.

Stored beside each 8-bit `weight` is `weight_scale`, float32, one number per output row; beside
4-bit ones `group_scales`. All buffers that name stored tensors are persistent; helpers with fixed
values are not.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch  # noqa: TID253 - imported by the compile worker only

from lmi_compile.backends.aoti.few_rows import few_rows
from lmi_compile.backends.aoti.forms import GROUP, Form
from lmi_compile.backends.aoti.linears import FloatLinear, GraphLinear
from lmi_compile.errors import Unsupported

if TYPE_CHECKING:  # the weights step imports this module, and transformers costs it two seconds
    from transformers import PreTrainedModel

FP8_MOST = 448.0  # the largest E4M3 number
ACTIVATION_MOST = 127.0
FOUR_BITS_MOST, FOUR_BITS_ZERO = 15, 8
_ZERO_POINT = 128  # u8 activations are the signed number and this
_LONG = 16  # vectors of up to 8 numbers may become code, where nothing can be given
_TINY = 1e-8  # the scale of a token that is all zeros
_KERNEL_ROWS = 16  # that the 4-bit kernel takes at a time
_SIXTEEN = 16  # what FP8 tensor cores want rows and columns to be multiples of
_CANNOT = "the aoti backend cannot quantise this model"


class _Quantised(GraphLinear):
    """What the forms share: the bias, and the shapes of the layer they replace."""

    weight_scale: torch.Tensor

    def __init__(self, linear: torch.nn.Linear, *, to_float32: bool) -> None:
        super().__init__(to_float32=to_float32)
        self.out, self.width = linear.weight.shape
        self.bias: torch.nn.Parameter | None = linear.bias
        self.register_buffer("weight_scale", torch.empty(self.out))

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """`[..., in]` to float32 `[..., out]`: flattens, multiplies and adds the bias."""
        out = self.product(x.reshape(-1, self.width))
        if self.bias is not None:
            out = out + self.bias.float()
        return out.reshape(*x.shape[:-1], self.out)

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """`[M, in]` to float32 `[M, out]`."""
        raise NotImplementedError


class Int8Linear(_Quantised):
    """8-bit weights, float activations.

    Few rows go through our kernel that reads 8-bit weights: decode is bound by memory. Many rows
    go through a float32 matmul of the weights' whole numbers, which costs less with many rows.
    """

    weight: torch.Tensor

    def __init__(self, linear: torch.nn.Linear, *, head: bool = False) -> None:
        super().__init__(linear, to_float32=head)
        self.head = head
        self.register_buffer("weight", torch.empty(self.out, self.width, dtype=torch.int8))

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """`[M, in]` to float32 `[M, out]`; a head sees one row of a prompt and takes the kernel."""
        if self.rows == "any" or (self.rows == "many" and not self.head):
            out = torch.nn.functional.linear(x.float(), self.weight.float())
        else:
            out = few_rows(x.float(), self.weight)
        return out * self.weight_scale


class Int8Embedding(torch.nn.Module):
    """An embedding with one 8-bit row and one scale per token, shared with a tied head."""

    weight: torch.Tensor
    weight_scale: torch.Tensor

    def __init__(self, embedding: torch.nn.Embedding, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        shape = embedding.weight.shape
        self.register_buffer("weight", torch.empty(shape, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.empty(shape[0]))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """`[B, T]` to `[B, T, width]`."""
        return (self.weight[ids].float() * self.weight_scale[ids][..., None]).to(self.dtype)


class IntegerLinear(_Quantised):
    """8-bit weights and activations: oneDNN's u8 x s8 matmul, sums in whole numbers.

    `packed` is the weight as oneDNN wants it, `[in, out]` to look at: the loader packs the stored
    `weight` `[out, in]` once. Static: `input_factor` is what smoothing and the activation scale
    come to, and `weight_scale` holds the activation scale too.
    """

    packed: torch.Tensor
    input_factor: torch.Tensor
    one: torch.Tensor
    activation_zero: torch.Tensor
    weight_zero: torch.Tensor

    def __init__(self, linear: torch.nn.Linear, *, static: bool) -> None:
        super().__init__(linear, to_float32=False)
        self.static = static
        self.register_buffer("packed", torch.empty(self.width, self.out, dtype=torch.int8))
        if static:
            self.register_buffer("input_factor", torch.empty(self.width))
        fixed = {
            "one": torch.ones(_LONG),
            "activation_zero": torch.full((_LONG,), _ZERO_POINT, dtype=torch.int32),
            "weight_zero": torch.zeros(self.out, dtype=torch.int32),
        }
        for name, tensor in fixed.items():
            self.register_buffer(name, tensor, persistent=False)

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """`[M, in]` to float32 `[M, out]`: quantises activations, multiplies, scales back."""
        x = x.float()
        if self.static:
            return self._integer(torch.round(x * self.input_factor))
        scale = x.abs().amax(-1, keepdim=True).clamp(min=_TINY) / ACTIVATION_MOST
        return self._integer(torch.round(x / scale)) * scale

    def _integer(self, whole: torch.Tensor) -> torch.Tensor:
        shifted = whole.clamp(-ACTIVATION_MOST, ACTIVATION_MOST) + _ZERO_POINT
        out: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            shifted.to(torch.uint8),
            self.one[:1],
            self.activation_zero[:1],
            self.packed,
            self.weight_scale,
            self.weight_zero,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        return out


class Int4Linear(GraphLinear):
    """4-bit weights in groups with a scale and a zero each, float activations.

    Few rows go through torch's kernel (activations in bfloat16), which wants the weights as the
    loader packs them for its processor; many rows through a float32 matmul of what is unpacked in
    the graph, which costs a fraction of that kernel with many rows (4.6 times, AVX2, measured).
    """

    weight: torch.Tensor
    packed: torch.Tensor
    group_scales: torch.Tensor

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__(to_float32=False)
        self.out, self.width = linear.weight.shape
        if self.width % GROUP or self.out % _KERNEL_ROWS:
            why = f"a layer of {self.width} x {self.out}: 4-bit weights come in groups of {GROUP}"
            raise Unsupported(_CANNOT, f"{why}, {_KERNEL_ROWS} rows at a time", "use int8_wo")
        self.bias: torch.nn.Parameter | None = linear.bias
        shape = (self.out, self.width // 2)
        self.register_buffer("weight", torch.empty(shape, dtype=torch.uint8))
        self.register_buffer("packed", torch.empty(shape, dtype=torch.uint8))
        scales = torch.empty(self.width // GROUP, self.out, 2, dtype=torch.bfloat16)
        self.register_buffer("group_scales", scales)

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """`[..., in]` to float32 `[..., out]`; see the class."""
        if self.rows == "many":
            out = torch.nn.functional.linear(x.float(), self._unpacked())
        else:
            out = torch.ops.aten._weight_int4pack_mm_for_cpu(  # noqa: SLF001 - the op has no public name
                x.reshape(-1, self.width).bfloat16(), self.packed, GROUP, self.group_scales
            ).float()
        if self.bias is not None:
            out = out + self.bias.float()
        return out.reshape(*x.shape[:-1], self.out)

    def _unpacked(self) -> torch.Tensor:
        numbers = torch.cat([self.weight & 15, self.weight >> 4], -1).float() - FOUR_BITS_ZERO
        scale, zero = self.group_scales.float().permute(2, 1, 0)[..., None]
        grouped = numbers.reshape(self.out, -1, GROUP) * scale + zero
        weight: torch.Tensor = grouped.reshape(self.out, self.width)
        return weight


def two_in_one(numbers: torch.Tensor) -> torch.Tensor:
    """`[out, in]` from 0 to 15 as bytes `[out, in / 2]`: the left half low, the right half high."""
    left, right = numbers.chunk(2, -1)
    return left | right << 4


class Fp8Linear(_Quantised):
    """E4M3 weights and activations, multiplied in float32: no CPU multiplies them.

    Few rows go through our kernel, which reads the weights as they are stored; for many, they are
    widened in whole. On a CUDA device the tensor cores multiply them as they are.

    Static: `input_factor` is one over the activation scale, the same number for every column; it
    is a vector because a single number would be compiled in.
    """

    weight: torch.Tensor
    input_factor: torch.Tensor

    def __init__(self, linear: torch.nn.Linear, *, static: bool) -> None:
        super().__init__(linear, to_float32=False)
        self.static = static
        shape = (self.out, self.width)
        self.register_buffer("weight", torch.empty(shape, dtype=torch.float8_e4m3fn))
        if static:
            self.register_buffer("input_factor", torch.empty(self.width))

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """`[M, in]` to float32 `[M, out]`: saturates and rounds to E4M3, then multiplies."""
        x = x.float()
        if self.static:
            return self._eighths(x * self.input_factor)
        scale = x.abs().amax(-1, keepdim=True).clamp(min=_TINY) / FP8_MOST
        return self._eighths(x / scale) * scale

    def _eighths(self, scaled: torch.Tensor) -> torch.Tensor:
        eighths = scaled.clamp(-FP8_MOST, FP8_MOST).to(torch.float8_e4m3fn)
        if self.rows == "any":
            return _scaled_product(eighths, self.weight) * self.weight_scale
        rounded = eighths.float()
        if self.rows == "many":
            out = torch.nn.functional.linear(rounded, self.weight.float())
        else:
            out = few_rows(rounded, self.weight)
        return out * self.weight_scale


def _scaled_product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The FP8 tensor cores' product of E4M3 `[M, in]` and `[out, in]`, in float32."""
    one = torch.ones((), device=x.device)
    out: torch.Tensor = torch._scaled_mm(  # noqa: SLF001 - the op has no public name
        x, weight.t(), scale_a=one, scale_b=one, out_dtype=torch.float32
    )
    return out


def require_tensor_cores(model: torch.nn.Module) -> None:
    """Holds that the FP8 product of a CUDA device takes every layer.

    Raises:
        Unsupported: a width is no multiple of 16 (`torch._scaled_mm`'s own check).
    """
    odd = [
        f"{name} ({one.out} x {one.width})"
        for name, one in model.named_modules()
        if isinstance(one, Fp8Linear) and (one.out % _SIXTEEN or one.width % _SIXTEEN)
    ]
    if odd:
        why = f"FP8 tensor cores take multiples of {_SIXTEEN}: {', '.join(odd[:4])}"
        raise Unsupported(_CANNOT, why, "use method: none")


def quantise(model: "PreTrainedModel", form: Form) -> int:
    """Replaces every linear layer and the embedding by what `form` stores, in place.

    Returns:
        How many linear layers were replaced.

    Raises:
        Unsupported: Some matrix of the model would stay in full precision unsaid.
    """
    dtype = model.dtype
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    new_embedding = _replaced_embedding(embedding, dtype)
    swapped = 0
    for parent, name, child in list(_children(model)):
        if child is embedding:
            setattr(parent, name, new_embedding)
        elif type(child) is torch.nn.Linear:
            setattr(parent, name, _replaced(child, form, head=child is head))
            swapped += 1
    new_head = model.get_output_embeddings()
    if head.weight is embedding.weight and isinstance(new_head, Int8Linear):
        new_head.weight, new_head.weight_scale = new_embedding.weight, new_embedding.weight_scale
    left = sorted(name for name, one in model.named_parameters() if one.dim() > 1)
    if left:
        why = f"these matrices are in no plain linear layer: {', '.join(left[:4])}"
        raise Unsupported(_CANNOT, why, "use method: none")
    return swapped


def _replaced(linear: torch.nn.Linear, form: Form, *, head: bool) -> GraphLinear:
    """The head keeps 8-bit weights alone: it shares its rows with the embedding."""
    if head or form.method == "int8_wo":
        return Int8Linear(linear, head=head)
    if form.method == "smoothquant":
        return IntegerLinear(linear, static=form.activations == "static")
    if form.method == "fp8":
        return Fp8Linear(linear, static=form.activations == "static")
    if form.method == "int4_wo":
        return Int4Linear(linear)
    return FloatLinear(linear)


def _replaced_embedding(embedding: torch.nn.Module, dtype: torch.dtype) -> Int8Embedding:
    if type(embedding) is not torch.nn.Embedding:
        why = f"its embedding is a {type(embedding).__name__}"
        raise Unsupported(_CANNOT, why, "use method: none")
    return Int8Embedding(embedding, dtype)


def _children(model: torch.nn.Module) -> Iterator[tuple[torch.nn.Module, str, torch.nn.Module]]:
    for parent in model.modules():
        for name, child in parent.named_children():
            yield parent, name, child
