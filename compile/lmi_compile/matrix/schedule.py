"""Tasks that need one another, run as many at once as their resources allow.

Knows nothing of recipes: a task has a name, needs, demands and something to call.
"""

import contextlib
import heapq
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from lmi_compile.errors import Interrupted, OurBug

JOBS = "jobs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Something to call once all that it needs has been called.

    Attributes:
        name: unique.
        call: what to call, in a thread of its own; raises where it fails.
        needs: names of tasks.
        demands: how much of each resource it takes, beside one of `jobs`.
    """

    name: str
    call: Callable[[], None]
    needs: tuple[str, ...] = ()
    demands: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a task ended.

    Attributes:
        task: which.
        error: what it raised; None where it succeeded.
        blamed: the task that failed before this one could start; empty for one that ran.
    """

    task: Task
    error: Exception | None = None
    blamed: str = ""


class Scheduler:
    """Runs tasks in the order they are given, as far as needs and resources let it.

    Args:
        tasks: each after those it needs.
        limits: how much of each resource there is at once; what is not named has no limit.
        on_end: told of each task as it ends, in the calling thread; True stops the rest.
        cancel: ends what is running, when the rest is stopped.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        limits: Mapping[str, int],
        on_end: Callable[[Ended], bool],
        cancel: Callable[[], None],
    ) -> None:
        self._tasks = {task.name: task for task in tasks}
        self._limits = limits
        self._on_end = on_end
        self._cancel = cancel
        self._order = {name: number for number, name in enumerate(self._tasks)}
        self._waits = {name: len(set(task.needs)) for name, task in self._tasks.items()}
        self._after: dict[str, list[str]] = {name: [] for name in self._tasks}
        for task in self._tasks.values():
            for need in set(task.needs):
                if self._order.get(need, len(self._tasks)) >= self._order[task.name]:
                    raise OurBug(f"task {task.name} needs {need} before it")
                self._after[need].append(task.name)
        self._ready = [(self._order[name], name) for name, left in self._waits.items() if not left]
        self._used: Counter[str] = Counter()
        self._running: dict[Future[None], Task] = {}
        self.stopped = threading.Event()

    def run(self) -> None:
        """Run all of them; ends when each has ended or been given up.

        Raises:
            KeyboardInterrupt: somebody stopped it; nothing of it runs any more.
        """
        heapq.heapify(self._ready)
        with ThreadPoolExecutor(max_workers=max(1, self._limits.get(JOBS, 1))) as pool:
            try:
                while self._running or (self._ready and not self.stopped.is_set()):
                    self._start(pool)
                    done, _ = wait(self._running, return_when=FIRST_COMPLETED)
                    for future in done:
                        self._end(future)
            except BaseException:
                self._stop()
                raise

    def _start(self, pool: ThreadPoolExecutor) -> None:
        """Start what fits, first come first; a task that does not fit lets others pass."""
        waiting = []
        free = 0 if self.stopped.is_set() else self._limits.get(JOBS, 1)
        while self._ready and self._used[JOBS] < free:
            number, name = heapq.heappop(self._ready)
            task = self._tasks[name]
            if self._fits(task):
                self._used.update({JOBS: 1, **task.demands})
                self._running[pool.submit(task.call)] = task
            else:
                waiting.append((number, name))
        for item in waiting:
            heapq.heappush(self._ready, item)

    def _fits(self, task: Task) -> bool:
        """Whether its demands are free; what alone is above a limit may run alone."""
        return all(
            self._used[name] == 0 or self._used[name] + amount <= self._limits[name]
            for name, amount in task.demands.items()
            if name in self._limits
        )

    def _end(self, future: Future[None]) -> None:
        task = self._running.pop(future)
        self._used.subtract({JOBS: 1, **task.demands})
        error = future.exception()
        if error is not None and not isinstance(error, Exception):
            raise error
        if error is None:
            for name in self._after[task.name]:
                self._waits[name] -= 1
                if self._waits[name] == 0:
                    heapq.heappush(self._ready, (self._order[name], name))
        if self._on_end(Ended(task=task, error=error)) and not self.stopped.is_set():
            self._stop()
        if error is not None:
            self._give_up(task.name)

    def _give_up(self, failed: str) -> None:
        """Say of everything behind a failed task that it will not run."""
        waiting, seen = list(self._after[failed]), {failed}
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += self._after[name]
                self._on_end(Ended(task=self._tasks[name], error=None, blamed=failed))

    def _stop(self) -> None:
        """End what runs, and wait until it has ended."""
        self.stopped.set()
        self._cancel()
        with contextlib.suppress(Interrupted):
            wait(self._running)
