"""How many threads the graphs may use, decided once at start.

OpenMP's threads spin while they wait. That is what makes decode fast (passive waiting loses the
whole gain of the second thread), and it is ruinous with more threads than free cores: a first
token then takes tens of seconds. So the number is chosen to fit, and spinning is left on.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

_MOMENTS = 5
_MOMENT_SECONDS = 0.004
_ASKED = "OMP_NUM_THREADS says so"


@dataclass(frozen=True)
class Threads:
    """The decision.

    Attributes:
        count: Threads to use.
        why: The sentence for the log.
    """

    count: int
    why: str


def decide(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> Threads:
    """`OMP_NUM_THREADS` if it is set to a number, else the cores that are ours and free.

    Ours: the affinity mask, cut to the control group's quota. Free: the machine's cores less what
    runs on them now; at least one thread always. Now, not over the last minute: that would count
    what this process's own parent did before, and a machine that has just turned quiet.

    Args:
        proc: Where the kernel tells its load.
        cgroup: Where the control group's quota is.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if asked.isdecimal() and int(asked) > 0:
        return Threads(int(asked), _ASKED)
    allowed = len(os.sched_getaffinity(0))
    quota = _quota(cgroup)
    ours = allowed if quota is None else min(allowed, max(1, int(quota)))
    cores = os.cpu_count() or allowed
    busy = _busy(proc)
    free = max(1, cores - round(busy))
    why = f"{allowed} of {cores} cores allowed, quota {quota or 'none'}, {busy:.1f} busy"
    return Threads(max(1, min(ours, free)), why)


def shared(all_threads: Threads, ranks: int) -> Threads:
    """What each of several processes may use of it; a number that was asked for is each one's."""
    if all_threads.why == _ASKED:
        return all_threads
    why = f"{all_threads.why}, shared by {ranks} ranks"
    return Threads(max(1, all_threads.count // ranks), why)


def _quota(cgroup: Path) -> float | None:
    """Cores per second of wall time, from cgroup v2 or v1; None when there is no limit."""
    try:
        limit, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        except OSError:
            return None
    if not limit.isdecimal() or not period.isdecimal() or int(period) == 0:
        return None
    return int(limit) / int(period)


def _busy(proc: Path) -> float:
    """Threads of others that run or could run, over some moments; 0 when the kernel is silent."""
    seen = []
    for _ in range(_MOMENTS):
        try:
            running = (proc / "loadavg").read_text(encoding="ascii").split()[3].partition("/")[0]
            seen.append(max(0, int(running) - 1))  # less this one
        except (OSError, ValueError, IndexError):
            return 0.0
        time.sleep(_MOMENT_SECONDS)
    return sum(seen) / len(seen)
