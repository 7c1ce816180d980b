"""Which records of old runs may go."""

import gzip
from pathlib import Path

import pytest
from nights import BROKEN, QUARANTINED, build, write_nights

from lmi_artifacts.digest import JSONValue, canonical_json
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.registry import Registry, open_registry
from lmi_compile import golden
from lmi_compile.keys import step_key
from lmi_compile.matrix.forgetting import live_steps, outlived
from lmi_compile.matrix.history import FORMAT, last_green, read_log, read_runs


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(str(tmp_path))


def _run(registry: Registry, number: int, **states: str) -> str:
    """A run in which each build came to a state; the plan key tells the build, and the state."""
    builds = [
        build(name, "m", "t", "none", state=state, plan_key=f"{name}-{state}")
        for name, state in states.items()
    ]
    name = f"2026010{number}t000000z-000000"
    run = {"format": FORMAT, "id": name, "started": "2026-01-01T00:00:00Z", "builds": builds}
    registry.add_record(f"runs/{name}.json", canonical_json(run))
    for each, state in states.items():
        registry.add_record(f"plans/{each}-{state}.json.gz", b"")
        if state == "failed":
            registry.add_record(f"logs/{name}/{each}.txt", b"why")
    return name


def _forget(registry: Registry, keep: int) -> None:
    for names in outlived(registry, keep):
        registry.remove_records(names)


def test_old_runs_go_with_what_only_they_need(registry: Registry) -> None:
    first = _run(registry, 1, a="built", b="failed")
    second = _run(registry, 2, a="cached", b="built")
    third = _run(registry, 3, a="cached", b="cached")
    registry.add_record("golden/1/index.json", b"")
    assert outlived(registry, 2) == (
        (f"logs/{first}/b.txt", "plans/a-built.json.gz", "plans/b-failed.json.gz"),
        (f"runs/{first}.json",),
    )
    assert len(registry.records("")) == 10, "naming removes nothing"
    _forget(registry, 2)
    assert registry.records("") == (
        "golden/1/index.json", "plans/a-cached.json.gz", "plans/b-built.json.gz",
        "plans/b-cached.json.gz", f"runs/{second}.json", f"runs/{third}.json",
    )  # fmt: skip
    assert outlived(registry, 2) == ((), ())
    assert read_log(registry, first, "b") is None


def test_the_last_green_run_of_what_is_broken_stays(registry: Registry) -> None:
    first = _run(registry, 1, a="built", b="built", gone="built")
    for number in (2, 3):
        _run(registry, number, a="built", b="failed", gone="built")
    for number in (4, 5):
        _run(registry, number, a="cached", b="failed")
    _forget(registry, 2)
    runs = read_runs(registry)
    assert [run["id"][7] for run in runs] == ["5", "4", "1"]  # type: ignore[index] - ids are text
    found = last_green(runs, "b")
    assert found is not None
    assert found[0]["id"] == first
    assert "plans/gone-built.json.gz" in registry.records("plans/"), "the run that stays names it"


def test_a_removal_that_was_cut_short_is_found_again(registry: Registry) -> None:
    for number in range(1, 5):
        _run(registry, number, a="failed")
    before = outlived(registry, 2)
    registry.remove_records(before[0][:1])
    after = outlived(registry, 2)
    assert after[1] == before[1]
    assert set(after[0]) == set(before[0][1:])


def test_what_cannot_be_read_stays(registry: Registry) -> None:
    _run(registry, 2, a="built")
    for name, data in (("1", b"{"), ("0", b'{"format":"lmi-compile/run/v9"}'), ("3", b"[]")):
        registry.add_record(f"runs/{name}.json", data)
    assert outlived(registry, 1) == ((), ())


def test_thirty_nights_shrink_to_the_newest_and_the_last_green_ones(registry: Registry) -> None:
    write_nights(registry)
    _forget(registry, 5)
    runs = read_runs(registry)
    assert len(runs) == 7
    for name in (BROKEN, QUARANTINED):
        assert last_green(runs, name) is not None
    assert registry.records("logs/"), "the newest run's log"


def test_golden_outputs_stay_while_their_model_is_in_an_artifact_or_a_plan(
    registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    manifest = Manifest(
        name="any", recipe={}, toolchain={}, build_key="1", steps={"model": "built"}, serving={},
        licence=None, simulated=False, files=(),
    )  # fmt: skip
    ref = str(registry.publish(tmp_path / "tree", manifest).ref)
    step: JSONValue = {"run": {"function": "any:run"}}
    registry.add_record("plans/1.json.gz", gzip.compress(canonical_json({"model": step})))
    needs: dict[str, dict[str, JSONValue]] = {
        "built": {"needs": {"model": "built"}},
        "planned": {"needs": {"model": step_key({"run": {"function": "any:run"}})}},
        "gone": {"needs": {"model": "gone"}},
        "unsaid": {},
    }
    for name, index in needs.items():
        registry.add_record(f"golden/{name}/outputs.json.0", b"{}")
        registry.add_record(f"golden/{name}/index.json", canonical_json(index))
    registry.add_record("golden/begun/outputs.json.0", b"{}")

    def going(*gone: str) -> list[str]:
        pieces, indexes = golden.outlived(registry, live_steps(registry, gone))
        assert pieces == tuple(name.replace("index.json", "outputs.json.0") for name in indexes)
        return [name.split("/")[1] for name in indexes]

    assert going() == ["gone"]
    assert going(ref) == ["built", "gone"]
    assert going(ref, "records/plans/1.json.gz") == ["built", "gone", "planned"]
