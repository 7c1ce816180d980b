"""Planning is cheap: CPU seconds, and what is imported."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
BASE = [sys.executable, "-c", "import click, pydantic, yaml"]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("plan_benchmark", BENCHMARKS / "plan.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _cpu(argv: list[str], env: dict[str, str]) -> float:
    child = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_utime + usage.ru_stime


def test_100_plans_in_one_process(bench: ModuleType, tmp_path: Path) -> None:
    found = bench.many(tmp_path)
    assert found["heavy"] == []
    assert found["seconds"] < bench.MOST_SECONDS


def test_one_plan_costs_less_than_three_times_its_imports(
    bench: ModuleType, tmp_path: Path
) -> None:
    env = {**os.environ, "LMI_CACHE_DIR": str(tmp_path)}
    program = [sys.executable, "-m", "lmi_compile", "plan", "--quiet"]
    variants = {"imports": BASE, **{recipe: [*program, recipe] for recipe in bench.RECIPES}}
    spent: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(8):  # in turn, so that what else the machine does meets all of them
        for name, argv in variants.items():
            spent[name].append(_cpu(argv, env))
    for recipe in bench.RECIPES:
        assert min(spent[recipe]) < 3 * min(spent["imports"]), spent
