"""Plans of the catalogue, and the simulators' modules on the path."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lmi_compile.plan import Plan, make_plan
from lmi_compile.survey import load, survey
from lmi_recipes.catalog import find_recipe


@pytest.fixture(scope="session")
def plan_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Plan]:
    """Plans a catalogue recipe, with overrides."""
    cache = tmp_path_factory.mktemp("cache")

    def plan(name: str, *overrides: str) -> Plan:
        return make_plan(survey(load(name, overrides), cache))

    return plan


@pytest.fixture
def hf_model(tmp_path: Path) -> Callable[[str], Path]:
    """A directory with a vendored config and a tokenizer's files, and no weights."""

    def make(config: str) -> Path:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        source = find_recipe("null-demo").parent / "configs" / config
        (folder / "config.json").write_bytes(source.read_bytes())
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            (folder / name).write_text("{}", encoding="utf-8")
        return folder

    return make
