"""Plans of the catalogue, and the simulators on a PATH of their own."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from lmi_artifacts.registry import Registry, open_registry
from lmi_compile.executors.local import run_step
from lmi_compile.plan import Plan, make_plan
from lmi_compile.stepping import Tools
from lmi_compile.survey import load, survey
from lmi_compile.workspace import Workspace

SIMULATORS = Path(__file__).parents[3] / "simulators" / "neuron"
TOOLCHAINS = (SIMULATORS / "toolchains",)


def load_file(path: Path) -> ModuleType:
    """A module by its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def plan_of(tmp_path: Path) -> Callable[..., Plan]:
    """A recipe's plan, with changed fields."""

    def plan(recipe: str, *changes: str) -> Plan:
        return make_plan(survey(load(recipe, changes), tmp_path / "cache", TOOLCHAINS))

    return plan


@pytest.fixture
def install() -> Callable[..., Path]:
    """Puts the simulators into a folder."""
    installed: Callable[..., Path] = load_file(SIMULATORS / "install.py").install
    return installed


@pytest.fixture
def simulators(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulators as modules of this process."""
    monkeypatch.syspath_prepend(str(SIMULATORS / "site"))
    for name in [name for name in sys.modules if name.startswith("neuron_simulator")]:
        monkeypatch.delitem(sys.modules, name)


@dataclass(frozen=True, kw_only=True)
class World:
    """A recipe beside its model, a cache, a registry for simulated artifacts, and a machine."""

    home: Path
    enter: Callable[[], None]

    @property
    def registry(self) -> Registry:
        return open_registry(str(self.home / "registry"), allow_simulated=True)

    def plan(self, recipe: str, *changes: str) -> Plan:
        """The plan of a recipe's text."""
        path = self.home / "recipe.yaml"
        path.write_text(recipe)
        loaded = load(str(path), changes)
        return make_plan(survey(loaded, self.home / "cache", TOOLCHAINS))

    @property
    def tools(self) -> Tools:
        """What a build works with; this world's machine is now the one on PATH."""
        self.enter()
        return Tools(
            workspace=Workspace(self.home / "cache"),
            execute=run_step,
            registry=self.registry,
            emit=lambda _: None,
        )

    def out(self, plan: Plan, step: str) -> Path:
        """A finished step's outputs."""
        found = self.tools.workspace.find(plan.keys[step])
        assert found is not None
        return found


@pytest.fixture(scope="module")
def make_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., World]]:
    """A world with the simulators in front of PATH; the machine's settings are the arguments."""
    with pytest.MonkeyPatch.context() as patch:
        path = os.environ["PATH"]
        put = load_file(SIMULATORS / "install.py").install

        def make(**machine: object) -> World:
            home = tmp_path_factory.mktemp("world")
            found = f"{put(home / 'bin', **machine)}:{path}"
            return World(home=home, enter=lambda: patch.setenv("PATH", found))

        yield make
