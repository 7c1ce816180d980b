"""One matrix of four builds on three executors: the same keys, bytes and verdicts, built once.

test_mixed_matrix.py has twelve, of four backends.
"""

import json
from collections import Counter
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A matrix's report, each step's files by key, and where steps ran by name."""

    report: Any
    files: dict[str, dict[str, str]]
    where: dict[str, Any]


def matrix(home: Path, toolchain: str, *more: str, **env: str) -> Ran:
    """Run the matrix from an empty cache."""
    home.mkdir()
    (home / "four.yaml").write_text(
        "apiVersion: lmi-compile/v1\nname: four\nmodel: {id: here}\n"
        f'backend: "null"\ntoolchain: {toolchain}\ntarget: {{cpu: x86-64-v2}}\n'
        "shapes: {max_input_len: 16, max_seq_len: 32}\n"
        "matrix: {dtype: [float32, bfloat16], shapes.max_batch_size: [1, 2]}\n",
        encoding="utf-8",
    )
    folder = str(home.parent / "toolchains")
    ended = Lmi(home=home)(
        "matrix", "four.yaml", "--json", "--jobs", "2", "--toolchains", folder, *more, **env
    )
    assert ended.code == 0, ended.err
    report = ended.json()
    assert Counter(build["state"] for build in report["builds"]) == {"built": 4}
    began = [line for line in ended.err.splitlines() if line.endswith((": model", ": compile"))]
    assert len(began) == 1 + 2  # one model, a compile for each batch size
    files, where = {}, {}
    for step in (home / "cache" / "steps").iterdir():
        record = json.loads((step / "step.json").read_bytes())
        where[record["name"]] = record["ran"]
        files[step.name] = {
            str(path.relative_to(step)): digest_bytes(path.read_bytes()).hex
            for path in sorted((step / "out").rglob("*"))
            if path.is_file() and record["name"] not in MEASURED
        }
    return Ran(report=report, files=files, where=where)


def same(one: Ran, other: Ran) -> None:
    for left, right in zip(one.report["builds"], other.report["builds"], strict=True):
        for field in ("name", "plan_key", "artifact", "decision", "figures"):
            assert left[field] == right[field], field
    assert one.files == other.files


def test_four_builds_are_the_same_on_the_host_in_containers_and_on_ray(
    engine: Engine, image_id: str, tmp_path: Path
) -> None:
    name = toolchain_with_image(tmp_path / "toolchains", "null", IMAGE, image_id)
    here = matrix(tmp_path / "local", name)
    assert {ran["executor"] for ran in here.where.values()} == {"local"}
    flags = container_flags(host_mounts())
    there = matrix(tmp_path / "container", name, *flags, DOCKER_HOST=engine.url)
    assert (here.report["executor"], there.report["executor"]) == ("local", "container")
    same(here, there)
    contained = {"executor": "container", "image": image_id, "digests": [image_id]}
    assert there.where["compile"] == contained
    assert there.where["model"] == {"executor": "local"}
    assert engine.names() == []
    with ray_cluster() as cluster:
        ray = ("--executor", "ray", "--ray-address", cluster.address)
        far = matrix(tmp_path / "ray", name, *ray, **ENV)
    assert {ran["executor"] for ran in far.where.values()} == {"ray"}
    same(here, far)
