"""Layers over 8-bit weights compute what they say, with the kernels that the graphs call."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from family_configs import SMALL
from safetensors.torch import load_file

from lmi_compile.backends.aoti import export, linears, quantised, skeleton
from lmi_compile.backends.aoti.forms import GROUP, Form, form_of
from lmi_compile.backends.aoti.runtime.graphs import Graphs, kernel_weight
from lmi_compile.backends.aoti.storing import Quantiser, Ranges, groups, whole_rows
from lmi_compile.errors import Unsupported

SIZES = {**SMALL, "model_type": "llama", "tie_word_embeddings": True}
IN, OUT, ROWS = 96, 64, 13


@pytest.fixture
def layer() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(IN, OUT)


@pytest.fixture
def x() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, ROWS, IN, generator=generator) * torch.linspace(0.1, 9, ROWS)[:, None]


def _fill(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        getattr(module, name).copy_(tensor)


@pytest.mark.parametrize(("rows", "bound"), [("many", 1e-6), ("few", 2**-7), ("one", 2**-7)])
def test_8_bit_weights(
    layer: torch.nn.Linear, x: torch.Tensor, rows: linears.Rows, bound: float
) -> None:
    made = whole_rows(layer.weight.detach())
    module = quantised.Int8Linear(layer)
    _fill(module, made)
    module.rows = rows
    stored = made["weight"].double() * made["weight_scale"].double()[:, None]
    exact = x.double() @ stored.T + layer.bias.double()
    with torch.no_grad():
        found = module(x)
    assert (found - exact).abs().max() <= bound * exact.abs().max()


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("rows", ["one", "many"])
def test_8_bit_weights_and_activations_sum_in_whole_numbers(
    layer: torch.nn.Linear, x: torch.Tensor, rows: linears.Rows, *, static: bool
) -> None:
    form = form_of("smoothquant", (), per_token=not static)
    ranges = Ranges(inputs={"it": x.abs().reshape(-1, IN).amax(0)})
    held = {"it.weight": layer.weight.detach()}
    quantiser = Quantiser(read=held.__getitem__, form=form, ranges=ranges, alpha=0.8)
    weight = quantiser.tensor("it.weight", torch.int8)
    scale = quantiser.tensor("it.weight_scale", torch.float32)
    module = quantised.IntegerLinear(layer, static=static)
    module.rows = rows
    module.weight_scale.copy_(scale)
    module.packed = torch.ops.onednn.qlinear_prepack(weight, None)
    if static:
        factor = quantiser.tensor("it.input_factor", torch.float32)
        module.input_factor.copy_(factor)
        whole, step = torch.round(x * factor), torch.ones(1)
    else:
        step = x.abs().amax(-1, keepdim=True) / 127
        whole = torch.round(x / step)
    exact = whole.double() @ weight.double().T * scale.double() * step.double()
    with torch.no_grad():
        found = module(x)
    assert (found - exact - layer.bias.double()).abs().max() <= 1e-6 * exact.abs().max()


@pytest.mark.parametrize(("rows", "bound"), [("many", 1e-6), ("few", 2**-7), ("one", 2**-7)])
def test_4_bit_weights(
    layer: torch.nn.Linear, x: torch.Tensor, rows: linears.Rows, bound: float
) -> None:
    made = groups(layer.weight.detach(), GROUP)
    module = quantised.Int4Linear(layer)
    _fill(module, made)
    module.packed = kernel_weight(made["weight"], "int4")
    module.rows = rows
    numbers = torch.cat([made["weight"] & 15, made["weight"] >> 4], -1).double() - 8
    scale, zero = made["group_scales"].double().permute(2, 1, 0)[..., None]
    stored = (numbers.reshape(OUT, -1, GROUP) * scale + zero).reshape(OUT, IN)
    exact = x.double() @ stored.T + layer.bias.double()
    with torch.no_grad():
        found = module(x)
    assert (found - exact).abs().max() <= bound * exact.abs().max()


@pytest.mark.parametrize(("width", "out"), [(48, 64), (64, 24)])
def test_a_layer_that_the_4_bit_kernel_cannot_take_is_refused(width: int, out: int) -> None:
    with pytest.raises(Unsupported, match=f"{width} x {out}: 4-bit weights come in groups of 32"):
        quantised.Int4Linear(torch.nn.Linear(width, out))


_WITHOUT_VNNI = """
import torch
from lmi_compile.backends.aoti.storing import paired_rows, whole_rows
torch.manual_seed(0)
worst = {}
for out, width in ((576, 576), (192, 1536), (7, 64)):
    weight = torch.randn(out, width)
    weight[0] = 1
    for make in (paired_rows, whole_rows):
        whole = make(weight)["weight"]
        x = torch.cat([torch.full((1, width), 255), torch.randint(1, 256, (12, width))])
        found = torch.ops.onednn.qlinear_pointwise(
            x.to(torch.uint8), torch.ones(1), torch.full((1,), 128, dtype=torch.int32),
            torch.ops.onednn.qlinear_prepack(whole, None), torch.ones(out),
            torch.zeros(out, dtype=torch.int32), None, 1.0, 0, torch.float32, "none", [], "",
        )
        error = (found.double() - (x - 128).double() @ whole.double().T).abs().max()
        worst[make.__name__] = max(worst.get(make.__name__, 0), float(error))
