"""The embedded backend's plan: one compiled graph for prefill, one for decode, weights beside.

`compile` is keyed by architecture, shapes, dtype and storage form, never by weights: a fine-tune
of a compiled architecture compiles nothing.
"""

from collections.abc import Mapping
from dataclasses import replace

from lmi_artifacts.digest import JSONValue
from lmi_compile.backend import Order
from lmi_compile.backends.aoti.forms import SLOW_FP8, Form
from lmi_compile.backends.aoti.ground import calibration, check_ground, storage
from lmi_compile.backends.aoti.machine import (
    CUDA_NOTE,
    Machine,
    machine_of,
    require_device,
)
from lmi_compile.backends.aoti.one_pass.ground import head_for
from lmi_compile.backends.aoti.one_pass.steps import steps as one_pass_steps
from lmi_compile.backends.aoti.parallel import DEGREE, shard_name
from lmi_compile.common_steps import judge_steps, proof_step, reference_step
from lmi_compile.errors import EnvironmentFault
from lmi_compile.host import read_host, require_compiler, require_versions
from lmi_compile.step import Call, Resources, Step

READS_MODEL = True
_BACKEND = "lmi_compile.backends.aoti"
_ON_DEVICE = frozenset({"compile", "candidate", "tasks-candidate", "proof"})
# What runs compiled code, or runs the model in the versions that the key names; a toolchain with
# an image has them there and nowhere else.
_IN_THE_IMAGE = frozenset({"calibrate", "compile", "candidate", "tasks-candidate", "proof"})


def steps(order: Order) -> tuple[Step, ...]:
    """Model, reference, compile, weights, package, candidate, baseline, judge, proof."""
    planned, gpu = _steps(order), machine_of(order).gpu
    if gpu is not None:
        device = Resources(accelerator=gpu.name, accelerator_count=1)
        return tuple(
            replace(step, where="device", resources=device) if step.name in _ON_DEVICE else step
            for step in planned
        )
    if order.toolchain.image is None:
        return planned
    # A container may not watch another process: the proof is only there where it cannot be here.
    there = _IN_THE_IMAGE if _lacks(order) else _IN_THE_IMAGE - {"proof"}
    return tuple(
        replace(step, where="toolchain") if step.name in there else step for step in planned
    )


def _steps(order: Order) -> tuple[Step, ...]:
    machine = machine_of(order)
    head = head_for(order)
    if head is not None and machine.gpu is None:
        return one_pass_steps(order, head, machine.cpu, _toolchain(order, machine))
    check_ground(order, machine)
    form = storage(order, machine)
    *calibrates, weights = _weight_steps(order, form)
    candidate = Step(
        name="candidate",
        run=Call(function=f"{_BACKEND}.candidate:run"),
        needs=("package", "reference"),
        outputs=("outputs.json", "outputs.safetensors"),
        identity={"torch": order.toolchain.versions["torch"]},
    )
    return (
        *order.model.steps,
        reference_step(order.recipe),
        *calibrates,  # before the long step: a text that cannot be used says so first
        _compile_step(order, machine, form),
        weights,
        Step(
            name="package",
            run=Call(
                function=f"{_BACKEND}.package:run",
                params={"name": order.recipe.name},
                data=(f"{_BACKEND}.runtime",),
            ),
            needs=("model", "compile", "weights"),
            outputs=("serving.properties", "model.py", "runtime.json", *_stored(order)),
        ),
        candidate,
        *judge_steps(order.recipe, shows=_shows(order), scorer=candidate),
        proof_step(),
    )


def _shows(order: Order) -> tuple[str, ...]:
    """What `runtime/probe.py` writes beside logits and continuations."""
    batch = ("batch",) if order.recipe.shapes.max_batch_size > 1 else ()
    return ("tokenizer", "log_probs", "likelihoods", "sampling", "settings", *batch)


def notes(order: Order) -> tuple[str, ...]:
    """That nobody compiled it yet for a CUDA device; where the steps run, if not here."""
    found = [CUDA_NOTE] if machine_of(order).gpu is not None else []
    image = order.toolchain.image
    if image is not None:
        digest = image.digest or "a digest that nobody has read"
        what = "compile, candidate and proof" if _lacks(order) else "compile and candidate"
        where = f"{what} run in the image {image.reference} ({digest})"
        found.append(f"{where}: build with --executor container")
    return tuple(found)


def remarks(recipe: Mapping[str, JSONValue]) -> tuple[str, ...]:
    """What the storage form means for whoever serves it."""
    target, quantization = recipe.get("target"), recipe.get("quantization")
    on_cpu = isinstance(target, Mapping) and target.get("cpu") is not None
    method = quantization.get("method") if isinstance(quantization, Mapping) else None
    return (SLOW_FP8,) if on_cpu and method == "fp8" else ()


