"""What every test may use, and the last line of a run."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from compiled import build
from hypothesis import HealthCheck, settings
from lmi import Tiny
from once import once

if TYPE_CHECKING:
    from s3servers import Server

# Before anything imports torch: idle OpenMP threads spin, and two on a busy machine cost minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A tree that a test's child imports from must stay as it is on every machine, not by this variable.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# The same examples in every run, however slow the machine is; `make fuzz` draws others.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")
# Session fixtures built once per run, the dearest first; the shortest files are the last one's.
_EXPENSIVE = ("smollm2", "built_for_three", "built_in_8_bits", "tiny")
_ALLOWED_SKIPS = Path(__file__).parent / "house" / "hardware_skips.txt"


@pytest.fixture(scope="session")
def make_tiny_llama() -> Callable[..., Path]:
    """Makes a random two-layer Llama as a Hugging Face directory."""
    from tiny_llama import make_tiny_llama as make  # noqa: PLC0415 - imports torch, seconds

    return make


@pytest.fixture(scope="session")
def tiny(make_tiny_llama: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A random two-layer Llama, built once: its cache holds the compiled graphs."""
    return once(tmp_path_factory, "tiny", lambda home: Tiny.build(home, make_tiny_llama))


@pytest.fixture(scope="session")
def built_for_three(
    make_tiny_llama: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """A random two-layer Llama, compiled for three sequences at a time."""
    return once(
        tmp_path_factory,
        "aoti3",
        lambda root: build(root, make_tiny_llama(root / "model"), max_batch_size=3),
    )


@pytest.fixture(scope="session")
def seaweed_server() -> "Iterator[Server]":
    """A real S3 server."""
    from s3servers import seaweed  # noqa: PLC0415 - imports boto3

    with seaweed() as running:
        yield running


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


@pytest.hookimpl(trylast=True)  # after what is left out of this run is gone
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts one file for each dear thing, so that it is being made; those that wait for it end.

    Two processes run the files in this order; the second would only wait for what the first makes.
    At the end short files keep both busy.
    """
    makers: dict[str, str] = {}
    waiting: dict[str, int] = {}
    for item in items:
        file = item.nodeid.partition("::")[0]
        for place, name in enumerate(_EXPENSIVE, 1):
            if name in getattr(item, "fixturenames", ()):
                makers.setdefault(name, file)
                waiting[file] = min(place, waiting.get(file, place))
    first = [makers[name] for name in _EXPENSIVE if name in makers]

    def turn(item: pytest.Item) -> int:
        file = item.nodeid.partition("::")[0]
        return first.index(file) if file in first else len(first) + waiting.get(file, 0)

    items.sort(key=turn)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Tally(), "tally")
