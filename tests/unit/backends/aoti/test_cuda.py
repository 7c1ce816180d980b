"""Graphs for a CUDA device, as far as a machine without one goes: planned, traced, refused."""

from pathlib import Path

import pytest
import torch
from family_configs import SMALL
from torch._subclasses.fake_tensor import FakeTensorMode

from lmi_compile.backends.aoti import compile as compiling
from lmi_compile.backends.aoti import export, linears, quantised, skeleton, slots
from lmi_compile.backends.aoti.forms import PLAIN, SLOW_FP8, Form, form_of
from lmi_compile.backends.aoti.machine import Gpu, Machine, machine_of, require_device
from lmi_compile.backends.aoti.runtime.device import device_for
from lmi_compile.backends.aoti.runtime.environment import RuntimeMismatch
from lmi_compile.errors import EnvironmentFault, Unsupported, exit_code_of
from lmi_compile.plan import Plan, make_plan
from lmi_compile.survey import load, survey
from lmi_recipes.target import load_cpu_target

RECIPE = "smollm2-135m-instruct-g5.xlarge"
NO_SUCH_SM = 1  # an architecture that no device has
FP8_CACHE = form_of("fp8", (), per_token=False, cache="fp8")
LLAMA = {**SMALL, "model_type": "llama", "tie_word_embeddings": True}
BLOOM = {
    "model_type": "bloom",
    "vocab_size": 128,
    "hidden_size": 64,
    "n_layer": 2,
    "n_head": 4,
}


def _plan(tmp_path: Path, *overrides: str) -> Plan:
    return make_plan(survey(load(RECIPE, overrides), tmp_path))


def test_what_runs_kernels_asks_for_the_device_and_the_key_names_its_architecture(
    tmp_path: Path,
) -> None:
    plan = _plan(tmp_path)
    there = {one.step.name: one.step for one in plan.steps if one.step.where == "device"}
    assert set(there) == {"compile", "candidate", "proof"}
    asked = {(one.resources.accelerator, one.resources.accelerator_count) for one in there.values()}
    assert asked == {("A10G", 1)}
    other = _plan(tmp_path, "target.instance_type=ml.g6.xlarge")
    assert other.keys["compile"] != plan.keys["compile"]
    assert other.keys["reference"] == plan.keys["reference"]
    assert plan.backend.serving(plan.order)["hardware"]["sm"] == 86  # type: ignore[call-overload, index]  # JSON
    assert any("NOBODY HAS RUN IT" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (("toolchain=aoti-torch-2.13",), "write toolchain: aoti-torch-2.13-cuda"),
        (("target.instance_type=ml.g4dn.xlarge",), "sm_80, sm_86, sm_89, sm_90"),
        (("target.instance_type=ml.inf2.xlarge",), "x86-64 CPUs and NVIDIA devices"),
        (("quantization.method=smoothquant",), "quantization.method: smoothquant"),
        (("dtype=float16",), "dtype: float16"),
        (("tensor_parallel_degree=3",), "tensor_parallel_degree: 3"),
    ],
)
def test_the_rest_is_refused_by_name(tmp_path: Path, changes: tuple[str, ...], says: str) -> None:
    with pytest.raises(Unsupported) as refused:
        _plan(tmp_path, *changes)
    assert says in f"{refused.value.what} {refused.value.why} {refused.value.fix}"


def test_a_cpu_recipe_with_the_toolchain_for_devices_is_refused(tmp_path: Path) -> None:
    changes = ("toolchain=aoti-torch-2.13-cuda",)
    with pytest.raises(Unsupported, match="does not compile for x86-64-v3"):
        make_plan(survey(load("smollm2-135m-instruct-cpu", changes), tmp_path))


def test_a_build_without_a_device_ends_before_its_first_step(tmp_path: Path) -> None:
    machine = machine_of(survey(load(RECIPE), tmp_path))
    assert machine.gpu == Gpu(name="A10G", sm=86)
    with pytest.raises(EnvironmentFault) as missing:
        require_device(machine, tmp_path / "nvidiactl")
    assert exit_code_of(missing.value) == 8
    require_device(machine, tmp_path)  # there is something
    require_device(Machine(cpu=load_cpu_target("x86-64-v3")), tmp_path / "nvidiactl")


