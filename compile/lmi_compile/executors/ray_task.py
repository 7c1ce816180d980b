"""What a Ray worker runs: one step, on the node that Ray chose, in the shared cache."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ray  # noqa: TID253 - only the cluster's workers run this

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import EnvironmentFault, ToolFailed, Transient, to_failure
from lmi_compile.executors.ending import MayPass
from lmi_compile.executors.running import Running
from lmi_compile.settings import Settings
from lmi_compile.step import Step
from lmi_compile.workspace import Staging


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One try of one step.

    Attributes:
        step: what is run.
        inputs: the output directories of the steps it needs.
        root: a directory of this try alone, to be made; its parent is in the shared cache.
        expected: what the place where a call runs must be like.
        settings: the driver's; `executor` is what the node itself runs steps with.
    """

    step: Step
    inputs: Mapping[str, Path]
    root: Path
    expected: Mapping[str, JSONValue]
    settings: Settings


def run(task: Task) -> dict[str, JSONValue]:
    """Run `task`; returns `ran`, or `failure` and whether to try `again`: errors cross as data."""
    node = socket.gethostname()
    try:
        if not task.root.parent.is_dir():
            what = f"node {node} does not see the cache: {task.root.parents[2]}"
            fix = "name a folder that every node mounts, with --cache-dir or LMI_CACHE_DIR"
            raise EnvironmentFault(what, fix=fix)  # noqa: TRY301 - told like any other failure
        ran = _execute(task, Staging.at(task.root).create())
    except Exception as error:  # noqa: BLE001 - as the docstring says
        again = isinstance(error, Transient | MayPass)
        failure = to_failure(error)
        if isinstance(error, MayPass):
            failure["kind"] = ToolFailed.__name__  # how it came to be tried again stays here
        return {"failure": dict(failure), "again": again}
    place = {"node": node, "node_id": str(ray.get_runtime_context().get_node_id())}
    return {"ran": {"executor": "ray", **place, "inner": dict(ran)}}


def _execute(task: Task, staging: Staging) -> Mapping[str, JSONValue]:
    if task.settings.executor == "container":
        from lmi_compile.executors.choose import containers  # noqa: PLC0415 - needs docker

        executor = containers(task.settings, lambda _: None, Running())
        return executor(task.step, task.inputs, staging, _unheard, expected=task.expected)
    from lmi_compile.executors.local import run_step  # noqa: PLC0415 - only where it is needed

    offline = task.settings.offline
    return run_step(
        task.step, task.inputs, staging, _unheard, offline=offline, expected=task.expected
    )


def _unheard(line: str) -> None:
    """The driver reads the log in the shared cache."""
    del line
