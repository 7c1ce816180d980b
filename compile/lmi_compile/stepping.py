"""How steps run: each once, found in the workspace or carried out by the executor."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.registry import Registry
from lmi_compile.errors import CompileError, Interrupted
from lmi_compile.events import Emit, StepFinished, StepLine, StepStarted, StepWaits
from lmi_compile.plan import Plan, PlannedStep
from lmi_compile.step import Call, Step
from lmi_compile.workspace import Staging, Workspace, disk_faults, stopwatch


class Execute(Protocol):
    """An executor: runs one step to its end, or raises a `CompileError`."""

    def __call__(
        self,
        step: Step,
        inputs: Mapping[str, Path],
        staging: Staging,
        on_line: Callable[[str], None],
    ) -> Mapping[str, JSONValue]:
        """Run `step`; `inputs` holds the output directories of the steps it needs.

        Returns:
            where it ran, for the step's record.
        """


@runtime_checkable
class Preparing(Protocol):
    """An executor that knows better than the backend what must be there before the first step."""

    def prepare(self, plan: Plan) -> None:
        """Hold that `plan` can run.

        Raises:
            EnvironmentFault: the engine, the cluster or the account lacks something.
        """


@runtime_checkable
class Cancelling(Protocol):
    """An executor that can end what it runs in other threads."""

    def cancel(self) -> None:
        """End every step that runs, and start none any more: each raises a `CompileError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a build works with; all of it is passed in.

    Attributes:
        workspace: where finished steps are kept.
        execute: the executor.
        registry: where artifacts are published.
        emit: told what happens.
        golden: whether references are taken from and kept in the registry too.
    """

    workspace: Workspace
    execute: Execute
    registry: Registry
    emit: Emit
    golden: bool = False


def run_steps(plan: Plan, last: str, tools: Tools, seconds: dict[str, float]) -> dict[str, Path]:
    """Run what is not finished yet; returns every step's output directory, by name.

    Args:
        plan: whose steps.
        last: the step to end with; what it does not need is left out.
        tools: workspace and executor.
        seconds: filled with the wall seconds of each step that ran.
    """
    with tools.workspace.at_work():
        return _run_steps(plan, last, tools, seconds)


def _run_steps(plan: Plan, last: str, tools: Tools, seconds: dict[str, float]) -> dict[str, Path]:
    outputs: dict[str, Path] = {}
    numbers = {name: number for number, name in enumerate(plan.keys, start=1)}
    for planned in plan.through(last):
        name = planned.step.name
        inputs = {need: outputs[need] for need in planned.step.needs}
        found = tools.workspace.find(planned.key)
        if found is None:
            tools.emit(StepStarted(name=name, number=numbers[name], count=len(numbers)))
            watch = stopwatch()
            found, ran = run_once(planned, inputs, tools)
            if ran:
                seconds[name] = watch()
            tools.emit(StepFinished(name=name, cached=not ran, seconds=watch()))
        else:
            tools.workspace.use(planned.key)
        outputs[name] = found
    return outputs


def run_once(planned: PlannedStep, inputs: Mapping[str, Path], tools: Tools) -> tuple[Path, bool]:
    """Run a step unless another process finishes it first; says whether it ran here.

    Raises:
        CompileError: the step failed, was interrupted, or the disk cannot be written.
    """
    step, key, workspace = planned.step, planned.key, tools.workspace
    with (
        disk_faults(workspace.root),
        workspace.lock(key, lambda: tools.emit(StepWaits(name=step.name))),
    ):
        found = workspace.find(key)
        if found is not None:
            return found, False
        staging = workspace.stage(key)
        watch = stopwatch()
        try:
            ran = _run(planned, inputs, staging, tools)
        except CompileError as error:
            error.log = str(workspace.fail(key, staging))
            raise
        except OSError:
            workspace.fail(key, staging)
            raise
        except KeyboardInterrupt:
            workspace.fail(key, staging)
            what = f"interrupted in step {step.name}"
            fix = "run the same command again: finished steps are kept"
            raise Interrupted(what, fix=fix) from None
        record: dict[str, JSONValue] = {
            "name": step.name,
            "seconds": watch(),
            "ran": dict(ran),
            "key": dict(planned.ingredients),
        }
        return workspace.commit(key, staging, record), True


def _run(
    planned: PlannedStep, inputs: Mapping[str, Path], staging: Staging, tools: Tools
) -> Mapping[str, JSONValue]:
    """Run a step, or take a reference's outputs from the registry; says where it ran."""
    step = planned.step

    def say(text: str) -> None:
        tools.emit(StepLine(name=step.name, text=text))

    if not (tools.golden and isinstance(step.run, Call)):
        return tools.execute(step, inputs, staging, say)
    from lmi_compile import golden  # noqa: PLC0415 - only where references are shared

    shared = step.run.function in golden.SHARED
    if shared and golden.fetch(tools.registry, planned, staging.out, say):
        return {"executor": "none: from the registry"}
    ran = tools.execute(step, inputs, staging, say)
    if shared:
        golden.share(tools.registry, planned, staging.out, say)
    return ran
