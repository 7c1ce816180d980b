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


def test_the_path_is_the_same_for_every_user(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root for a container engine")
    report = tmp_path / "report"
    report.touch()
    report.chmod(0o666)
    name = f"test-{os.getpid()}"
    with fixed_scratch(name) as folder:
        mine = str(folder)
    child = os.fork()
    if child == 0:
        with report.open("w") as out:
            os.setuid(65534)
            with fixed_scratch(name) as folder:
                out.write(str(folder))
            out.flush()
            os._exit(0)
    os.waitpid(child, 0)
    assert report.read_text() == mine
