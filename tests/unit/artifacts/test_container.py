"""Finished trees against DJL Serving's Python contract."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lmi_artifacts.container import RULES
from lmi_artifacts.properties import format_properties

GOOD = {
    "engine": "Python",
    "option.entryPoint": "model.py",
    "option.rolling_batch": "disable",
    "option.async_mode": "false",
    "minWorkers": "1",
    "maxWorkers": "1",
}
HANDLER = b"def handle(inputs):\n    return None\n"


@pytest.fixture
def served(tmp_path: Path) -> Path:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_bytes(b"{}")
    (tmp_path / "model.py").write_bytes(HANDLER)
    (tmp_path / "weights.safetensors").write_bytes(b"\x80\x02" + bytes(8) + b".")
    (tmp_path / "empty.py").write_bytes(b"")
    (tmp_path / "serving.properties").write_bytes(format_properties(GOOD))
    return tmp_path


def _problems(tree: Path) -> list[str]:
    return [problem for rule in RULES.values() for problem in rule(tree)]


def test_a_good_tree_has_no_problem(served: Path) -> None:
    assert not _problems(served)


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("engine", None, "engine is missing; it must be Python or MPI"),
        ("engine", "PyTorch", "engine is 'PyTorch'"),
        ("option.entryPoint", None, "entryPoint is missing"),
        ("option.entryPoint", "gone.py", "is not a file of this artifact"),
        ("option.entryPoint", "/opt/model.py", "is not a file of this artifact"),
        ("option.entryPoint", "../model.py", "is not a file of this artifact"),
        ("option.rolling_batch", "auto", "rolling_batch is 'auto'"),
        ("option.async_mode", "False", "async_mode is 'False'"),
        ("option.async_mode", "true", "needs `async def handle`"),
        ("minWorkers", "2", "minWorkers is '2'"),
        ("maxWorkers", None, "maxWorkers is missing"),
        ("option.handler", "run", "no function 'run'"),
    ],
)
def test_wrong_properties(served: Path, key: str, value: str | None, part: str) -> None:
    changed = {name: text for name, text in (GOOD | {key: value}).items() if text is not None}
    (served / "serving.properties").write_bytes(format_properties(changed))
    (problem,) = _problems(served)
    assert part in problem


def test_trailing_blanks_are_seen_as_java_sees_them(served: Path) -> None:
    data = format_properties(GOOD).replace(b"mode=false", b"mode=false ")
    (served / "serving.properties").write_bytes(data)
    found = "\n".join(_problems(served))
    assert "reads as 'false ' in Java and as 'false' in Python" in found
    assert "option.async_mode is 'false '" in found


def _pickle(tree: Path) -> None:
    (tree / "innocent").write_bytes(pickle.dumps({"a": 1}))


def _archive(tree: Path) -> None:
    with zipfile.ZipFile(tree / "innocent", "w") as archive:
        archive.writestr("archive/data.pkl", b"")


def _handler(content: bytes) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        (tree / "model.py").write_bytes(content)

    return change


def _file(name: str, content: bytes = b"x") -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return change


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda tree: (tree / "serving.properties").unlink(), "must be a plain file"),
        (_file("serving.properties", b"\\u1=2"), "malformed"),
        (_file("config.json"), "recommender"),
        (_file("adapter_config.json"), "recommender"),
        (_file("model_index.json"), "recommender"),
        (_file("params.json"), "recommender"),
        (_file("pytorch_model.bin"), "named like a pickle"),
        (_file("sub/x.PT"), "named like a pickle"),
        (_pickle, "is a pickle"),
        (_archive, "pickle inside"),
        (_file("requirements.txt", b"torch==2.13.0\n"), "from the network"),
        (_file("/".join(["x" * 60] * 5)), "255 characters"),
        (_handler(b"def handle(:\n"), "is not Python"),
        (_handler(b"def other(inputs): ...\n"), "no function 'handle'"),
        (_handler(b"async def handle(inputs): ...\n"), "needs `def handle`"),
    ],
)
def test_wrong_files(served: Path, change: Callable[[Path], None], part: str) -> None:
    change(served)
    (problem,) = _problems(served)
    assert part in problem


def test_offline_requirements_are_accepted(served: Path) -> None:
    _file("requirements.txt", b"--no-index\n--find-links requirements\nfoo==1\n")(served)
    assert not _problems(served)