print(worst["paired_rows"], worst["whole_rows"])
"""


def test_sums_are_exact_on_a_processor_without_vnni() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _WITHOUT_VNNI],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    paired, whole = map(float, told.stdout.split())
    assert paired == 0
    assert whole > 0, "full 8 bits did not saturate: the test saw another kernel"


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("rows", ["one", "few", "many"])
def test_e4m3_weights_and_activations(
    layer: torch.nn.Linear, x: torch.Tensor, rows: linears.Rows, *, static: bool
) -> None:
    x = x[:, :1] if rows == "one" else x
    ranges = Ranges(inputs={"it": x.abs().reshape(-1, IN).amax(0) / 2})  # so that some saturate
    held = {"it.weight": layer.weight.detach()}
    form = form_of("fp8", (), per_token=not static)
    types = {"it.weight": torch.float8_e4m3fn}
    quantiser = Quantiser(read=held.__getitem__, form=form, ranges=ranges, stored=types)
    module = quantised.Fp8Linear(layer, static=static)
    module.rows = rows
    made = {
        "weight": quantiser.tensor("it.weight", torch.float8_e4m3fn),
        "weight_scale": quantiser.tensor("it.weight_scale", torch.float32),
    }
    step = x.abs().amax(-1, keepdim=True) / 448
    if static:
        made["input_factor"] = quantiser.tensor("it.input_factor", torch.float32)
        step = 1 / made["input_factor"]
    _fill(module, made)
    scaled = (x / step).clamp(-448, 448).to(torch.float8_e4m3fn).double()
    exact = scaled @ module.weight.double().T * module.weight_scale.double()
    exact = exact if static else exact * step
    with torch.no_grad():
        found = module(x)
    assert (found - exact - layer.bias.double()).abs().max() <= 1e-5 * exact.abs().max()
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("method", ["int8_wo", "int4_wo", "smoothquant", "fp8"])
def test_every_matrix_of_a_model_is_stored_in_8_bits_and_exports(method: Any) -> None:
    form = form_of(method, (), per_token=True)
    config = skeleton.read_config({**SIZES, "hidden_size": 64, "intermediate_size": 96})
    model = skeleton.build(config, torch.float32)
    assert quantised.quantise(model, form) == 15
    assert model.lm_head.weight is model.model.embed_tokens.weight
    kept = {name: tensor for name, tensor in model.state_dict().items() if tensor.dim() == 2}
    assert all(tensor.dtype.itemsize == 1 for tensor in kept.values())
    shapes = export.Shapes(
        batch=1, max_input_len=16, max_seq_len=24, cache=skeleton.cache_shapes(config)
    )
    export.export_prefill(model, shapes)
    linears.set_rows(model, "one")
    export.export_decode(model, shapes)


@pytest.mark.parametrize("model_type", ["mixtral", "gemma3_text"])
def test_a_model_whose_matrices_would_stay_wide_is_refused(model_type: str) -> None:
    config = skeleton.read_config({**SIZES, "model_type": model_type, "head_dim": 8})
    model = skeleton.build(config, torch.float32)
    with pytest.raises(Unsupported, match="cannot quantise this model"):
        quantised.quantise(model, Form(method="int8_wo"))


def test_a_compiled_package_is_small_right_and_packs_at_load(built_in_8_bits: Any) -> None:
    built: SimpleNamespace = built_in_8_bits
    description = json.loads((Path(built.package) / "runtime.json").read_text(encoding="utf-8"))
    stored = load_file(Path(built.package) / "weights.safetensors")
    sources = [packing["source"] for packing in description["packed"].values()]
    assert len(sources) == 14
    assert all(stored[name].dtype == torch.int8 for name in sources)
    assert stored["model.embed_tokens.weight"].dtype == torch.int8
    assert "lm_head.weight" not in stored
    graphs = Graphs(built.package)
    ids = torch.randint(3, 300, (40,), generator=torch.Generator().manual_seed(1))
    read = graphs.prefill(ids[:25], torch.arange(25))
    steps = [graphs.decode(int(ids[place]), place) for place in range(25, 40)]
    found = torch.cat([read, torch.stack(steps)])
    error = (found - built.logits(ids)).abs().max() / built.logits(ids).abs().max()
    assert 0.001 < error <= 0.15  # random weights have no structure that smoothing could keep
    whole = graphs.prefill(ids, torch.arange(40))
    assert (whole - found).abs().max() <= 0.03 * found.abs().max()  # bfloat16 at the head
