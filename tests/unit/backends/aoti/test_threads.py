"""The thread count fits the cores that are ours and free."""

import os
from pathlib import Path

import pytest

from lmi_compile.backends.aoti.runtime.threads import decide

_CORES = os.cpu_count() or 1
_ALLOWED = len(os.sched_getaffinity(0))


def _decide(tmp_path: Path, *, running: int = 1, quota: str | None = None) -> int:
    (tmp_path / "loadavg").write_text(f"9.9 0.1 0.1 {running}/200 4711\n", encoding="ascii")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota, encoding="ascii")
    return decide(proc=tmp_path, cgroup=tmp_path).count


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_an_idle_machine_gives_all_allowed_cores(tmp_path: Path) -> None:
    assert _decide(tmp_path) == _ALLOWED


def test_a_loaded_machine_gives_what_is_left_and_never_none(tmp_path: Path) -> None:
    assert _decide(tmp_path, running=_CORES) == 1
    assert _decide(tmp_path, running=10 * _CORES) == 1


def test_the_quota_cuts(tmp_path: Path) -> None:
    assert _decide(tmp_path, quota="150000 100000\n") == 1
    assert _decide(tmp_path, quota="50000 100000\n") == 1
    assert _decide(tmp_path, quota="max 100000\n") == _ALLOWED


def test_cgroup_v1_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n", encoding="ascii")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n", encoding="ascii")
    assert _decide(tmp_path) == 1


@pytest.mark.parametrize(("value", "count"), [("3", 3), ("5,2", 5), ("0", None), ("all", None)])
def test_the_variable_wins_when_it_is_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, count: int | None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert _decide(tmp_path) == (_ALLOWED if count is None else count)


def test_a_machine_that_tells_nothing_gets_its_affinity(tmp_path: Path) -> None:
    assert decide(proc=tmp_path, cgroup=tmp_path).count == _ALLOWED
