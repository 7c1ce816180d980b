"""What a backend is, and how one is found: a folder under `backends/` with a `steps` module."""

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from lmi_artifacts.digest import JSONValue
from lmi_compile.calibration import PlannedCalibration
from lmi_compile.errors import EnvironmentFault
from lmi_compile.model_steps import PlannedModel
from lmi_compile.step import Step
from lmi_recipes.model import Recipe
from lmi_recipes.target import CpuTarget
from lmi_recipes.toolchain import Toolchain


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """All that a backend may know when it plans.

    Attributes:
        recipe: what is asked for.
        toolchain: the pinned data that the recipe names.
        cpu: the CPU that the recipe targets, or None.
        model: the steps that bring the model, and its architecture where it is known by now.
        calibration: the data set that ranges are measured on, where the recipe has one.
        draft: what is made is tried and thrown away: compile fast rather than fast code.
    """

    recipe: Recipe
    toolchain: Toolchain
    cpu: CpuTarget | None
    model: PlannedModel
    calibration: PlannedCalibration | None = None
    draft: bool = False


class Backend(Protocol):
    """A backend's door, satisfied by the module `lmi_compile.backends.<name>.steps`."""

    READS_MODEL: bool

    def steps(self, order: Order) -> tuple[Step, ...]:
        """The whole way from the model to the proof, in order, purely.

        By their names, `package` writes the served tree, `judge` writes `verdict.json` and
        `proof` writes `proof.json`.

        Raises:
            Unsupported: the recipe is valid, but this backend cannot do it.
        """

    def preflight(self, order: Order) -> None:
        """Hold what this machine must have before the first step runs.

        Raises:
            EnvironmentFault: it lacks something.
        """

    def serving(self, order: Order) -> Mapping[str, JSONValue]:
        """Which container serves the artifact and which hardware it loads on."""


@runtime_checkable
class Skipping(Protocol):
    """A backend that has steps for some recipes only, and can say why."""

    def skipped(self, order: Order) -> Mapping[str, str]:
        """Steps that this order's plan cannot have, with the reason of each."""


@runtime_checkable
class Noting(Protocol):
    """A backend that can say what one should know of an artifact, before and after it is built."""

    def notes(self, order: Order) -> tuple[str, ...]:
        """Sentences about building this order."""

    def remarks(self, recipe: Mapping[str, JSONValue]) -> tuple[str, ...]:
        """Sentences about serving the artifact of a resolved recipe."""


def notes_of(backend: Backend, order: Order) -> tuple[str, ...]:
    """What `backend` has to say about `order`."""
    return backend.notes(order) if isinstance(backend, Noting) else ()


def remarks_on(recipe: Mapping[str, JSONValue]) -> tuple[str, ...]:
    """What its backend has to say about an artifact; nothing where that backend is not here."""
    try:
        backend = find_backend(str(recipe.get("backend")))
    except EnvironmentFault:
        return ()
    return backend.remarks(recipe) if isinstance(backend, Noting) else ()


def skipped_by(backend: Backend, order: Order) -> Mapping[str, str]:
    """Steps that `backend` cannot have for `order`, with the reason of each."""
    return backend.skipped(order) if isinstance(backend, Skipping) else {}


def find_backend(name: str) -> Backend:
    """The backend called `name`.

    Raises:
        EnvironmentFault: it is in the schema but not built yet.
    """
    module = f"lmi_compile.backends.{name.replace('-', '_')}"
    folder = Path(__file__).parent / "backends" / name.replace("-", "_")
    if not (folder / "steps.py").is_file():
        built = sorted(path.parent.name for path in folder.parent.glob("*/steps.py"))
        what = f"backend {name} is not built yet"
        raise EnvironmentFault(what, fix=f"backends that work today: {', '.join(built)}")
    return cast("Backend", importlib.import_module(f"{module}.steps"))
