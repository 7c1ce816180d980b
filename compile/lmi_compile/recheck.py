"""Verify what is already there, with the steps that a build uses: a tree, two trees, an endpoint.

References and baselines come from the workspace; what is made of trees and endpoints is kept
nowhere, since they have no key.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.common_steps import gate_method
from lmi_compile.errors import Unsupported
from lmi_compile.events import StepFinished, StepLine, StepStarted
from lmi_compile.plan import Plan
from lmi_compile.step import Call, Step
from lmi_compile.stepping import Tools, run_steps
from lmi_compile.workspace import Staging, stopwatch

_PROMPTS = ("prompts.json", "prompts.safetensors")
_OUTPUTS = ("outputs.json", "outputs.safetensors")


def verify_tree(plan: Plan, tree: Path, tools: Tools) -> dict[str, JSONValue]:
    """Judge the served tree at `tree` against the reference of `plan`'s model."""
    steps, known = _known(plan, tools, "tasks")
    inputs = {**known, "package": tree}
    with ExitStack() as made:
        for name in ("candidate", "tasks-candidate"):
            if name in steps:
                needed = {need: inputs[need] for need in steps[name].needs}
                inputs[name] = made.enter_context(_ran(steps[name], needed, tools))
        return _verdict(steps["judge"], inputs, tools)


def compare_trees(plan: Plan, tree: Path, against: Path, tools: Tools) -> dict[str, JSONValue]:
    """Judge the served tree at `tree` against another one: an upgrade check.

    Both are asked the prompts of `plan`'s model; the gates are `plan`'s, without its tasks.
    """
    steps, known = _known(plan, tools)
    judge, asked = steps["judge"], known["reference"]
    assert isinstance(judge.run, Call)  # noqa: S101 - a judge is ours
    again = replace(judge.run, params={**judge.run.params, "same": True})
    with (
        _ran(steps["candidate"], {**known, "package": tree}, tools) as candidate,
        _ran(steps["candidate"], {**known, "package": against}, tools) as other,
    ):
        sides = other.parent / "sides"
        sides.mkdir()
        for folder, names in ((asked, _PROMPTS), (other, _OUTPUTS)):
            for name in names:
                (sides / name).symlink_to(folder / name)
        inputs = {"reference": sides, "candidate": candidate}
        return _verdict(replace(judge, run=again), inputs, tools)


def verify_endpoint(plan: Plan, url: str, tools: Tools) -> dict[str, JSONValue]:
    """Judge what a running endpoint answers against the reference of `plan`'s model."""
    _, known = _known(plan, tools)
    recipe = plan.order.recipe
    ask = Call(function="lmi_compile.endpoint:run", params={"url": url})
    judge = Call(
        function="lmi_verify.generation:run",
        params={
            "dtype": recipe.dtype,
            "method": gate_method(recipe),
            "gates": {},
        },
    )
    inputs = {"reference": known["reference"]}
    with _ran(Step(name="endpoint", run=ask), inputs, tools) as answers:
        return _verdict(Step(name="judge", run=judge), {**inputs, "answers": answers}, tools)


def explain_tree(plan: Plan, tree: Path, tools: Tools) -> dict[str, JSONValue]:
    """Find the first layer at which the weights of `tree` leave the noise band.

    Raises:
        Unsupported: its weights are not stored under the model's own names.
    """
    recipe = plan.order.recipe
    carried = recipe.quantization.method in {"none", "int8_wo"} and recipe.backend == "aoti"
    if not carried or recipe.tensor_parallel_degree > 1:
        what = f"--explain reads one file of weights without smoothing: not {recipe.name}'s"
        raise Unsupported(what, fix="leave --explain out: the verdict itself needs no weights")
    _, known = _known(plan, tools)
    rounding = "int8-rows" if recipe.quantization.method == "int8_wo" else "none"
    call = Call(
        function="lmi_verify.layers:run",
        params={
            "dtype": recipe.dtype,
            "rounding": rounding,
            "trust_remote_code": recipe.model.trust_remote_code,
        },
    )
    with _ran(Step(name="explain", run=call), {**known, "package": tree}, tools) as out:
        found: dict[str, JSONValue] = json.loads((out / "layers.json").read_bytes())
        return found


def _known(plan: Plan, tools: Tools, *more: str) -> tuple[dict[str, Step], dict[str, Path]]:
    """The plan's steps by name, and the finished ones that judging needs, with `more` of them."""
    steps = {planned.step.name: planned.step for planned in plan.steps}
    if "reference" not in steps:
        what = f"{plan.order.recipe.name} has no reference to compare with"
        raise Unsupported(what, fix="name a recipe of a backend that judges")
    known: dict[str, Path] = {}
    for last in ("reference", "baseline", *more):
        if last in steps:
            known |= run_steps(plan, last, tools, {})
    return steps, known


def _verdict(judge: Step, inputs: Mapping[str, Path], tools: Tools) -> dict[str, JSONValue]:
    with _ran(judge, inputs, tools) as judged:
        verdict: dict[str, JSONValue] = json.loads((judged / "verdict.json").read_bytes())
        return verdict


@contextmanager
def _ran(step: Step, inputs: Mapping[str, Path], tools: Tools) -> Iterator[Path]:
    """A step's outputs, gone afterwards."""
    root = Path(tempfile.mkdtemp(dir=tools.workspace.staging_folder()))
    staging = Staging(root=root, out=root / "out", log=root / "log.txt")
    staging.out.mkdir()
    (root / "tmp").mkdir()
    tools.emit(StepStarted(name=step.name, number=1, count=1))
    watch = stopwatch()
    try:
        tools.execute(
            replace(step, local_inputs={}),
            inputs,
            staging,
            lambda text: tools.emit(StepLine(name=step.name, text=text)),
        )
        tools.emit(StepFinished(name=step.name, cached=False, seconds=watch()))
        yield staging.out
    finally:
        shutil.rmtree(root, ignore_errors=True)
