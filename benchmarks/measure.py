"""CPU and wall seconds of whole processes, descendants included, and medians over rounds."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one process cost; `cpu` is user and system time with all descendants it waited for."""

    cpu: float
    wall: float


def run(argv: Sequence[str], env: Mapping[str, str] | None = None) -> Run:
    """Run `argv` to its end; a failure ends the benchmark with its output."""
    start = time.monotonic()
    child = subprocess.Popen(
        argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    output = child.stdout.read() if child.stdout else ""
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{' '.join(argv)} ended with {child.returncode}:\n{output}")
    return Run(cpu=usage.ru_utime + usage.ru_stime, wall=wall)


def alternate(
    variants: Mapping[str, Callable[[], Run]], rounds: int, warm_up: int = 0
) -> dict[str, list[Run]]:
    """Run every variant once a round, in turn, so that a drift of the machine meets all."""
    found: dict[str, list[Run]] = {name: [] for name in variants}
    for number in range(-warm_up, rounds):
        for name, variant in variants.items():
            measured = variant()
            if number >= 0:
                found[name].append(measured)
    return found


def print_table(found: Mapping[str, Sequence[Run]], peer: str) -> None:
    """Medians, ranges, and the ratio of each variant's median CPU to `peer`'s."""
    base = statistics.median(measured.cpu for measured in found[peer])
    print(f"{'':32} {'CPU s':>9} {'min':>8} {'max':>8} {'wall s':>9} {'CPU ratio':>10}  n")
    for name, runs in found.items():
        cpu = [measured.cpu for measured in runs]
        wall = statistics.median(measured.wall for measured in runs)
        median = statistics.median(cpu)
        print(
            f"{name:32} {median:9.3f} {min(cpu):8.3f} {max(cpu):8.3f} {wall:9.3f} "
            f"{median / base:10.2f}  {len(cpu)}"
        )
