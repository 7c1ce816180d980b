"""Neuron's compile cache: keys that are recomputed, and entries that would be no hit."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lmi_artifacts.neuron_cache import cache_problems, entries, flags_keys


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (["--target=trn1"], "e30acd3a"),
        (["--model-type=transformer", "--auto-cast=none"], "2c2d707e"),
        (["--model-type=transformer"], "abb26765"),
        ([], "d41d8cd9"),
    ],
)
def test_keys_of_published_entries_are_recomputed(flags: list[str], key: str) -> None:
    """From public logs (2.22.12471.0, 2.14.227.0, 2.8.0.25) and the SDK's own documents."""
    assert key in flags_keys(json.dumps(flags))


def test_other_flags_have_other_keys() -> None:
    assert "e30acd3a" not in flags_keys('["--target=trn2"]')
    assert flags_keys("no json") == flags_keys("{}") == frozenset()


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    folder = tmp_path / "neuronxcc-2.22.12471.0+b4a00d10" / "MODULE_5318517502296525832+e30acd3a"
    folder.mkdir(parents=True)
    (folder / "compile_flags.json").write_text('["--target=trn1"]')
    for name in ("model.hlo_module.pb", "model.neff", "model.done"):
        (folder / name).write_bytes(b"")
    return folder


def _fail(folder: Path) -> None:
    (folder / "model.log").write_text("failed")


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (_fail, "failed or locked"),
    (lambda folder: (folder / "model.hlo_module.pb.lock").touch(), "failed or locked"),
    (lambda folder: (folder / "model.done").unlink(), "model.done is missing"),
    (lambda folder: (folder / "model.neff").unlink(), "model.neff is missing"),
    (lambda folder: (folder / "compile_flags.json").unlink(), "cannot be recomputed"),
    (lambda folder: (folder / "compile_flags.json").write_text("[]"), "would not be found"),
    (lambda folder: folder.rename(folder.with_name("MODULE_x")), "it is not named MODULE_"),
    (lambda folder: folder.parent.rename(folder.parents[1] / "gcc"), "gcc is no neuronxcc-"),
]


def test_a_whole_entry_is_a_hit(entry: Path) -> None:
    assert tuple(cache_problems(entry.parents[1])) == ()
    (found,) = entries(entry.parents[1])
    assert found.saved_name == "e3b0c44298fc1c149afb.neff"  # SHA-256 of the graph's bytes
    (entry / "model.hlo_module.pb").unlink()
    assert found.saved_name is None


@pytest.mark.parametrize(("damage", "words"), DAMAGE, ids=[words for _, words in DAMAGE])
def test_what_would_be_no_hit_is_named(
    entry: Path, damage: Callable[[Path], object], words: str
) -> None:
    damage(entry)
    assert any(words in problem for problem in cache_problems(entry.parents[1]))


def test_two_compilers_do_not_share_a_cache(entry: Path) -> None:
    other = entry.parents[1] / "neuronxcc-2.23.6484.0+abc"
    entry.parent.rename(other)
    (entry.parent / "MODULE_1+d41d8cd9").mkdir(parents=True)
    assert any("no entry of another" in problem for problem in cache_problems(entry.parents[1]))
