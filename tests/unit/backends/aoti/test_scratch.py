"""The folder that is compiled in: one path, whatever the build's own directories are."""

import os
import tempfile
from pathlib import Path

import pytest

from lmi_compile.backends.aoti.scratch import fixed_scratch


def test_the_path_follows_neither_tmpdir_nor_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setenv("TMPDIR", str(tmp_path / name))
        monkeypatch.setattr(tempfile, "tempdir", None)
        with fixed_scratch(f"test-{os.getpid()}") as folder:
            assert list(folder.glob("*.txt")) == []
            (folder / "left.txt").write_text("", encoding="utf-8")
            assert Path(tempfile.gettempdir()).is_relative_to(folder)
            seen.append(folder)
        assert not folder.exists()
        assert tempfile.gettempdir() == str(tmp_path / name)
    assert seen[0] == seen[1]
