"""Golden outputs travel through a registry, and every byte is verified on the way back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lmi_artifacts.registry import Registry, open_registry
from lmi_compile import golden
from lmi_compile.plan import PlannedStep
from lmi_compile.step import Call, Step


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(str(tmp_path / "registry"))


@pytest.fixture
def planned() -> PlannedStep:
    step = Step(
        name="reference",
        run=Call(function="lmi_verify.reference:run"),
        outputs=("prompts.json", "outputs.safetensors"),
    )
    return PlannedStep(step=step, key="ab" * 32, ingredients={"needs": {"model": "cd"}})


@pytest.fixture
def made(tmp_path: Path) -> Path:
    out = tmp_path / "made"
    out.mkdir()
    (out / "prompts.json").write_bytes(b"{}")
    (out / "outputs.safetensors").write_bytes(bytes(range(256)) * 40)
    return out


@pytest.fixture
def fetched(
    registry: Registry, planned: PlannedStep, tmp_path: Path
) -> Callable[[], tuple[bool, dict[str, bytes], list[str]]]:
    def run() -> tuple[bool, dict[str, bytes], list[str]]:
        out = tmp_path / "fetched"
        out.mkdir()
        said: list[str] = []
        found = golden.fetch(registry, planned, out, said.append)
        return found, {path.name: path.read_bytes() for path in out.iterdir()}, said

    return run


def test_what_was_shared_is_fetched_byte_for_byte(
    registry: Registry,
    planned: PlannedStep,
    made: Path,
    fetched: Callable[[], tuple[bool, dict[str, bytes], list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(golden, "_PIECE", 1000)  # several pieces
    golden.share(registry, planned, made, pytest.fail)
    found, files, said = fetched()
    assert found
    assert files == {path.name: path.read_bytes() for path in made.iterdir()}
    assert "every byte verified" in said[0]
    assert golden.outlived(registry, {"cd"}) == ((), ())
    pieces, indexes = golden.outlived(registry, ())
    assert {*pieces, *indexes} == set(registry.records("golden/"))


def test_nothing_shared_is_no_golden(
    fetched: Callable[[], tuple[bool, dict[str, bytes], list[str]]],
) -> None:
    assert fetched() == (False, {}, [])


@pytest.mark.parametrize("damage", ["flip", "cut", "lose", "index"])
def test_a_damaged_copy_is_said_and_computed_anew(
    registry: Registry,
    planned: PlannedStep,
    made: Path,
    fetched: Callable[[], tuple[bool, dict[str, bytes], list[str]]],
    tmp_path: Path,
    damage: str,
) -> None:
    golden.share(registry, planned, made, pytest.fail)
    (piece,) = (tmp_path / "registry").rglob("outputs.safetensors.0")
    (index,) = (tmp_path / "registry").rglob("index.json")
    for path in (piece, index):
        path.chmod(0o644)
    raw = piece.read_bytes()
    match damage:
        case "flip":
            piece.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
        case "cut":
            piece.write_bytes(raw[:-1])
        case "lose":
            piece.unlink()
        case _:
            index.write_bytes(b"{")
    found, files, said = fetched()
    assert (found, files) == (False, {})
    assert said
