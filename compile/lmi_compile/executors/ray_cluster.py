"""The Ray executor: a step runs on the node of an existing cluster that has its hardware.

What a step writes goes from the node into the cache, which all nodes mount, or into a registry
that all of them reach (`ray_ways`); nothing of it is handed through Ray. Each try has a directory
of its own, so that a node that is dead, or only thought to be, cannot write into what another try
makes. The lock on the step's key is held here, as with every executor: whatever machines take
part, a step is built once. When this process dies, Ray ends its tasks; started again, it finds
what has finished.
"""

import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray  # noqa: TID253 - imported when a cluster is asked for
from ray import exceptions as lost  # noqa: TID253 - as above

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import (
    CompileError,
    EnvironmentFault,
    Interrupted,
    Transient,
    from_failure,
)
from lmi_compile.executors import ray_task
from lmi_compile.executors.local import run_step
from lmi_compile.executors.ray_resources import Ask, ask_of, describe, fits
from lmi_compile.executors.ray_ways import Way, way_of
from lmi_compile.executors.running import Running
from lmi_compile.plan import Plan
from lmi_compile.settings import Settings
from lmi_compile.step import Step
from lmi_compile.workspace import Staging

_TRIES = 4
_LOOK_SECONDS = 0.2
_RECONSIDER_SECONDS = 5.0
_ANSWER_SECONDS = 5.0
_GONE_SECONDS = 20.0
# The task's process or node is gone; the step itself said nothing.
_GONE = (
    lost.WorkerCrashedError,
    lost.NodeDiedError,
    lost.ObjectLostError,
    lost.OutOfMemoryError,
)
_CONNECTING = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class RayCluster:
    """The executor.

    Attributes:
        settings: the cluster's address, what its nodes run steps with, and how outputs travel.
        running: lets another thread end its tasks.
        tries: how often a step is tried when its node or its process dies, or says try again.
    """

    settings: Settings
    running: Running = field(default_factory=Running)
    tries: int = _TRIES
    way: Callable[[Staging, Callable[[str], None]], Way] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "way", way_of(self.settings))

    def prepare(self, plan: Plan) -> None:
        """Hold that the cluster answers and has a node for every step.

        Raises:
            EnvironmentFault: it does not.
        """
        self._connect()
        nodes = _nodes()
        steps = [planned.step for planned in plan.steps if not _stays(planned.step)]
        missing = [step for step in steps if not fits(ask_of(step, nodes), nodes)]
        if missing:
            raise _infeasible(missing, nodes)

    def __call__(
        self,
        step: Step,
        inputs: Mapping[str, Path],
        staging: Staging,
        on_line: Callable[[str], None],
    ) -> Mapping[str, JSONValue]:
        """Run `step` on the cluster, or here where it reads this machine's own files."""
        if _stays(step):
            return run_step(
                step,
                inputs,
                staging,
                on_line,
                offline=self.settings.offline,
                running=self.running,
            )
        if self.way(staging, on_line).made():
            return {"executor": "none: from the registry"}
        self._connect()
        for number in range(1, self.tries):
            try:
                return self._try(step, inputs, staging, on_line)
            except _Again as again:
                on_line(f"try {number + 1} of {self.tries}: {again.error.what}")
        try:
            return self._try(step, inputs, staging, on_line)
        except _Again as again:
            error = again.error
            what = f"{error.what}; given up after {self.tries} tries"
            raise type(error)(what, error.why, error.fix) from error

    def _connect(self) -> None:
        with _CONNECTING:
            if not ray.is_initialized():
                _join(self.settings.ray_address)

    def _try(
        self,
        step: Step,
        inputs: Mapping[str, Path],
        staging: Staging,
        on_line: Callable[[str], None],
    ) -> Mapping[str, JSONValue]:
        nodes = _nodes()
        ask = ask_of(step, nodes)
        way = self.way(staging, on_line)
        submit = ray.remote(ray_task.run).options(max_retries=0, **ask.options())
        running = submit.remote(way.task(step, inputs, self.settings))
        with self.running.held(step.name, lambda: _cancel(running)):
            try:
                _follow(running, step, ask, way)
            except BaseException:
                _cancel(running)
                raise
            answer = _answer(running, step)
            way.ended(answer)
            if "failure" in answer:
                failure = answer["failure"]
                told = failure.items() if isinstance(failure, dict) else ()
                error = from_failure({name: str(text) for name, text in told}, None)
                raise _Again(error) if answer["again"] else error
        way.take()
        ran = answer["ran"]
        return ran if isinstance(ran, Mapping) else {}