def test_a_package_for_another_device_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(RuntimeMismatch, match=f"CUDA device of architecture sm_{NO_SUCH_SM}"):
        device_for({"sm": NO_SUCH_SM})
    assert device_for({}) == torch.device("cpu")


def test_the_compile_step_refuses_another_device(tmp_path: Path) -> None:
    params = {
        "config": LLAMA,
        "dtype": "bfloat16",
        "max_batch_size": 1,
        "max_input_len": 8,
        "max_seq_len": 16,
        "march": "x86-64-v2",
        "simdlen": 256,
        "required_cpu_flags": [],
        "sm": NO_SUCH_SM,
    }
    with pytest.raises(EnvironmentFault, match="cannot be compiled here"):
        compiling.run(params, {}, tmp_path)


@pytest.mark.parametrize(
    ("config", "form", "batch"),
    [(LLAMA, PLAIN, 1), (LLAMA, FP8_CACHE, 3), (BLOOM, PLAIN, 3)],
    ids=["llama", "llama-fp8-cache", "bloom-alibi"],
)
def test_every_tensor_of_both_graphs_is_on_the_device(
    config: dict[str, object], form: Form, batch: int
) -> None:
    """Traced on the one other device that every torch has: a tensor made on the CPU would show."""
    read = skeleton.read_config(config)
    cache = skeleton.cache_shapes(read)
    device = torch.device("meta")
    with FakeTensorMode():
        with device:
            model = skeleton.build(read, torch.bfloat16)
            if form.method == "fp8":
                quantised.quantise(model, form)
                quantised.require_tensor_cores(model)
            if form.cache == "fp8":
                slots.add_scales(model, len(cache))
        linears.set_rows(model, "any")
        shapes = export.Shapes(
            batch=batch,
            max_input_len=16,
            max_seq_len=32,
            cache=cache,
            dtype=torch.bfloat16,
            slot_dtype=torch.uint8 if form.cache == "fp8" else None,
            device=device,
        )
        for traced in (export.export_prefill(model, shapes), export.export_decode(model, shapes)):
            nodes = list(traced.program.graph.nodes)
            values = [node.meta.get("val") for node in nodes]
            places = {one.device for one in values if isinstance(one, torch.Tensor)}
            assert places == {device}
            called = {str(node.target) for node in nodes}
            assert ("aten._scaled_mm.default" in called) == (form.method == "fp8")
            assert not any("few_rows" in name for name in called)


def test_the_tensor_cores_product_is_the_one_that_a_cpu_computes() -> None:
    """`torch._scaled_mm` exists on a CPU, too: the same numbers, summed in another order."""
    generator = torch.Generator().manual_seed(0)
    layer = quantised.Fp8Linear(torch.nn.Linear(96, 64, bias=True), static=False)
    weight = torch.randn(64, 96, generator=generator) * 100
    layer.weight.copy_(weight.clamp(-448, 448).to(torch.float8_e4m3fn))
    layer.weight_scale.copy_(torch.rand(64, generator=generator) + 0.1)
    x = torch.randn(1, 13, 96, generator=generator)
    with torch.no_grad():
        layer.rows = "many"
        expected = layer(x)
        layer.rows = "any"
        found = layer(x)
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_a_package_for_a_device_does_not_say_that_fp8_is_slow() -> None:
    assert FP8_CACHE.note(cuda=False) == SLOW_FP8
    assert FP8_CACHE.note(cuda=True) == PLAIN.note(cuda=False) == ""


def test_a_width_that_tensor_cores_do_not_take_is_named() -> None:
    odd = torch.nn.Sequential(quantised.Fp8Linear(torch.nn.Linear(24, 32), static=True))
    with pytest.raises(Unsupported, match="cannot quantise") as refused:
        quantised.require_tensor_cores(odd)
    assert "0 (32 x 24)" in refused.value.why
