"""What a pull refuses before it fetches anything."""

from dataclasses import replace
from pathlib import Path

import pytest

from lmi_artifacts.errors import PullFailed
from lmi_artifacts.manifest import Manifest, ManifestFile
from lmi_artifacts.pulling import pull_tree


def test_what_does_not_fit_is_refused_before_the_first_byte(
    manifest: Manifest, tmp_path: Path
) -> None:
    huge = ManifestFile(path="zz", size=2**42, sha256="0" * 64, blake3="0" * 64)
    asked: list[str] = []

    def fetch(file: ManifestFile, target: Path) -> None:
        asked.append(file.path)
        target.write_bytes(b"")

    with pytest.raises(PullFailed, match=r"bytes are to come, and only \d+ are free there"):
        pull_tree(replace(manifest, files=(*manifest.files, huge)), tmp_path / "dest", fetch)
    assert not asked
    assert not (tmp_path / "dest").exists()
