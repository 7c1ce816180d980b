"""The plan of a one-pass model: the same steps as a decoder's, around one graph."""

from collections.abc import Mapping

from lmi_artifacts.digest import JSONValue
from lmi_compile.backend import Order
from lmi_compile.backends.aoti.one_pass.ground import architecture, picture_shape
from lmi_compile.common_steps import PROOF_PROMPT, proof_step
from lmi_compile.host import installed_version
from lmi_compile.step import Call, Step
from lmi_recipes.target import CpuTarget
from lmi_verify.gates import gates_for
from lmi_verify.one_pass.heads import Head

_BACKEND = "lmi_compile.backends.aoti"
_HERE = f"{_BACKEND}.one_pass"
# A PNG of one grey pixel: the proof's picture.
_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)


def steps(
    order: Order, head: Head, cpu: CpuTarget, identity: Mapping[str, JSONValue]
) -> tuple[Step, ...]:
    """Fetch, model, reference, compile, weights, package, candidate, judge, proof.

    Args:
        order: What is asked.
        head: Of its task.
        cpu: The target.
        identity: Of the compiling toolchain.

    Raises:
        GateInvalid: The recipe's own gates name no metric, or no number.
    """
    recipe = order.recipe
    gates: Mapping[str, JSONValue] = dict(recipe.verify.gates)
    gates_for(recipe.dtype, "none", gates, scope="outputs")
    return (
        order.model.steps[0],
        _model_step(order, head),
        _reference_step(order, head),
        _compile_step(order, head, cpu, identity),
        Step(
            name="weights",
            run=Call(function=f"{_BACKEND}.weights:run"),
            needs=("model", "compile"),
            outputs=("weights.safetensors",),
        ),
        Step(
            name="package",
            run=Call(
                function=f"{_HERE}.package:run",
                params={"name": recipe.name},
                data=(f"{_BACKEND}.runtime",),
            ),
            needs=("model", "compile", "weights"),
            outputs=("serving.properties", "model.py", "runtime.json", "weights.safetensors"),
        ),
        Step(
            name="candidate",
            run=Call(function=f"{_BACKEND}.candidate:run", params={"probe": "one_pass_probe"}),
            needs=("package", "reference"),
            outputs=("outputs.json", "outputs.safetensors"),
            identity={"torch": order.toolchain.versions["torch"]},
        ),
        Step(
            name="judge",
            run=Call(
                function="lmi_verify.one_pass.judging:run",
                params={
                    "dtype": recipe.dtype,
                    "gates": gates,
                    "company": recipe.shapes.max_batch_size > 1,
                },
                data=("lmi_verify.data",),
            ),
            needs=("reference", "candidate"),
            outputs=("verdict.json",),
        ),
        proof_step({"inputs": _proof_input(order, head)}),
    )


def _proof_input(order: Order, head: Head) -> str:
    match head.name:
        case "picture":
            return _PIXEL
        case "mask":
            return f"{PROOF_PROMPT} {_mask(order)}"
        case _:
            return PROOF_PROMPT


def _mask(order: Order) -> str:
    """How the model's family writes a mask."""
    config = order.model.config or {}
    return "<mask>" if config.get("model_type") in {"roberta", "xlm-roberta"} else "[MASK]"


def _libraries() -> dict[str, JSONValue]:
    return {name: installed_version(name) for name in ("torch", "transformers")}


def _model_step(order: Order, head: Head) -> Step:
    planned = order.model.architecture
    return Step(
        name="model",
        run=Call(
            function=f"{_HERE}.model:run",
            params={
                "head": head.name,
                "config": None if planned is None else dict(planned),
                "trust_remote_code": order.recipe.model.trust_remote_code,
            },
        ),
        env={"TQDM_DISABLE": "1"},
        needs=("fetch",),
        outputs=("config.json", "model.safetensors"),
        identity=_libraries(),
    )


def _reference_step(order: Order, head: Head) -> Step:
    recipe = order.recipe
    params: dict[str, JSONValue] = {
        "head": head.name,
        "trust_remote_code": recipe.model.trust_remote_code,
    }
    if head.reads == "text":
        params |= {
            "prompts": recipe.verify.prompts,
            "max_input_len": recipe.shapes.max_input_len,
        }
    return Step(
        name="reference",
        run=Call(
            function="lmi_verify.one_pass.reference:run", params=params, data=("lmi_verify.data",)
        ),
        env={"TQDM_DISABLE": "1"},
        needs=("fetch",),
        outputs=("prompts.json", "prompts.safetensors", "outputs.json", "outputs.safetensors"),
        identity=_libraries(),
    )


def _compile_step(
    order: Order, head: Head, cpu: CpuTarget, identity: Mapping[str, JSONValue]
) -> Step:
    shapes = order.recipe.shapes
    config = architecture(order, head)
    params: dict[str, JSONValue] = {
        "config": config,
        "head": head.name,
        "max_batch_size": shapes.max_batch_size,
        "march": cpu.march,
        "simdlen": cpu.simdlen,
        "required_cpu_flags": list(cpu.required_flags),
        "draft": order.draft,
    }
    if head.reads == "text":
        params["max_input_len"] = shapes.max_input_len
    else:
        params["picture"] = list(picture_shape(config))
    return Step(
        name="compile",
        run=Call(function=f"{_HERE}.compile:run", params=params),
        outputs=("graphs.json", "constants.safetensors"),
        where="toolchain",
        identity=identity,
    )
