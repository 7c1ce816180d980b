"""A published artifact, as a deployment needs one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lmi_artifacts.directory import FolderRegistry
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.statement import NO_JIT_PROOF, VERDICT, Statement
from lmi_artifacts.tree import scan_tree

ROLE = "arn:aws:iam::123456789012:role/sagemaker"
IMAGE = "djl-inference:0.33.0-tensorrtllm0.21.0-cu128"


def statements(manifest: Manifest, seconds: float = 2.0) -> tuple[Statement, ...]:
    said = {
        VERDICT: {"decision": "ACCEPT"},
        NO_JIT_PROOF: {"decision": "PROVEN", "plain": {"seconds_to_ready": seconds}},
    }
    return tuple(
        Statement(
            name=manifest.name, subject=manifest.digest, predicate_type=kind, predicate=predicate
        )
        for kind, predicate in said.items()
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "serving.properties").write_bytes(b"engine=Python\n")
    (root / "weights.safetensors").write_bytes(bytes(range(256)) * 40)
    return root


@pytest.fixture
def make_manifest(tree: Path) -> Callable[..., Manifest]:
    def make(**changes: object) -> Manifest:
        fields: dict[str, object] = {
            "name": "tiny-llama",
            "recipe": {"model": {"id": "tiny"}},
            "toolchain": {"name": "builtin"},
            "build_key": "b" * 64,
            "steps": {"make": "c" * 64},
            "serving": {
                "container": {"images": [{"reference": IMAGE}]},
                "hardware": {"sm": 86, "gpu": "A10G", "gpus": 4},
            },
            "licence": None,
            "simulated": False,
        } | changes
        return Manifest(files=scan_tree(tree), **fields)  # type: ignore[arg-type]

    return make


@pytest.fixture
def manifest(make_manifest: Callable[..., Manifest]) -> Manifest:
    return make_manifest()


@pytest.fixture
def ref(manifest: Manifest) -> ArtifactRef:
    return ArtifactRef(name=manifest.name, digest=manifest.digest)


@pytest.fixture
def registry(tmp_path: Path, tree: Path, manifest: Manifest) -> FolderRegistry:
    made = FolderRegistry(tmp_path / "registry")
    made.publish(tree, manifest, statements=statements(manifest))
    return made
