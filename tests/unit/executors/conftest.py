"""A real container engine, started once, and an image that borrows this host's Python."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from dockerd import Engine, dockerd, host_mounts, missing

from lmi_compile.executors.container import Containers
from lmi_compile.workspace import Staging, Workspace

IMAGE = "lmi-test/host"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    why = missing()
    if why:
        pytest.skip(why)
    with dockerd() as running:
        yield running


@pytest.fixture(scope="session")
def image_id(engine: Engine) -> str:
    return engine.make_image(IMAGE)


@pytest.fixture
def containers(
    engine: Engine, image_id: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Containers]:
    """The executor on that engine; nothing is left of it."""
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    made = Containers(image=f"{IMAGE}@{image_id}", mounts=tuple(host_mounts()))
    yield made
    if made._client is not None:
        made._client.close()
    assert engine.names() == []


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Workspace(tmp_path / "cache").stage("a" * 64)
