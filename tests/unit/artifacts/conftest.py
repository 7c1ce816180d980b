"""A small tree and its manifest, as every test here needs one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lmi_artifacts.manifest import Manifest
from lmi_artifacts.tree import scan_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "graphs" / "decode").mkdir(parents=True)
    (root / "serving.properties").write_bytes(b"engine=Python\n")
    (root / "model.py").write_bytes(b"def handle(inputs):\n    return None\n")
    (root / "weights.safetensors").write_bytes(bytes(range(256)) * 40)
    (root / "graphs" / "decode" / "graph.so").write_bytes(b"\x7fELF" + b"\1" * 1020)
    (root / "graphs" / "decode" / "graph.so").chmod(0o755)
    (root / "empty.txt").write_bytes(b"")
    return root


@pytest.fixture
def manifest_of() -> Callable[..., Manifest]:
    def make(tree: Path, **changes: object) -> Manifest:
        fields: dict[str, object] = {
            "name": "tiny",
            "recipe": {"backend": "null", "shapes": {"max_batch_size": 1}},
            "toolchain": {"name": "builtin"},
            "build_key": "b" * 64,
            "steps": {"make": "c" * 64},
            "serving": {"contract": "djl-python"},
            "licence": None,
            "simulated": False,
        } | changes
        return Manifest(files=scan_tree(tree), **fields)  # type: ignore[arg-type]

    return make


@pytest.fixture
def manifest(tree: Path, manifest_of: Callable[..., Manifest]) -> Manifest:
    return manifest_of(tree)
