"""`--help`, `plan` and a full cache hit import nothing heavy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "torch", "transformers", "tokenizers", "safetensors", "numpy", "ray", "boto3", "botocore",
    "docker", "huggingface_hub", "tensorrt_llm", "torch_neuronx", "modelopt", "matplotlib", "gguf",
    "isal", "blake3",
)  # fmt: skip
_SCRIPT = """
import json, sys
from lmi_compile.cli.app import run
code = run(sys.argv[1:])
sys.stderr.write("\\n" + json.dumps({"code": int(code), "modules": sorted(sys.modules)}))
"""


def _modules_after(arguments: list[str], home: Path) -> tuple[int, set[str]]:
    flags = [] if arguments[0] in {"--help", "explain"} else ["--cache-dir", str(home / "cache")]
    ended = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *arguments, *flags],
        capture_output=True,
        text=True,
        check=True,
        cwd=home,
    )
    report = json.loads(ended.stderr.splitlines()[-1])
    return report["code"], set(report["modules"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["plan", "null-demo"],
        ["plan", "smollm2-135m-instruct-cpu"],
        ["list"],
        ["plan", "llama-2-7b-float16-tp1-g5.2xlarge", "--all-targets"],
        ["plan", "llama-2-70b-inf2-tp24"],
        ["plan", "bert-large-inf2-b1-s128"],
    ],
    ids=" ".join,
)
def test_a_light_verb_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code, modules = _modules_after(arguments, tmp_path)
    assert code == 0
    assert not modules & set(HEAVY)


@pytest.mark.parametrize(
    "arguments", [["list"], ["explain", "E202"], ["serve", "--help"], ["pull", "--help"]],
    ids=" ".join,
)  # fmt: skip
def test_a_verb_that_reads_no_recipe_imports_no_schema(
    arguments: list[str], tmp_path: Path
) -> None:
    code, modules = _modules_after(arguments, tmp_path)
    assert code == 0
    assert not modules & {*HEAVY, "pydantic_core", "yaml", "rich"}


def test_a_full_cache_hit_imports_nothing_heavy(tmp_path: Path) -> None:
    first, _ = _modules_after(["null-demo"], tmp_path)
    assert first == 0
    second, modules = _modules_after(["null-demo"], tmp_path)
    assert second == 0
    assert not modules & {*HEAVY, "rich"}
