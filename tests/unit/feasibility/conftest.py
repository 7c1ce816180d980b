"""Questions, as the tests ask them."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lmi_compile.feasibility.families.find import shape_of
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.shape import Shape
from lmi_recipes.target import load_instance

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
Asker = Callable[..., Question]

LLAMA_7B = {
    "model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 32,
    "intermediate_size": 11008, "vocab_size": 32000, "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}  # fmt: skip


def known_shape(config: dict[str, Any]) -> Shape:
    shape = shape_of(config)
    assert shape is not None
    return shape


@pytest.fixture
def llama_config() -> dict[str, Any]:
    return dict(LLAMA_7B)


@pytest.fixture
def ask() -> Asker:
    """Llama 2 7B in float16 on one A10G, with whatever else is given."""

    def asked(instance: str | None = "ml.g5.2xlarge", **changes: Any) -> Question:
        config = LLAMA_7B | changes.pop("config", {})
        given: dict[str, Any] = {
            "shape": known_shape(config), "backend": "tensorrt-llm", "dtype": "float16",
            "method": "none", "kv_dtype": "auto", "tensor_parallel": 1, "pipeline_parallel": 1,
            "batch": 4, "input_len": 3072, "seq_len": 4096, "num_tokens": 4096,
            "instance": load_instance(instance) if instance else None,
        }  # fmt: skip
        return Question(**(given | changes))

    return asked


def _module(name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tables() -> ModuleType:
    """The reference tables, read as the benchmark reads them."""
    return _module("reference_tables")


@pytest.fixture(scope="session")
def error(tables: ModuleType) -> ModuleType:
    """The benchmark of the planner's error."""
    del tables
    return _module("planner_error")
