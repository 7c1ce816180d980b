"""The embedded backend's plan: one compiled graph for prefill, one for decode, weights beside.

`compile` is keyed by architecture, shapes and dtype, never by weights: a fine-tune of a compiled
architecture compiles nothing.
"""

from collections.abc import Mapping

from lmi_artifacts.digest import JSONValue
from lmi_compile.backend import Order
from lmi_compile.common_steps import judge_step, proof_step, reference_step
from lmi_compile.errors import Unsupported
from lmi_compile.host import read_host, require_compiler, require_versions
from lmi_compile.step import Call, Step
from lmi_recipes.target import CpuTarget

READS_MODEL = True
_DTYPES = ("float32", "bfloat16")
_BACKEND = "lmi_compile.backends.aoti"


def steps(order: Order) -> tuple[Step, ...]:
    """Model, reference, compile, weights, package, candidate, judge, proof."""
    cpu = _checked_target(order)
    _check_ground(order)
    return (
        *order.model.steps,
        reference_step(order.recipe),
        _compile_step(order, cpu),
        Step(
            name="weights",
            run=Call(function=f"{_BACKEND}.weights:run"),
            needs=("model", "compile"),
            outputs=("weights.safetensors",),
        ),
        Step(
            name="package",
            run=Call(
                function=f"{_BACKEND}.package:run",
                params={"name": order.recipe.name},
                data=(f"{_BACKEND}.runtime",),
            ),
            needs=("model", "compile", "weights"),
            outputs=("serving.properties", "model.py", "runtime.json", "weights.safetensors"),
        ),
        Step(
            name="candidate",
            run=Call(function=f"{_BACKEND}.candidate:run"),
            needs=("package", "reference"),
            outputs=("outputs.json", "outputs.safetensors"),
            identity={"torch": order.toolchain.versions["torch"]},
        ),
        judge_step(order.recipe),
        proof_step(),
    )


def preflight(order: Order) -> None:
    """The pinned torch and transformers, and a C++ compiler.

    Raises:
        EnvironmentFault: one of them is not here.
    """
    packages = {
        name: version for name, version in order.toolchain.versions.items() if version != "host"
    }
    require_versions(order.toolchain.name, packages)
    require_compiler(order.toolchain.name)


def serving(order: Order) -> Mapping[str, JSONValue]:
    """The container that serves it, and the CPU and torch version that it loads on."""
    cpu = _checked_target(order)
    return {
        "container": order.toolchain.to_json()["serves"],
        "hardware": {"march": cpu.march, "cpu_flags": list(cpu.required_flags)},
        "versions": {"torch": order.toolchain.versions["torch"]},
    }


def _compile_step(order: Order, cpu: CpuTarget) -> Step:
    recipe, architecture = order.recipe, order.model.architecture
    host = read_host()
    return Step(
        name="compile",
        run=Call(
            function=f"{_BACKEND}.compile:run",
            params={
                "config": dict(architecture) if architecture is not None else None,
                "dtype": recipe.dtype,
                "max_batch_size": recipe.shapes.max_batch_size,
                "max_input_len": recipe.shapes.max_input_len,
                "max_seq_len": recipe.shapes.max_seq_len,
                "march": cpu.march,
                "simdlen": cpu.simdlen,
                "required_cpu_flags": list(cpu.required_flags),
            },
        ),
        needs=() if architecture is not None else ("model",),
        outputs=("graphs.json", "constants.safetensors"),
        where="toolchain",
        identity={
            "toolchain": order.toolchain.name,
            "versions": {
                **order.toolchain.versions,
                "compiler": host.compiler,
                "libc": host.libc,
            },
            "march": cpu.march,
            "simdlen": cpu.simdlen,
        },
    )


def _checked_target(order: Order) -> CpuTarget:
    if order.cpu is None:
        what = f"target {order.recipe.target.instance_type}: the aoti backend compiles for CPUs"
        raise Unsupported(what, fix="write target: {cpu: x86-64-v3}")
    return order.cpu


def _check_ground(order: Order) -> None:
    """Refuse by name what this backend does not carry yet."""
    recipe = order.recipe
    carried: tuple[tuple[str, object, object], ...] = (
        ("model.task", recipe.model.task, "text-generation"),
        ("quantization.method", recipe.quantization.method, "none"),
        ("quantization.kv_cache_dtype", recipe.quantization.kv_cache_dtype, "auto"),
        ("tensor_parallel_degree", recipe.tensor_parallel_degree, 1),
        ("pipeline_parallel_degree", recipe.pipeline_parallel_degree, 1),
    )
    wrong = [f"{name}: {found} (today: {can})" for name, found, can in carried if found != can]
    if recipe.dtype not in _DTYPES:
        wrong.append(f"dtype: {recipe.dtype} (today: {' or '.join(_DTYPES)})")
    if wrong:
        what = "the aoti backend cannot build this yet: " + "; ".join(wrong)
        raise Unsupported(what, fix="use the values in brackets")
