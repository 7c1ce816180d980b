"""One tiny Llama, really compiled once per session by the workers, each in its own process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

LIMITS = {"max_batch_size": 1, "max_input_len": 96, "max_seq_len": 128}
TARGET = {"march": "x86-64-v3", "simdlen": 256, "required_cpu_flags": ["avx2", "fma", "bmi2"]}
_WORK = """
import importlib, json, sys
from pathlib import Path
from types import SimpleNamespace
module, params, inputs, out = json.load(sys.stdin)
run = importlib.import_module(module).run
run(params, {name: Path(path) for name, path in inputs.items()}, Path(out))
"""

MakeLlama = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs the compiled package waits for a compiler."""
    for item in items:
        if {"built", "built_for_three", "built_in_8_bits"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


def work(module: str, params: object, inputs: dict[str, Path], out: Path) -> str:
    """Runs one worker function in a process of its own; returns what it printed."""
    out.mkdir(parents=True)
    request = [
        f"lmi_compile.backends.aoti.{module}",
        params,
        {name: str(path) for name, path in inputs.items()},
        str(out),
    ]
    ended = subprocess.run(
        [sys.executable, "-c", _WORK],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def compile_params(model: Path, **changes: object) -> dict[str, object]:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return {"config": config, "dtype": "float32", **LIMITS, **TARGET, **changes}


def build(
    root: Path, model: Path, calibrated: dict[str, Path] | None = None, **changes: object
) -> SimpleNamespace:
    compiled, weights, package = root / "compile", root / "weights", root / "package"
    work("compile", compile_params(model, **changes), {}, compiled)
    inputs = {"model": model, "compile": compiled, **(calibrated or {})}
    work("weights", {"alpha": 0.5} if calibrated else {}, inputs, weights)
    inputs = {"model": model, "compile": compiled, "weights": weights}
    work("package", {"name": "tiny"}, inputs, package)
    return SimpleNamespace(model=model, compile=compiled, weights=weights, package=package)


@pytest.fixture(scope="session")
def built(make_tiny_llama: MakeLlama, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    root = tmp_path_factory.mktemp("aoti")
    return build(root, make_tiny_llama(root / "model"))


@pytest.fixture(scope="session")
def built_for_three(
    make_tiny_llama: MakeLlama, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """The same model with a decode graph for three sequences."""
    root = tmp_path_factory.mktemp("aoti3")
    return build(root, make_tiny_llama(root / "model"), max_batch_size=3)


@pytest.fixture(scope="session")
def built_in_8_bits(
    make_tiny_llama: MakeLlama, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """The same model with 8-bit weights and activations, smoothed, one scale per token."""
    import torch  # noqa: PLC0415 - only here
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - the same

    root = tmp_path_factory.mktemp("aoti8")
    model, text = make_tiny_llama(root / "model"), root / "text.txt"
    text.write_text(" ".join(f"{number * 7919} things" for number in range(300)), encoding="utf-8")
    params = {"num_samples": 8, "max_seq_len": 32, "seed": 1}
    work("calibrate", params, {"model": model, "dataset": text}, root / "calibrate")
    form = {"method": "smoothquant", "activations": "per_token", "reduced_range": True}
    done = build(root, model, {"calibrate": root / "calibrate"}, quantization=form)
    original = AutoModelForCausalLM.from_pretrained(model).eval()

    def logits(ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = original(ids[None]).logits[0]
        return found

    done.logits = logits
    return done
