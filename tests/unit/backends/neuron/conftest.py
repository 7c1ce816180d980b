"""Plans of the catalogue, and the simulators on a PATH of their own."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from lmi_compile.plan import Plan, make_plan
from lmi_compile.survey import load, survey

SIMULATORS = Path(__file__).parents[3] / "simulators" / "neuron"
FIXTURES = Path(__file__).parents[3] / "fixtures"
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