class _Again(Exception):
    """A try came to nothing for a reason that the next one may not meet."""

    def __init__(self, error: CompileError) -> None:
        super().__init__(error.what)
        self.error = error


def _follow(running: Any, step: Step, ask: Ask, way: Way) -> None:
    """Until the task has ended; a task that waits for what has left the cluster is given up.

    Raises:
        EnvironmentFault: no node is left that has what it asks for.
    """
    looked = 0.0
    while True:
        done, _ = ray.wait([running], timeout=_LOOK_SECONDS)
        way.look()
        if done:
            return
        if not way.began and time.monotonic() - looked > _RECONSIDER_SECONDS:
            looked = time.monotonic()
            nodes = _nodes()
            if not fits(ask, nodes):
                raise _infeasible([step], nodes)


def _answer(running: Any, step: Step) -> Mapping[str, JSONValue]:
    try:
        answer: Mapping[str, JSONValue] = ray.get(running)
    except lost.TaskCancelledError as error:
        raise Interrupted(f"step {step.name} was ended") from error
    except _GONE as error:
        what = f"step {step.name}: its process or its node died ({type(error).__name__})"
        gone = Transient(what, _brief(error), "run the same command again")
        raise _Again(gone) from error
    except lost.RayTaskError as error:
        what = f"step {step.name} could not start on the cluster"
        fix = "install the same lmi-compile on every node"
        raise EnvironmentFault(what, _brief(error), fix) from error
    except lost.RayError as error:
        what = f"step {step.name}: the cluster was lost"
        raise Transient(what, _brief(error), "run the same command again") from error
    return answer


def _cancel(running: Any) -> None:
    """End the task's process, and see it gone before its directory goes.

    Ray aborts this whole process where a task is cancelled whose end is being told.
    """
    done, _ = ray.wait([running], timeout=0)
    if done:
        return
    ray.cancel(running, force=True)
    ray.wait([running], timeout=_GONE_SECONDS)


def _stays(step: Step) -> bool:
    """It reads files of this machine, or asks a hub with this user's credentials."""
    return bool(step.local_inputs) or step.network


def _nodes() -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _infeasible(steps: list[Step], nodes: list[Mapping[str, float]]) -> CompileError:
    asked = [f"step {step.name} needs {ask_of(step, nodes)}" for step in steps]
    what = f"no node of the cluster has what {', '.join(step.name for step in steps)} needs"
    why = "\n".join([*asked, describe(nodes)])
    return EnvironmentFault(what, why, "add such a node to the cluster, or choose another target")


def _join(address: str | None) -> None:
    """Connect this process to the cluster.

    Raises:
        EnvironmentFault: it cannot be reached.
    """
    fix = "start it, or name it with --ray-address; from outside it, ray://HOST:10001"
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address and address != "auto":
            host, _, port = address.rpartition("://")[2].rpartition(":")
            socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
        ray.init(
            address=address or "auto",
            log_to_driver=False,
            configure_logging=False,
        )
        sys.stdout = sys.stderr  # a thread of Ray's prints what dies; stdout is data
    except (OSError, ValueError, RuntimeError, lost.RayError) as error:
        what = f"the Ray cluster at {address or 'its usual address'} cannot be reached"
        raise EnvironmentFault(what, _brief(error), fix) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's own would end us without a word


def _brief(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
