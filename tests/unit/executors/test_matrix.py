"""One matrix of twelve builds on three executors: the same keys, bytes and verdicts, built once."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from dockerd import Engine, host_mounts
from flows import container_flags, toolchain_with_image
from lmi import Lmi
from raycluster import ENV, ray_cluster

from lmi_artifacts.digest import digest_bytes

pytestmark = pytest.mark.slow
IMAGE = "lmi-test/host:latest"
MEASURED = {"proof"}  # it holds seconds


def matrix(home: Path, toolchain: str, *more: str, **env: str) -> tuple[Any, dict[str, Any]]:
    """Run the matrix from an empty cache; gives its report, and each step's files by key."""
    home.mkdir()
    (home / "twelve.yaml").write_text(
        "apiVersion: lmi-compile/v1\nname: twelve\nmodel: {id: here}\n"
        f'backend: "null"\ntoolchain: {toolchain}\ntarget: {{cpu: x86-64-v2}}\n'
        "shapes: {max_input_len: 16, max_seq_len: 32}\n"
        "matrix: {dtype: [float32, float16, bfloat16], shapes.max_batch_size: [1, 2, 3, 4]}\n",
        encoding="utf-8",
    )
    folder = str(home.parent / "toolchains")
    ended = Lmi(home=home)(
        "matrix", "twelve.yaml", "--json", "--jobs", "2", "--toolchains", folder, *more, **env
    )
    assert ended.code == 0, ended.err
    report = ended.json()
    assert Counter(build["state"] for build in report["builds"]) == {"built": 12}
    began = [line for line in ended.err.splitlines() if line.endswith((": model", ": compile"))]
    assert len(began) == 1 + 4  # one model, a compile for each batch size
    return report, _files(home / "cache" / "steps")


def _files(steps: Path) -> dict[str, Any]:
    found = {}
    for step in steps.iterdir():
        if json.loads((step / "step.json").read_bytes())["name"] in MEASURED:
            found[step.name] = None
            continue
        found[step.name] = {
            str(path.relative_to(step)): digest_bytes(path.read_bytes()).hex
            for path in sorted((step / "out").rglob("*"))
            if path.is_file()
        }
    return found


def same(one: Any, other: Any) -> None:
    for left, right in zip(one["builds"], other["builds"], strict=True):
        for field in ("name", "plan_key", "artifact", "decision", "figures"):
            assert left[field] == right[field], field


def test_twelve_builds_are_the_same_on_the_host_in_containers_and_on_ray(
    engine: Engine, image_id: str, tmp_path: Path
) -> None:
    name = toolchain_with_image(tmp_path / "toolchains", "null", IMAGE, image_id)
    here, files = matrix(tmp_path / "local", name)
    flags = container_flags(host_mounts())
    there, container_files = matrix(tmp_path / "container", name, *flags, DOCKER_HOST=engine.url)
    assert (here["executor"], there["executor"]) == ("local", "container")
    same(here, there)
    assert container_files == files
    with ray_cluster() as cluster:
        ray = ("--executor", "ray", "--ray-address", cluster.address)
        far, ray_files = matrix(tmp_path / "ray", name, *ray, **ENV)
    same(here, far)
    assert ray_files == files
    assert engine.names() == []
