"""The manifest: identity, strict reading, safe paths."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmi_artifacts.digest import JSONValue, canonical_json, digest_bytes
from lmi_artifacts.errors import ArtifactRefused, PackageInvalid
from lmi_artifacts.manifest import Manifest, ManifestFile
from lmi_artifacts.paths import path_problem, set_problems

SHA = "a" * 64


def _json(files: list[dict[str, JSONValue]] | None = None, **changes: JSONValue) -> bytes:
    one: dict[str, JSONValue] = {"path": "f", "size": 1, "sha256": SHA, "executable": False}
    value: dict[str, JSONValue] = {
        "format_version": 1, "name": "n", "recipe": {}, "toolchain": {}, "build_key": "k",
        "steps": {}, "serving": {}, "licence": None, "simulated": False,
        "files": [one] if files is None else [one | file for file in files],
    }  # fmt: skip
    return canonical_json(value | changes)


def _problems(data: bytes) -> str:
    with pytest.raises(ArtifactRefused) as caught:
        Manifest.parse(data)
    return "\n".join(caught.value.problems)


def test_reads_back_and_its_digest_is_that_of_its_bytes(manifest: Manifest) -> None:
    data = manifest.to_bytes()
    assert Manifest.parse(data) == manifest
    assert manifest.digest == digest_bytes(data)
    assert canonical_json(json.loads(data)) == data


def test_every_field_is_part_of_the_identity(
    tree: Path, manifest: Manifest, manifest_of: Callable[..., Manifest]
) -> None:
    changes: list[dict[str, object]] = [
        {"name": "other"}, {"recipe": {}}, {"toolchain": {}}, {"build_key": "x"}, {"steps": {}},
        {"serving": {}}, {"licence": {"id": "mit"}}, {"simulated": True},
    ]  # fmt: skip
    others = [manifest_of(tree, **change).digest for change in changes]
    (tree / "model.py").chmod(0o755)
    others.append(manifest_of(tree).digest)
    assert len({manifest.digest, *others}) == len(changes) + 2


def test_every_problem_is_named_at_once() -> None:
    data = _json(
        [{"path": "../x", "size": -1, "sha256": 5, "extra": 1}, {"path": "b", "executable": 1}],
        name=3, build_key="", steps={"a": 1}, simulated="no", licence=[], more=1,
    )  # fmt: skip
    found = _problems(data)
    for part in (
        "more: unknown field", "name: expected text", "build_key: expected text that is not empty",
        "steps.a: expected text", "simulated: expected true or false", "licence: expected an obj",
        "files[0].extra: unknown field", "files[0].size: expected a whole number",
        "files[0].sha256: expected text", "files[1].executable: expected true or false",
    ):  # fmt: skip
        assert part in found


def test_missing_fields_are_named() -> None:
    found = _problems(b'{"format_version":1}')
    assert "recipe: missing" in found
    assert "files: missing" in found


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"[]", "expected an object"),
        (b"{}", "format_version: missing"),
        (_json(format_version=3), "format_version 3 is unknown; this program reads 1 and 2"),
        (_json(format_version=0), "format_version 0 is unknown"),
        (_json(format_version=True), "format_version: expected"),
        (_json(format_version=2), "files[0].blake3: missing"),
        (_json(format_version=2, files=[{"blake3": "A" * 64}]), "files[0].blake3: is not 64"),
        (_json(files=[{"blake3": SHA}]), "files[0].blake3: unknown field"),
        (_json(format_version="1"), "format_version: expected"),
        (_json() + b"\n", "canonical"),
        (b"\x1f\x8b", "utf-8"),
        (_json(name="a/b"), "does not fit"),
        (_json(name="-a"), "does not fit"),
        (_json(files=[{"sha256": "A" * 64}]), "64 lower-case"),
        (_json(files=[{"size": 2**60}]), "whole number from 0 to"),
        (_json(files=[{"size": True}]), "whole number"),
        (_json(files=[{"size": 1.0}]), "whole number"),
        (_json(files=[{"path": "b"}, {"path": "a"}]), "not sorted"),
        (_json(files=[{"path": "a"}, {"path": "a"}]), "is there twice"),
        (_json(files=[{"path": "A/x"}, {"path": "a/y"}]), "by case alone"),
        (_json(files=[{"path": "a"}, {"path": "a/b"}]), "is a file and a folder"),
    ],
)
def test_strange_manifests_are_refused(data: bytes, part: str) -> None:
    assert part in _problems(data)


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "..", "a/../b", "a//b", "a/", "./a", "a\\b", "a\0b", "a\nb", "e\u0301",
     "x" * 256, "a/" * 450 + "a", "\udcff", "lmi-artifact.json", "LMI-Artifact.JSON"],
)  # fmt: skip
def test_unsafe_paths_are_problems(path: str) -> None:
    assert path_problem(path) is not None


@pytest.mark.parametrize("path", ["a", "a/b.c", "é", "a b", "sub/lmi-artifact.json", "...", "-x"])
def test_harmless_paths_are_not(path: str) -> None:
    assert path_problem(path) is None


@given(st.lists(st.text("aAbß/", min_size=1, max_size=5), unique=True, max_size=6))
def test_paths_that_fold_together_are_found(paths: list[str]) -> None:
    files = [path for path in paths if path_problem(path) is None]
    prefixes = {
        "/".join(path.split("/")[:depth])
        for path in files
        for depth in range(1, path.count("/") + 2)
    }
    clash = len({prefix.casefold() for prefix in prefixes}) < len(prefixes)
    nested = any(other.startswith(path + "/") for path in files for other in files)
    assert bool(set_problems(files)) == (clash or nested)


def test_a_manifest_nobody_would_accept_is_never_written(manifest: Manifest) -> None:
    bad = ManifestFile(path="../x", size=1, sha256=SHA, blake3=SHA)
    with pytest.raises(PackageInvalid, match="segment"):
        replace(manifest, files=(bad,)).to_bytes()
    with pytest.raises(PackageInvalid, match="JSON has no nan"):
        replace(manifest, recipe={"x": float("nan")}).to_bytes()
    with pytest.raises(PackageInvalid, match="key must be text"):
        replace(manifest, recipe={1: 2}).to_bytes()  # type: ignore[dict-item]
