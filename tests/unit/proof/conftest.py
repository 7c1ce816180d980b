"""Small served trees, and the question whether this machine lets a child be watched at all."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lmi_compile.proof.prove import prove

TreeMaker = Callable[..., Path]

_PROPERTIES = (
    "engine=Python\n"
    "option.entryPoint=model.py\n"
    "option.rolling_batch=disable\n"
    "option.async_mode=false\n"
    "minWorkers=1\n"
    "maxWorkers=1\n"
)
CLEAN = "answer = 'Paris'"


@pytest.fixture
def make_tree(tmp_path: Path) -> TreeMaker:
    """Makes a tree whose handler runs `body` on each real request, then answers `answer`."""

    def make(body: str = CLEAN, *, head: str = "", name: str = "tree") -> Path:
        tree = tmp_path / name
        tree.mkdir()
        (tree / "serving.properties").write_text(_PROPERTIES)
        lines = [
            head,
            "from djl_python import Input, Output",
            "def handle(inputs):",
            "    if inputs.is_empty():",
            "        return None",
            "    request = inputs.get_as_json()",
            *(f"    {line}" for line in body.splitlines()),
            "    return Output().add_as_json({'generated_text': answer})",
        ]
        (tree / "model.py").write_text("\n".join(lines) + "\n")
        return tree

    return make


@pytest.fixture(scope="session")
def watchable(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where no child can be sealed and watched; in CI that is a failure instead."""
    tree = tmp_path_factory.mktemp("watchable")
    (tree / "model.py").write_text("def handle(inputs):\n    return None\n")
    proof = prove(tree, timeout_seconds=60)
    if proof.decision == "SKIPPED":
        if os.environ.get("CI"):
            pytest.fail(proof.line())
        pytest.skip(proof.line())
