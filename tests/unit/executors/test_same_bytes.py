"""The same recipe and toolchain give the same keys and bytes on the host and in a container."""

from pathlib import Path

import pytest
from dockerd import Engine, host_mounts
from flows import (
    build,
    container_flags,
    same_where_it_counts,
    toolchain_with_image,
)

SIMULATORS = Path(__file__).parents[2] / "simulators"
IMAGE = "lmi-test/host:latest"
pytestmark = pytest.mark.slow


def test_null(engine: Engine, image_id: str, tmp_path: Path) -> None:
    name = toolchain_with_image(tmp_path / "toolchains", "null", IMAGE, image_id)
    arguments = ["--toolchains", tmp_path / "toolchains", "--set", f"toolchain={name}"]
    here = build(tmp_path / "home", "null-demo", *arguments)
    flags = container_flags(host_mounts())
    there = build(tmp_path / "home", "null-demo", *arguments, *flags, DOCKER_HOST=engine.url)
    same_where_it_counts(here, there, measured=("proof",))
    assert here.ran["compile"] == {"executor": "local"}
    assert there.ran["compile"] == {
        "executor": "container",
        "image": image_id,
        "digests": [image_id],
    }
    assert there.ran["model"] == {"executor": "local"}
    assert engine.names() == []
