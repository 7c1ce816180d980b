"""The null backend's plan: every kind of step, in milliseconds."""

from collections.abc import Mapping

from lmi_artifacts.digest import JSONValue
from lmi_compile.backend import Order
from lmi_compile.common_steps import proof_step
from lmi_compile.step import Call, Step

READS_MODEL = False
_WORK = "lmi_compile.backends.null.work"
_PROMPTS = ["one", "two", "three"]
_TOKENS = 16


def steps(order: Order) -> tuple[Step, ...]:
    """The whole way, on a table of bytes instead of a model."""
    recipe = order.recipe
    shapes: dict[str, JSONValue] = {
        "max_input_len": recipe.shapes.max_input_len,
        "max_batch_size": recipe.shapes.max_batch_size,
    }
    identity: dict[str, JSONValue] = {
        "toolchain": order.toolchain.name,
        "simulated": order.toolchain.simulated,
    }
    asked: dict[str, JSONValue] = {"prompts": list(_PROMPTS), "tokens": _TOKENS}
    return (
        _step("model", {"id": recipe.model.id}, outputs=("model.json",)),
        _step(
            "reference",
            {"shapes": shapes, **asked},
            needs=("model",),
            outputs=("prompts.json", "outputs.json"),
        ),
        Step(
            name="compile",
            run=Call(function=f"{_WORK}:compile_table", params=shapes),
            needs=("model",),
            outputs=("runtime.json", "table.dat"),
            where="toolchain",
            identity=identity,
        ),
        Step(
            name="package",
            run=Call(function=f"{_WORK}:package", data=("lmi_compile.backends.null.served",)),
            needs=("compile",),
            outputs=("serving.properties", "model.py", "table.dat"),
        ),
        _step("candidate", {}, needs=("reference", "package"), outputs=("outputs.json",)),
        _step(
            "judge",
            {"dtype": recipe.dtype},
            needs=("reference", "candidate"),
            outputs=("verdict.json",),
        ),
        proof_step(),
    )


def preflight(order: Order) -> None:
    """The null backend needs nothing."""
    del order


def serving(order: Order) -> Mapping[str, JSONValue]:
    """Any DJL Python container serves it, on any hardware."""
    return {"container": order.toolchain.to_json()["serves"], "hardware": {}}


def _step(
    name: str,
    params: Mapping[str, JSONValue],
    *,
    needs: tuple[str, ...] = (),
    outputs: tuple[str, ...],
) -> Step:
    run = Call(function=f"{_WORK}:{name}", params=params)
    return Step(name=name, run=run, needs=needs, outputs=outputs)
