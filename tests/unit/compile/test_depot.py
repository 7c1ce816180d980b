"""Outputs of steps in a registry: every byte comes back or nothing does."""

import json
import os
from pathlib import Path

import pytest

from lmi_artifacts.registry import open_registry
from lmi_compile import depot as module
from lmi_compile.depot import Depot
from lmi_compile.errors import EnvironmentFault

KEY = "ab" * 32


@pytest.fixture
def depot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Depot:
    monkeypatch.setattr(module, "_PIECE", 1000)  # several pieces
    return Depot(str(tmp_path / "registry"))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    out = tmp_path / "made"
    (out / "graphs" / "A b").mkdir(parents=True)
    (out / "weights").write_bytes(os.urandom(3500))
    (out / "graphs" / "A b" / "empty").touch()
    (out / "graphs" / "model.so").write_bytes(b"code")
    (out / "graphs" / "model.so").chmod(0o755)
    (out / "same").symlink_to("weights")
    return out


def empty(tmp_path: Path, name: str = "out") -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def contents(out: Path) -> dict[str, tuple[bytes, bool]]:
    return {
        str(path.relative_to(out)): (path.read_bytes(), os.access(path, os.X_OK))
        for path in out.rglob("*")
        if path.is_file()
    }


def pieces(tmp_path: Path) -> list[Path]:
    kept = tmp_path / "registry" / "records" / "steps" / KEY
    return [path for path in kept.iterdir() if path.name != "index.json"]


def test_a_tree_comes_back_as_it_was(depot: Depot, made: Path, tmp_path: Path) -> None:
    out = empty(tmp_path)
    assert not depot.has(KEY)
    assert not depot.get(KEY, out)
    assert depot.put(KEY, made)
    assert depot.has(KEY)
    assert depot.get(KEY, out)
    assert contents(out) == contents(made)
    assert len(pieces(tmp_path)) == 5  # what is there twice is kept once


@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a_piece_that_is_lost_or_damaged_is_brought_again(
    depot: Depot, made: Path, tmp_path: Path, how: str
) -> None:
    depot.put(KEY, made)
    piece = pieces(tmp_path)[0]
    piece.unlink()
    if how == "damaged":
        piece.write_bytes(b"something else")
    out = empty(tmp_path)
    assert not depot.get(KEY, out)
    assert list(out.iterdir()) == []
    assert not depot.has(KEY)
    assert depot.put(KEY, made)
    assert depot.get(KEY, out)
    assert contents(out) == contents(made)


def test_who_is_second_with_other_bytes_is_told(depot: Depot, made: Path, tmp_path: Path) -> None:
    first = contents(made)
    depot.put(KEY, made)
    assert depot.put(KEY, made)
    (made / "graphs" / "model.so").write_bytes(b"others")
    assert not depot.put(KEY, made)
    out = empty(tmp_path)
    assert depot.get(KEY, out)
    assert contents(out) == first


@pytest.mark.parametrize("name", ["../out2", "/etc/passwd", "a/../../b"])
def test_a_forged_list_writes_nowhere_else(depot: Depot, tmp_path: Path, name: str) -> None:
    index = json.dumps({"files": [[name, [], False]]}).encode()
    open_registry(str(tmp_path / "registry")).add_record(f"steps/{KEY}/index.json", index)
    with pytest.raises(EnvironmentFault, match="holds no list of files"):
        depot.get(KEY, empty(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"registry", "out"}


def test_a_registry_that_cannot_be_written_is_said(made: Path, tmp_path: Path) -> None:
    (tmp_path / "registry").touch()
    with pytest.raises(EnvironmentFault, match="cannot travel through") as caught:
        Depot(str(tmp_path / "registry")).put(KEY, made)
    assert "every node needs" in caught.value.fix
