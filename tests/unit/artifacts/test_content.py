"""A file's digests: every flipped byte shows, whichever of them is computed."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lmi_artifacts import content
from lmi_artifacts.content import Checked, check_file, describe_file
from lmi_artifacts.errors import PackageInvalid
from lmi_artifacts.manifest import Manifest, ManifestFile
from lmi_artifacts.registry import open_registry
from lmi_artifacts.tree import read_manifest

# https://github.com/BLAKE3-team/BLAKE3/blob/master/test_vectors/test_vectors.json, input lengths
# 0 and 3; the input is 0, 1, 2, ...
EMPTY = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
THREE = "e1be4d7a8ab5560aa4199eea339849ba8e293d55ca0a81006726d184519e647f"

Kind = Callable[[ManifestFile], tuple[ManifestFile, bool]]


@pytest.fixture(params=["blake3", "format 1", "library missing", "fully"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kind:
    """Gives the file to check, and whether fully: the four ways to check a content."""

    def of(file: ManifestFile) -> tuple[ManifestFile, bool]:
        match request.param:
            case "format 1":
                return replace(file, blake3=None), False
            case "library missing":
                monkeypatch.setattr(content, "blake3_hash", lambda: None)
        return file, request.param == "fully"

    return of


def _problem(file: ManifestFile, data: bytes, *, fully: bool = False) -> str | None:
    checked = Checked(file, fully=fully)
    for start in range(0, len(data), 700):
        checked.update(memoryview(data)[start : start + 700])
    return checked.problem()


def test_a_file_is_described_by_published_vectors(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    assert describe_file(tmp_path / "f", "f", executable=False).blake3 == EMPTY
    (tmp_path / "f").write_bytes(bytes(range(3)))
    assert describe_file(tmp_path / "f", "f", executable=False).blake3 == THREE


def test_every_flipped_byte_shows(tmp_path: Path, kind: Kind) -> None:
    data = os.urandom(3000)
    (tmp_path / "f").write_bytes(data)
    file, fully = kind(describe_file(tmp_path / "f", "f", executable=False))
    assert _problem(file, data, fully=fully) is None
    assert check_file(tmp_path / "f", file, fully=fully) is None
    for place in range(len(data)):
        bad = bytearray(data)
        bad[place] ^= 1 << place % 8
        assert "differs" in str(_problem(file, bytes(bad), fully=fully))
    assert "3000 bytes" in str(_problem(file, data[:-1], fully=fully))
    assert "3000 bytes" in str(_problem(file, data + b"\0", fully=fully))
    (tmp_path / "f").write_bytes(bytes(bad))
    assert "differs" in str(check_file(tmp_path / "f", file, fully=fully))


def test_digests_of_two_contents_pass_no_full_check(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"one")
    one = describe_file(tmp_path / "f", "f", executable=False)
    (tmp_path / "f").write_bytes(b"two")
    two = describe_file(tmp_path / "f", "f", executable=False)
    torn = replace(one, blake3=two.blake3)
    assert "blake3 differs" in str(_problem(torn, b"one", fully=True))
    assert "sha256 differs" in str(_problem(torn, b"two", fully=True))


def test_nothing_is_sealed_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_bytes(b"")
    monkeypatch.setattr(content, "blake3_hash", lambda: None)
    with pytest.raises(PackageInvalid, match="pip install blake3"):
        describe_file(tmp_path / "f", "f", executable=False)


def test_an_artifact_is_pulled_and_verified_without_the_library(
    tree: Path, manifest: Manifest, tmp_path: Path
) -> None:
    registry = open_registry(str(tmp_path / "registry"))
    ref = registry.publish(tree, manifest, layouts=["tar.gz"]).ref
    program = (
        "import sys, pathlib\n"
        "sys.modules['blake3'] = None\n"
        "from lmi_artifacts.registry import open_registry\n"
        "registry = open_registry(sys.argv[1])\n"
        "ref = registry.resolve(sys.argv[2])\n"
        "registry.pull(ref, pathlib.Path(sys.argv[3]))\n"
        "registry.pull(ref, pathlib.Path(sys.argv[3] + '.tar.gz'), layout='tar.gz')\n"
        "registry.check(ref, rehash=True)\n"
        "stored = pathlib.Path(registry.location(ref), 'model.py')\n"
        "stored.write_bytes(stored.read_bytes().replace(b'None', b'none'))\n"
        "try:\n"
        "    registry.pull(ref, pathlib.Path(sys.argv[3] + '2'))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, 'sha256 differs' in str(error))\n"
    )
    arguments = [str(tmp_path / "registry"), str(ref), str(tmp_path / "pulled")]
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "ArtifactRefused True\n"
    assert read_manifest(tmp_path / "pulled") == manifest
