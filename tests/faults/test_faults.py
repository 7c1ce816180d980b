"""A fast part of the battery: every fault in a tiny model, a few in the real one."""

from dataclasses import replace
from pathlib import Path

import pytest
from battery import accepted, judged, tried
from catalogue import FAULTS
from cleans import Clean
from ground import BUILDS, Ground

# What a random two-layer model is too small to show in 8 bits or 16.
_BLUNT = {
    "norm epsilon x100",
    "stale weights",
    "int8 scale off",
    "per-tensor instead of per-channel",
}
# Its weights fill their range evenly: to halve that is more than any rounding explains.
_MILD = {"saturated int8": 0.9}
_REAL = (
    ("wrong rope_theta", "bfloat16"),
    ("stale weights", "int8"),
    ("causal mask missing", "bfloat16"),
    ("per-tensor instead of per-channel", "int8"),
)


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(home=tmp_path_factory.mktemp("faults"), longest=16, forced=4)


@pytest.mark.parametrize(
    ("name", "build"),
    [
        (fault.name, build)
        for fault in FAULTS
        for build in fault.builds
        if fault.model == "smollm2" and (build == "float32" or fault.name not in _BLUNT)
    ],
)
def test_the_judge_catches_a_fault_in_a_tiny_model_and_names_its_area(
    ground: Ground, name: str, build: str
) -> None:
    fault = next(each for each in FAULTS if each.name == name)
    size = _MILD.get(name, fault.sizes[0])
    row = tried(ground, replace(fault, model="tiny-0", sizes=(size,)), build)
    assert row.caught, row


@pytest.mark.parametrize("build", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_judge_accepts_a_right_build_of_a_tiny_model(
    ground: Ground, build: str, seed: int
) -> None:
    assert accepted(ground, Clean(model=f"tiny-{seed}", build=build, groups=seed)) is None


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.parametrize(("name", "build"), _REAL)
def test_the_judge_catches_a_fault_in_the_real_model(ground: Ground, name: str, build: str) -> None:
    fault = next(each for each in FAULTS if each.name == name)
    row = tried(ground, replace(fault, sizes=fault.sizes[:1]), build)
    assert row.caught, row


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.parametrize("build", ["bfloat16", "int8"])
def test_the_judge_accepts_a_right_build_of_the_real_model(ground: Ground, build: str) -> None:
    assert accepted(ground, Clean(model="smollm2", build=build)) is None


def test_a_verdict_is_the_same_twice(ground: Ground) -> None:
    build = BUILDS["bfloat16"]
    parts = ground.parts("tiny-0", build)
    assert judged(ground, parts, "tiny-0", build, 1) == judged(ground, parts, "tiny-0", build, 1)


def test_an_engine_apart_from_transformers_is_accepted_in_float32(ground: Ground) -> None:
    build = BUILDS["float32"]
    verdict = judged(ground, ground.parts("tiny-3", build), "tiny-3", build, 1)
    assert verdict.decision == "ACCEPT"
    assert not verdict.areas
    assert Path(ground.home, "models", "tiny-3").is_dir()
