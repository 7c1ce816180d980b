"""The story of a matrix: steps that builds share run once, then each build is judged and published.

A task is one step key, whatever builds need it. A build's own last task is `pipeline.finish`: it
finds every step done, holds the verdict and the proof, and publishes, exactly as a build alone.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from lmi_compile.errors import EnvironmentFault, Interrupted, Transient
from lmi_compile.events import Doing, Event, Note, StepFinished, StepLine, StepStarted, StepWaits
from lmi_compile.matrix.outcome import Came, Outcome
from lmi_compile.matrix.planning import LAST, Planned
from lmi_compile.matrix.schedule import Ended, Scheduler, Task
from lmi_compile.pipeline import Build, finish, prepare, run_until
from lmi_compile.plan import Plan, PlannedStep
from lmi_compile.step import Resources, Step
from lmi_compile.stepping import Cancelling, Tools, run_once
from lmi_compile.workspace import Workspace, stopwatch

DEVICE, NETWORK, MEMORY = "device", "network", "memory"


class View(Protocol):
    """Shows a run; every method may be called from any thread."""

    def started(self, task: str, builds: tuple[str, ...]) -> None:
        """A step begins, for these builds."""

    def line(self, task: str, text: str) -> None:
        """Something that a step printed, or a note about it."""

    def ended(self, task: str, seconds: float, *, failed: bool) -> None:
        """A step has ended."""

    def outcome(self, outcome: Outcome) -> None:
        """A build has come to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How a matrix is run.

    Attributes:
        workspace: where finished steps are kept.
        tools_of: what a plan is built with; the events of its steps go to `emit`.
        limits: how much there is at once of jobs, device, network and memory.
        until: the step to end with; empty for the whole way.
        allow_unverified: publish also where nothing could be judged.
        fail_fast: stop at the first build that fails.
    """

    workspace: Workspace
    tools_of: Callable[[Plan], Tools]
    limits: Mapping[str, int]
    until: str = ""
    allow_unverified: bool = False
    fail_fast: bool = False


def run_matrix(planned: Iterable[Planned], how: How, view: View) -> tuple[Outcome, ...]:
    """Build everything that is to do; the outcomes come in the order of `planned`.

    A failure ends the builds that need what failed, and no other, unless `fail_fast` is asked
    for. Somebody's Ctrl-C ends all of it: builds that had not ended are `interrupted`.
    """
    run = _Run(tuple(planned), how, view)
    with how.workspace.at_work():
        run.go()
    return run.outcomes()


@dataclass(slots=True)
class _Job:
    """One build while it is being worked on."""

    planned: Planned
    plan: Plan
    tools: Tools
    build: Build | None = None


@dataclass(slots=True)
class _Shared:
    """One step while it is being worked on, and the builds that need it."""

    planned: PlannedStep
    job: _Job
    builds: list[str] = field(default_factory=list)
    needs: tuple[str, ...] = ()
    seconds: float | None = None


class _Run:
    """The state of one run; tasks touch only their own entries of it."""

    def __init__(self, planned: tuple[Planned, ...], how: How, view: View) -> None:
        self.planned = planned
        self.how = how
        self.view = view
        self.jobs: dict[str, _Job] = {}
        self.steps: dict[str, _Shared] = {}
        self.ended: dict[str, Outcome] = {}
        self.stopped_by: str = ""
        self.lock = threading.Lock()

    def go(self) -> None:
        for one in self.planned:
            self._admit(one)
        scheduler = Scheduler(self._tasks(), self.how.limits, self._on_end, self._cancel)
        try:
            scheduler.run()
        except KeyboardInterrupt:
            self.stopped_by = "interrupted"

    def outcomes(self) -> tuple[Outcome, ...]:
        return tuple(
            self.ended.get(one.name) or self._unfinished(one) for one in self.planned
        )  # fmt: skip

    def _admit(self, one: Planned) -> None:
        """Take a build in, or say at once why there is nothing to run for it."""
        if one.state != "to do" or one.plan is None:
            self._say(_without_running(one))
            return
        job = _Job(planned=one, plan=one.plan, tools=self.how.tools_of(one.plan))
        try:
            prepare(one.plan, job.tools)
        except (EnvironmentFault, Transient) as error:
            self._say(Outcome(planned=one, came="failed", error=error))
            return
        self.jobs[one.name] = job
        for step in one.plan.through(self.how.until or LAST):
            if job.tools.workspace.find(step.key) is not None:
                job.tools.workspace.use(step.key)
                continue
            needs = tuple(one.plan.keys[need] for need in step.step.needs)
            shared = self.steps.setdefault(step.key, _Shared(planned=step, job=job, needs=needs))
            shared.builds.append(one.name)

    def _tasks(self) -> list[Task]:
        """Each step right before the first build that needs it, so that builds end early."""
        tasks: dict[str, Task] = {}
        for name, job in self.jobs.items():
            own = [key for key in job.plan.keys.values() if name in self._builds_of(key)]
            for key in own:
                shared = self.steps[key]
                needs = tuple(need for need in shared.needs if need in self.steps)
                call = _bind(self._run_step, key)
                tasks.setdefault(
                    key,
                    Task(name=key, call=call, needs=needs, demands=demands(shared.planned.step)),
                )
            last = f"build {name}"
            tasks[last] = Task(name=last, call=_bind(self._finish, name), needs=tuple(own))
        return list(tasks.values())

    def _builds_of(self, key: str) -> list[str]:
        return self.steps[key].builds if key in self.steps else []

    def _run_step(self, key: str) -> None:
        shared = self.steps[key]
        job, label = shared.job, self._label(shared)
        found = {need: job.tools.workspace.find(job.plan.keys[need])
                 for need in shared.planned.step.needs}  # fmt: skip
        inputs = {need: path for need, path in found.items() if path is not None}
        if len(inputs) != len(found):
            what = f"{label}: what it needs is no longer in the cache"
            raise EnvironmentFault(what, fix="run the same command again; do not prune meanwhile")
        watch, failed = stopwatch(), True
        self.view.started(label, tuple(shared.builds))
        try:
            _, ran = run_once(shared.planned, inputs, self._telling(job.tools, label))
            failed = False
            shared.seconds = watch() if ran else None
        finally:
            self.view.ended(label, watch(), failed=failed)

    def _finish(self, name: str) -> None:
        job = self.jobs[name]
        tools = self._telling(job.tools, name)
        if self.how.until:
            job.build = run_until(job.plan, self.how.until, tools)
        else:
            job.build = finish(job.plan, tools, allow_unverified=self.how.allow_unverified)

    def _telling(self, tools: Tools, label: str) -> Tools:
        """The same tools, whose events are this view's lines."""

        def emit(event: Event) -> None:
            match event:
                case StepLine(text=text) | Note(text=text) | Doing(text=text):
                    self.view.line(label, text)
                case StepWaits(name=name):
                    self.view.line(label, f"{name}: another process is building it; waiting")
                case StepStarted() | StepFinished():
                    pass

        return replace(tools, emit=emit)

    def _on_end(self, ended: Ended) -> bool:
        """Note how a task ended; True when the rest shall stop."""
        name = ended.task.name
        if name.startswith("build "):
            return self._build_ended(name.removeprefix("build "), ended)
        if ended.error is None:
            return False
        shared = self.steps[name]
        for build in shared.builds:
            self._fail(build, ended.error, shared.planned.step.name)
        return self.how.fail_fast

    def _build_ended(self, name: str, ended: Ended) -> bool:
        if ended.blamed:
            return False
        if ended.error is not None:
            self._fail(name, ended.error, "")
            return self.how.fail_fast
        job = self.jobs[name]
        assert job.build is not None  # noqa: S101 - a task that ended well has set it
        seconds = {**self._seconds(job), **job.build.seconds}
        size = _size(job)
        self._say(
            Outcome(planned=job.planned, came="built", build=job.build, seconds=seconds, size=size)
        )
        return False

    def _fail(self, name: str, error: Exception, step: str) -> None:
        if name in self.ended or self.stopped_by or isinstance(error, Interrupted):
            return
        job = self.jobs[name]
        seconds = self._seconds(job)
        self._say(
            Outcome(planned=job.planned, came="failed", error=error, step=step, seconds=seconds)
        )

    def _seconds(self, job: _Job) -> dict[str, float]:
        """What its steps took in this run; those that others needed as well are counted whole."""
        return {
            step: seconds
            for step, key in job.plan.keys.items()
            if key in self.steps and (seconds := self.steps[key].seconds) is not None
        }

    def _unfinished(self, one: Planned) -> Outcome:
        seconds = self._seconds(self.jobs[one.name]) if one.name in self.jobs else {}
        came: Came = "interrupted" if self.stopped_by == "interrupted" else "cancelled"
        return Outcome(planned=one, came=came, seconds=seconds)

    def _say(self, outcome: Outcome) -> None:
        self.ended[outcome.name] = outcome
        self.view.outcome(outcome)

    def _cancel(self) -> None:
        self.stopped_by = self.stopped_by or "cancelled"
        for executor in {
            id(job.tools.execute): job.tools.execute for job in self.jobs.values()
        }.values():
            if isinstance(executor, Cancelling):
                executor.cancel()

    @staticmethod
    def _label(shared: _Shared) -> str:
        first = shared.builds[0]
        more = f" (+{len(shared.builds) - 1})" if len(shared.builds) > 1 else ""
        return f"{first}{more}: {shared.planned.step.name}"


def demands(step: Step) -> dict[str, int]:
    """What a step takes of the machine beside a job."""
    resources: Resources = step.resources
    found = {}
    if step.where == "device" or resources.accelerator_count:
        found[DEVICE] = max(1, resources.accelerator_count)
    if step.name == "fetch":
        found[NETWORK] = 1
    if resources.memory_bytes:
        found[MEMORY] = resources.memory_bytes
    return found


def _bind(function: Callable[[str], None], argument: str) -> Callable[[], None]:
    return lambda: function(argument)


def _without_running(one: Planned) -> Outcome:
    match one.state:
        case "cached":
            return Outcome(planned=one, came="cached", build=one.published)
        case "quarantined":
            return Outcome(planned=one, came="quarantined")
        case "infeasible" | "invalid" as state:
            return Outcome(planned=one, came=state, error=one.error)
        case "to do":
            message = "a build without a plan has nothing to do"
            raise AssertionError(message)


def _size(job: _Job) -> int:
    artifact = job.build.artifact if job.build else None
    if artifact is None:
        return 0
    return sum(file.size for file in job.tools.registry.manifest(artifact).files)
