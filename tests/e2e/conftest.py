"""The command with a home of its own, and the two models that flows are built on."""

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from lmi import Lmi, SmolLM2, Tiny

_TINY = Path(__file__).parents[1] / "fixtures" / "tiny_llama.py"
_SPEC = importlib.util.spec_from_file_location("tiny_llama", _TINY)
assert _SPEC
assert _SPEC.loader
tiny_llama = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny_llama)


@pytest.fixture
def lmi(tmp_path: Path) -> Lmi:
    return Lmi(home=tmp_path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A random two-layer Llama, built once: its cache holds the compiled graphs."""
    return Tiny.build(tmp_path_factory.mktemp("tiny"), tiny_llama.make_tiny_llama)


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> SmolLM2:
    """SmolLM2-135M-Instruct through the whole flow, once per run; minutes."""
    return SmolLM2.build(tmp_path_factory.mktemp("smollm2"))
