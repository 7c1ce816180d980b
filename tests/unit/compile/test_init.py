"""`init` writes recipes that validate and plan, and writes nothing else."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from lmi_compile.cli.app import run
from lmi_recipes.reading import read_recipe


@pytest.fixture
def model(
    tmp_path: Path, make_tiny_llama: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    return make_tiny_llama(tmp_path / "My Model")


@pytest.mark.parametrize(
    ("target", "backend", "dtype"),
    [
        ("x86-64-v3", "aoti", "float32"),
        ("ml.g5.2xlarge", "tensorrt-llm", "float16"),
        ("ml.inf2.xlarge", "neuron", "bfloat16"),
    ],
)
def test_a_recipe_for_each_kind_of_hardware(
    model: Path, tmp_path: Path, target: str, backend: str, dtype: str
) -> None:
    lengths = ["--max-input-len", "16", "--max-seq-len", "32"]
    code = run(["init", "--model", f"./{model.name}", "--for", target, "-o", "made.yaml", *lengths])
    assert code == 0
    recipe = read_recipe(tmp_path / "made.yaml").recipe
    assert (recipe.backend, recipe.dtype, recipe.tensor_parallel_degree) == (backend, dtype, 1)
    assert run(["validate", "made.yaml"]) == 0
    assert run(["plan", "-q", "made.yaml"]) == 0


def test_the_default_name_is_one_that_recipes_allow(model: Path, tmp_path: Path) -> None:
    assert run(["init", "--model", f"./{model.name}", "--max-input-len", "8",
                "--max-seq-len", "16"]) == 0  # fmt: skip
    assert read_recipe(tmp_path / "my-model-x86-64-v3.yaml").recipe.name == "my-model-x86-64-v3"


def test_an_existing_file_is_kept(model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("mine")
    assert run(["init", "--model", str(model), "-o", "mine.yaml"]) == 2
    assert (tmp_path / "mine.yaml").read_text() == "mine"


def test_what_cannot_be_built_is_not_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.iterdir())
    args = ["init", "--model", str(model), "--for", "ml.inf2.xlarge", "--quantization",
            "smoothquant"]  # fmt: skip
    assert run(args) == 3
    assert "smoothquant" in capsys.readouterr().err.lower()
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "cache"] == before


def test_without_a_terminal_a_missing_model_is_a_usage_error(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert model.is_dir()
    assert run(["init"]) == 2
    assert "--model is missing" in capsys.readouterr().err
