"""Artifacts in use whose combination is known bad by now."""

from pathlib import Path

import pytest

from lmi_artifacts.manifest import Manifest
from lmi_artifacts.registry import Registry, open_registry
from lmi_artifacts.tree import scan_tree
from lmi_compile.affected import affected_by
from lmi_recipes.toolchain import KnownBad, Toolchain, load_toolchain

FILE = """name: mine
backend: "null"
description: a test's own
versions: {}
serves: {contract: any}
known_bad:
  - {what: words only, why: w, source: s}
  - what: batch 8 in float16
    why: wrong answers
    source: measured
    when: {shapes.max_batch_size: [8, 16], dtype: [float16]}
    instead: dtype=bfloat16
"""


@pytest.fixture
def toolchain(tmp_path: Path) -> Toolchain:
    (tmp_path / "toolchains").mkdir()
    (tmp_path / "toolchains" / "mine.yaml").write_text(FILE, encoding="utf-8")
    return load_toolchain("mine", [tmp_path / "toolchains"])


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(str(tmp_path / "registry"))


def publish(
    registry: Registry, tmp_path: Path, name: str, *, batch: int, tags: tuple[str, ...] = ("prod",)
) -> str:
    tree = tmp_path / name
    tree.mkdir()
    (tree / "serving.properties").write_text(f"engine=Python\n#{name}\n")
    recipe = {"dtype": "float16", "shapes": {"max_batch_size": batch}}
    manifest = Manifest(
        name=name, recipe=recipe, toolchain={"name": "mine"}, build_key="0" * 64, steps={},
        serving={}, licence=None, simulated=False, files=scan_tree(tree),
    )  # fmt: skip
    return str(registry.publish(tree, manifest, tags=tags).ref)


def test_tagged_artifacts_of_a_bad_combination_come_with_the_way_around(
    registry: Registry, tmp_path: Path, toolchain: Toolchain
) -> None:
    bad = publish(registry, tmp_path, "bad", batch=8)
    publish(registry, tmp_path, "good", batch=1)
    publish(registry, tmp_path, "unused", batch=8, tags=())
    (found,) = affected_by(registry, toolchain)
    assert (str(found.ref), found.tags) == (bad, ("prod",))
    expected = "lmi-compile matrix RECIPES --select name=bad --set dtype=bfloat16 --registry "
    assert found.command == expected + registry.url


def test_what_was_taken_back_already_is_not_named_again(
    registry: Registry, tmp_path: Path, toolchain: Toolchain
) -> None:
    ref = registry.resolve(publish(registry, tmp_path, "bad", batch=16))
    registry.mark_revoked(ref, "wrong")
    assert affected_by(registry, toolchain) == ()


def test_a_note_for_people_holds_for_nothing() -> None:
    assert not KnownBad(what="w", why="w", source="s").holds_for({"dtype": "float16"})
