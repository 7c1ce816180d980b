"""Trees on disk against manifests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lmi_artifacts.digest import digest_bytes
from lmi_artifacts.errors import ArtifactRefused, PackageInvalid
from lmi_artifacts.manifest import Manifest, ManifestFile
from lmi_artifacts.tree import (
    check_tree,
    copy_file,
    read_manifest,
    scan_tree,
    write_manifest,
)


def test_scan_lists_sorted_and_leaves_the_manifest_out(tree: Path, manifest: Manifest) -> None:
    write_manifest(tree, manifest)
    files = scan_tree(tree)
    assert [file.path for file in files] == [
        "empty.txt", "graphs/decode/graph.so", "model.py", "serving.properties",
        "weights.safetensors",
    ]  # fmt: skip
    assert [file.path for file in files if file.executable] == ["graphs/decode/graph.so"]
    assert files[-1].sha256 == digest_bytes(bytes(range(256)) * 40).hex
    assert read_manifest(tree) == manifest


def test_scan_refuses_what_no_artifact_may_hold(tree: Path) -> None:
    (tree / "link").symlink_to("model.py")
    (tree / "folder-link").symlink_to("graphs")
    os.mkfifo(tree / "pipe")
    (tree / "hollow").mkdir()
    (tree / "back\\slash").write_bytes(b"")
    (tree / "MODEL.py").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(tree) + b"/\xff")).write_bytes(b"")
    with pytest.raises(PackageInvalid) as caught:
        scan_tree(tree)
    found = "\n".join(caught.value.problems)
    for part in (
        "'link': is a link", "'folder-link': is a link", "'pipe': is neither", "'hollow': an empty",
        "backslash", "by case alone", "not UTF-8",
    ):  # fmt: skip
        assert part in found


def test_scan_refuses_an_empty_tree(tmp_path: Path) -> None:
    with pytest.raises(PackageInvalid, match="holds no files"):
        scan_tree(tmp_path)


def test_check_names_every_difference(tree: Path, manifest: Manifest) -> None:
    check_tree(tree, manifest, rehash=True)
    (tree / "empty.txt").unlink()
    (tree / "model.py").write_bytes(b"shorter")
    weights = bytearray((tree / "weights.safetensors").read_bytes())
    weights[77] ^= 1
    (tree / "weights.safetensors").write_bytes(weights)
    (tree / "graphs" / "decode" / "graph.so").chmod(0o644)
    (tree / "extra").write_bytes(b"")
    with pytest.raises(ArtifactRefused) as caught:
        check_tree(tree, manifest, rehash=True)
    assert sorted(caught.value.problems) == [
        "'empty.txt': is missing",
        "'extra': is not in the manifest",
        "'graphs/decode/graph.so': should be executable",
        "'model.py': has 7 bytes, not 36",
        "'weights.safetensors': has another content than the manifest says (blake3 differs)",
    ]


def test_check_without_rehash_reads_no_content(tree: Path, manifest: Manifest) -> None:
    content = bytearray((tree / "weights.safetensors").read_bytes())
    content[0] ^= 1
    (tree / "weights.safetensors").write_bytes(content)
    check_tree(tree, manifest, rehash=False)
    with pytest.raises(ArtifactRefused, match="blake3 differs"):
        check_tree(tree, manifest, rehash=True)


def test_check_refuses_another_manifest_inside(
    tree: Path, manifest: Manifest, manifest_of: Callable[..., Manifest]
) -> None:
    write_manifest(tree, manifest_of(tree, name="other"))
    with pytest.raises(ArtifactRefused, match="another manifest"):
        check_tree(tree, manifest, rehash=False)


def test_check_of_nothing(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(ArtifactRefused, match="no such folder"):
        check_tree(tmp_path / "none", manifest, rehash=False)
    with pytest.raises(ArtifactRefused, match="not an artifact"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"abcd", b"ab", b"abd"])
def test_copy_refuses_other_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "source").write_bytes(content)
    file = ManifestFile(path="f", size=3, sha256=digest_bytes(b"abc").hex)
    with pytest.raises(ArtifactRefused):
        copy_file(tmp_path / "source", tmp_path / "copy", file)


def test_copy_follows_no_link_and_sets_the_mode(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("source")
    file = ManifestFile(path="f", size=3, sha256=digest_bytes(b"abc").hex, executable=True)
    with pytest.raises(ArtifactRefused, match="cannot be read"):
        copy_file(tmp_path / "link", tmp_path / "copy", file)
    copy_file(tmp_path / "source", tmp_path / "copy", file)
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "copy").read_bytes() == b"abc"
