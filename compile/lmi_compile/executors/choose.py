"""The executor by its name, imported when something has to run: a cache hit runs nothing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import EnvironmentFault
from lmi_compile.events import Emit
from lmi_compile.executors.running import Running
from lmi_compile.settings import EXECUTORS, Settings
from lmi_compile.step import Step
from lmi_compile.workspace import Staging

if TYPE_CHECKING:
    from lmi_compile.executors.container import Containers
    from lmi_compile.executors.sagemaker import SageMakerJobs
    from lmi_compile.plan import Plan
    from lmi_compile.stepping import Execute


class Chosen:
    """The executor that the settings name.

    Args:
        settings: its name, and what it wants to know.
        emit: told what is worth a line.
    """

    def __init__(self, settings: Settings, emit: Emit) -> None:
        self._settings = settings
        self._emit = emit
        self._running = Running()
        self._lock = Lock()
        self._made: Execute | None = None

    def prepare(self, plan: "Plan") -> None:
        """Hold what `plan` needs here: what its backend names, or else what the executor does."""
        prepare = getattr(self._executor(), "prepare", None)
        if prepare is None:
            plan.backend.preflight(plan.order)
        else:
            prepare(plan)

    def __call__(
        self,
        step: Step,
        inputs: Mapping[str, Path],
        staging: Staging,
        on_line: Callable[[str], None],
    ) -> Mapping[str, JSONValue]:
        """Run `step`."""
        return self._executor()(step, inputs, staging, on_line)

    def requests(self, plan: "Plan") -> list[dict[str, JSONValue]]:
        """What would be sent to a service for `plan`, where the executor asks one.

        Raises:
            EnvironmentFault: it asks none.
        """
        if self._settings.executor != "sagemaker":
            what = f"--dry-run prints the requests of SageMaker jobs, not {self._settings.executor}"
            raise EnvironmentFault(what, fix="add --executor sagemaker, or use `lmi-compile plan`")
        return _sagemaker(self._settings, self._running).requests(plan)

    def cancel(self) -> None:
        """End every step that runs."""
        self._running.cancel()

    def _executor(self) -> "Execute":
        with self._lock:
            self._made = self._made or self._make()
        return self._made

    def _make(self) -> "Execute":
        settings = self._settings
        match settings.executor:
            case "local":
                from lmi_compile.executors.local import Local  # noqa: PLC0415 - see above

                return Local(offline=settings.offline, running=self._running)
            case "container":
                return containers(settings, self._emit, self._running)
            case "ray" | "ray+container":
                return _ray(settings, self._running)
            case "sagemaker":
                return _sagemaker(settings, self._running)
            case other:
                what = f"there is no executor called {other}"
                raise EnvironmentFault(what, fix=f"the executors are {', '.join(EXECUTORS)}")


def containers(settings: Settings, emit: Emit, running: Running) -> "Containers":
    """The container executor.

    Raises:
        EnvironmentFault: the Docker SDK is not installed.
    """
    try:
        from lmi_compile.executors.container import Containers  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        what = "the container executor needs the Docker SDK"
        raise EnvironmentFault(what, str(error), "pip install 'lmi-compile[container]'") from error
    return Containers(
        image=settings.image,
        pull=settings.pull,
        mounts=settings.container_mounts,
        offline=settings.offline,
        emit=emit,
        running=running,
    )


def _ray(settings: Settings, running: Running) -> "Execute":
    try:
        from lmi_compile.executors.ray_cluster import RayCluster  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        what = "the ray executor needs Ray"
        raise EnvironmentFault(what, str(error), "pip install 'lmi-compile[ray]'") from error
    return RayCluster(settings=settings, running=running)


def _sagemaker(settings: Settings, running: Running) -> "SageMakerJobs":
    try:
        from lmi_compile.executors.sagemaker import SageMakerJobs  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        what = "the sagemaker executor needs boto3"
        raise EnvironmentFault(what, str(error), "pip install 'lmi-compile[s3]'") from error
    return SageMakerJobs(settings=settings, running=running)
