"""The vendors' toolchains are extras of their own, and nothing else pulls them."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
VENDORS = {"tensorrt-llm", "torch-neuronx", "neuronx-cc"}


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\s<>=!~\[;]", text, maxsplit=1)[0].lower() for text in requirements}


def test_the_vendors_packages_are_extras_for_their_images() -> None:
    assert _names(EXTRAS["tensorrt-llm"]) == {"tensorrt-llm"}
    assert _names(EXTRAS["neuron"]) == {"torch-neuronx", "neuronx-cc"}


def test_no_other_extra_names_them() -> None:
    for extra, requirements in EXTRAS.items():
        if extra not in {"tensorrt-llm", "neuron"}:
            assert not _names(requirements) & VENDORS, extra
    assert not _names(PROJECT["project"]["dependencies"]) & VENDORS


def test_what_the_other_extras_brought_here_is_free_of_them() -> None:
    installed = {str(found.metadata["Name"]).lower() for found in distributions()}
    assert {"torch", "transformers", "huggingface-hub", "boto3", "click", "docker"} <= {
        name.replace("_", "-") for name in installed
    }
    assert not {name.replace("_", "-") for name in installed} & VENDORS


def test_torch_here_is_the_pinned_one_and_brought_no_cuda() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format=freeze"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.lower()
    assert re.search(r"^torch==2\.13\.0\b", shown, re.MULTILINE)
    assert "nvidia-" not in shown


def test_constraints_pin_torch_and_transformers() -> None:
    text = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="utf-8")
    assert {"torch==2.13.0", "transformers==5.23.0"} <= set(text.splitlines())
