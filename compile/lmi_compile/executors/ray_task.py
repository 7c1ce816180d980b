"""What a Ray worker runs: one step, on the node that Ray chose."""

import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import ray  # noqa: TID253 - only the cluster's workers run this

from lmi_artifacts.digest import JSONValue
from lmi_compile.depot import Depot
from lmi_compile.errors import EnvironmentFault, ToolFailed, Transient, to_failure
from lmi_compile.executors.ending import MayPass
from lmi_compile.executors.running import Running
from lmi_compile.settings import Settings, load_settings
from lmi_compile.step import Step
from lmi_compile.workspace import Staging, Workspace, disk_faults, stopwatch

# In a node's cache: where the driver runs on a node, it holds the locks of the cache itself.
_HOME = "ray"
_LINES = 10_000  # of a log that goes with the answer, the last ones
Hear = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One try of one step.

    Attributes:
        step: what is run.
        expected: what the place where a call runs must be like.
        settings: the driver's; `executor` is what the node itself runs steps with.
    """

    step: Step
    expected: Mapping[str, JSONValue]
    settings: Settings

    def run(self, hear: Hear) -> Mapping[str, JSONValue]:
        """Bring everything together and run it; says where.

        Args:
            hear: takes the lines of a log that the driver cannot read otherwise.

        Raises:
            CompileError: the step failed, or the node lacks what it needs.
        """
        raise NotImplementedError

    def execute(
        self, inputs: Mapping[str, Path], staging: Staging, hear: Hear
    ) -> Mapping[str, JSONValue]:
        """Run the step on this node."""
        settings = self.settings
        if settings.executor == "container":
            from lmi_compile.executors.choose import containers  # noqa: PLC0415 - needs docker

            executor = containers(settings, lambda _: None, Running())
            return executor(self.step, inputs, staging, hear, expected=self.expected)
        from lmi_compile.executors.local import run_step  # noqa: PLC0415 - only where it is needed

        offline = settings.offline
        return run_step(self.step, inputs, staging, hear, offline=offline, expected=self.expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountedTask(Task):
    """A try in the cache that all nodes see; the driver reads its log there.

    Attributes:
        inputs: the output directories of the steps it needs.
        root: a directory of this try alone, to be made; its parent is in the shared cache.
    """

    inputs: Mapping[str, Path]
    root: Path

    def run(self, hear: Hear) -> Mapping[str, JSONValue]:
        """Run it in its directory; says where.

        Raises:
            CompileError: as `Task.run`; EnvironmentFault where the node does not see the cache.
        """
        del hear
        if not self.root.parent.is_dir():
            what = f"node {socket.gethostname()} does not see the cache: {self.root.parents[2]}"
            fix = "name a folder that every node mounts, with --cache-dir or LMI_CACHE_DIR, "
            fix += "or a registry that every node reaches, with --ray-store"
            raise EnvironmentFault(what, fix=fix)
        return self.execute(self.inputs, Staging.at(self.root).create(), lambda _: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTask(Task):
    """A try in a cache of the node's own; inputs and outputs travel through a registry.

    Attributes:
        inputs: the keys of the steps it needs, which are in the registry.
        key: the step's own.
        store: the registry's URL.
    """

    inputs: Mapping[str, str]
    key: str
    store: str

    def run(self, hear: Hear) -> Mapping[str, JSONValue]:
        """Run it, unless an earlier try had finished, and share it; says where."""
        depot, workspace = Depot(self.store), Workspace(load_settings({}).cache_dir / _HOME)
        with disk_faults(workspace.root), workspace.at_work():
            inputs = {
                name: _fetched(key, name, workspace, depot) for name, key in self.inputs.items()
            }
            with workspace.lock(self.key, lambda: hear("another try of this step goes on here")):
                out = workspace.find(self.key) or self._built(inputs, workspace, hear)
                ran = workspace.record(self.key)["ran"]
                if not depot.put(self.key, out):
                    workspace.discard(self.key)
        return ran if isinstance(ran, Mapping) else {}

    def _built(self, inputs: Mapping[str, Path], workspace: Workspace, hear: Hear) -> Path:
        staging, watch = workspace.stage(self.key), stopwatch()
        try:
            ran = self.execute(inputs, staging, hear)
        except Exception:
            workspace.fail(self.key, staging)
            raise
        return _commit(workspace, staging, self.step.name, watch(), ran)


def run(task: Task) -> dict[str, JSONValue]:
    """Run `task`.

    Returns:
        `ran`, or `failure` and whether to try `again`, as errors cross as data; and its `log`.
    """
    lines: deque[str] = deque(maxlen=_LINES)
    try:
        ran = task.run(lines.append)
    except Exception as error:  # noqa: BLE001 - as the docstring says
        again = isinstance(error, Transient | MayPass)
        failure = to_failure(error)
        if isinstance(error, MayPass):
            failure["kind"] = ToolFailed.__name__  # how it came to be tried again stays here
        return {"failure": dict(failure), "again": again, "log": "\n".join(lines)}
    place = {
        "node": socket.gethostname(),
        "node_id": str(ray.get_runtime_context().get_node_id()),
    }
    ran = {"executor": "ray", **place, "inner": dict(ran)}
    return {"ran": ran, "log": "\n".join(lines)}


def _fetched(key: str, name: str, workspace: Workspace, depot: Depot) -> Path:
    """The outputs of a step that this node needs, in its cache from now on."""
    with workspace.lock(key, lambda: None):
        found = workspace.find(key)
        if found is not None:
            workspace.use(key)
            return found
        staging, watch = workspace.stage(key), stopwatch()
        if depot.get(key, staging.out):
            return _commit(workspace, staging, name, watch(), {"executor": "none: from the store"})
        workspace.fail(key, staging)
    what = f"outputs of step {name} are not whole in {depot.url}"
    raise Transient(what, fix="run the same command again")


def _commit(
    workspace: Workspace,
    staging: Staging,
    name: str,
    seconds: float,
    ran: Mapping[str, JSONValue],
) -> Path:
    """What entered the key only the driver knows; it keeps its own record."""
    record: dict[str, JSONValue] = {"name": name, "seconds": seconds, "ran": dict(ran), "key": {}}
    return workspace.commit(staging.key, staging, record)