def preflight(order: Order) -> None:
    """The pinned torch and transformers, a C++ compiler and, for a CUDA device, one.

    Raises:
        EnvironmentFault: one of them is not here.
    """
    require_device(machine_of(order))
    image, fault = order.toolchain.image, _lacks(order)
    if fault is not None and image is not None:
        why = f"its steps run in the image {image.reference}. {image.note or ''}".strip()
        fix = "--executor container, and --image NAME where the image has another name"
        raise EnvironmentFault(fault.what, why, fix)
    if fault is not None:
        raise fault
    require_compiler(order.toolchain.name)


def _lacks(order: Order) -> EnvironmentFault | None:
    """What this environment lacks of the toolchain's pinned packages."""
    pins = order.toolchain.versions.items()
    try:
        require_versions(order.toolchain.name, {name: pin for name, pin in pins if pin != "host"})
    except EnvironmentFault as fault:
        return fault
    return None


def serving(order: Order) -> Mapping[str, JSONValue]:
    """The container that serves it, and the CPU and torch version that it loads on."""
    machine = machine_of(order)
    cpu, gpu = machine.cpu, machine.gpu
    device: dict[str, JSONValue] = {} if gpu is None else {"sm": gpu.sm, "gpu": gpu.name, "gpus": 1}
    return {
        "container": order.toolchain.to_json()["serves"],
        "hardware": {"march": cpu.march, "cpu_flags": list(cpu.required_flags), **device},
        "versions": {"torch": order.toolchain.versions["torch"]},
    }


def _stored(order: Order) -> tuple[str, ...]:
    """The files of weights: one for each rank."""
    degree = order.recipe.tensor_parallel_degree
    return tuple(shard_name(rank, degree) for rank in range(degree))


def _weight_steps(order: Order, form: Form) -> tuple[Step, ...]:
    """The stored tensors, and before them the ranges of activations where the form needs them."""
    params: dict[str, JSONValue] = {}
    smoothing = order.recipe.quantization.smoothquant
    if smoothing is not None:
        params["alpha"] = smoothing.alpha
    weights = Step(
        name="weights",
        run=Call(function=f"{_BACKEND}.weights:run", params=params),
        needs=("model", "compile"),
        outputs=_stored(order),
    )
    if not form.calibrated:
        return (weights,)
    data = calibration(order)
    calibrate = Step(
        name="calibrate",
        run=Call(function=f"{_BACKEND}.calibrate:run", params=data.params),
        needs=("model",),
        outputs=("ranges.safetensors", "norms.json", "calibration.json"),
        identity={name: order.toolchain.versions[name] for name in ("torch", "transformers")},
        local_inputs={"dataset": str(data.path)},
    )
    return calibrate, replace(weights, needs=("model", "compile", "calibrate"))


def _compile_step(order: Order, machine: Machine, form: Form) -> Step:
    recipe, architecture, cpu = order.recipe, order.model.architecture, machine.cpu
    return Step(
        name="compile",
        run=Call(
            function=f"{_BACKEND}.compile:run",
            params={
                "config": dict(architecture) if architecture is not None else None,
                "dtype": recipe.dtype,
                DEGREE: recipe.tensor_parallel_degree,
                "quantization": form.to_json(),
                "max_batch_size": recipe.shapes.max_batch_size,
                "max_input_len": recipe.shapes.max_input_len,
                "max_seq_len": recipe.shapes.max_seq_len,
                "march": cpu.march,
                "simdlen": cpu.simdlen,
                "required_cpu_flags": list(cpu.required_flags),
                "draft": order.draft,
                **({} if machine.gpu is None else {"sm": machine.gpu.sm}),
            },
            data=(f"{_BACKEND}.kernels",),
        ),
        needs=() if architecture is not None else ("model",),
        outputs=("graphs.json", "constants.safetensors"),
        where="toolchain",
        identity=_toolchain(order, machine),
    )


def _toolchain(order: Order, machine: Machine) -> dict[str, JSONValue]:
    """What compiles, as it enters the key."""
    image = order.toolchain.image
    own: dict[str, JSONValue] = {}
    versions: dict[str, JSONValue] = dict(order.toolchain.versions)
    if image is None:
        host = read_host()
        versions |= {"compiler": host.compiler, "libc": host.libc}
    else:
        own["image"] = {"reference": image.reference, "digest": image.digest}
    return {
        "toolchain": order.toolchain.name,
        "versions": versions,
        **own,
        "march": machine.cpu.march,
        "simdlen": machine.cpu.simdlen,
    }
