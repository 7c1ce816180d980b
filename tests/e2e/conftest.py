"""The command with a home of its own, and the two models that flows are built on."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lmi import Lmi, SmolLM2, Tiny
from once import once
from s3servers import Server, seaweed


@pytest.fixture
def lmi(tmp_path: Path) -> Lmi:
    return Lmi(home=tmp_path)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A real S3 server."""
    with seaweed() as running:
        yield running


@pytest.fixture(scope="session")
def tiny(make_tiny_llama: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A random two-layer Llama, built once: its cache holds the compiled graphs."""
    return once(tmp_path_factory, "tiny", lambda home: Tiny.build(home, make_tiny_llama))


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> SmolLM2:
    """SmolLM2-135M-Instruct through the whole flow, once per run; minutes."""
    return once(tmp_path_factory, "smollm2", SmolLM2.build)
