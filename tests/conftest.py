"""What every test may use, and the last line of a run."""

import os
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace

import pytest
from compiled import build

# Before anything imports torch: idle OpenMP threads spin, and two on a busy machine cost minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Session fixtures built once per run, the dearest first.
_EXPENSIVE = {"smollm2": 0, "tiny": 1, "built_for_three": 2, "cluster": 3, "engine": 4}
_ALLOWED_SKIPS = Path(__file__).parent / "house" / "hardware_skips.txt"


@pytest.fixture(scope="session")
def make_tiny_llama() -> Callable[..., Path]:
    """Makes a random two-layer Llama as a Hugging Face directory."""
    from tiny_llama import make_tiny_llama as make  # noqa: PLC0415 - imports torch, seconds

    return make


@pytest.fixture(scope="session")
def built_for_three(
    make_tiny_llama: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """A random two-layer Llama, compiled for three sequences at a time."""
    root = tmp_path_factory.mktemp("aoti3")
    return build(root, make_tiny_llama(root / "model"), max_batch_size=3)


class _Tally:
    """Counts outcomes, and holds CI to its skips."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.skips: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and hasattr(report, "wasxfail"):
            self.outcomes["passed"] += 1  # it failed as it should; a strict one that passes fails
        elif report.skipped:
            self.outcomes["skipped"] += 1
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "unknown"
            self.skips[reason.removeprefix("Skipped: ")] += 1
        elif report.failed:
            self.outcomes["failed"] += 1
        elif report.when == "call":
            self.outcomes["passed"] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcomes["failed"] += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if os.environ.get("LMI_CI") == "1" and self.not_allowed():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def not_allowed(self) -> list[str]:
        allowed = _ALLOWED_SKIPS.read_text(encoding="utf-8").splitlines()
        return [reason for reason in self.skips if reason not in allowed]

    def pytest_unconfigure(self) -> None:
        if os.environ.get("LMI_CI") == "1":
            for reason in self.not_allowed():
                print(f"this skip is not allowed in CI: {reason}")  # noqa: T201 - the last words
        by_reason = "; ".join(f"{count} {reason}" for reason, count in self.skips.items())
        line = "tests: {passed} passed, {failed} failed, {skipped} skipped".format(
            **{name: self.outcomes[name] for name in ("passed", "failed", "skipped")}
        )
        print(f"{line} ({by_reason})" if by_reason else line)  # noqa: T201 - the last line


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before the worker's own, which reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    """Keeps what shares an expensive thing in one worker, and starts the most expensive first.

    A file's tests stay together (its servers start once), and so do all tests on one built model.
    """
    groups = {item: _group(item) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: _EXPENSIVE.get(groups[item], len(_EXPENSIVE)))
    return (yield)


def _group(item: pytest.Item) -> str:
    shared = _EXPENSIVE.keys() & set(getattr(item, "fixturenames", ()))
    return min(shared, key=_EXPENSIVE.__getitem__) if shared else item.nodeid.partition("::")[0]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Tally(), "tally")
