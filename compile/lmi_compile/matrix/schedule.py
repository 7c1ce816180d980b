"""Tasks that need one another, run as many at once as their resources allow.

Knows nothing of recipes: a task has a name, needs, demands and something to call.
"""

import heapq
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import FrameType

from lmi_compile.errors import OurBug

JOBS = "jobs"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
        self._running: set[str] = set()
        # What came of a task, as it ends; None is a signal.
        self._told: SimpleQueue[tuple[Task, BaseException | None] | None] = SimpleQueue()
        self._interrupted = False
        self.stopped = threading.Event()

    def run(self) -> None:
        """Run all of them; ends when each has ended or been given up.

        Raises:
            KeyboardInterrupt: somebody stopped it; nothing of it runs any more.
        """
        heapq.heapify(self._ready)
        jobs = max(1, self._limits.get(JOBS, 1))
        with self._signals_as_items(), ThreadPoolExecutor(max_workers=jobs) as pool:
            try:
                while self._running or (self._ready and not self.stopped.is_set()):
                    self._start(pool)
                    self._end(*self._next())
            except BaseException:
                self._stop()
                self._drain()
                raise
        if self._interrupted:  # by a signal that came with the last task's end
            raise KeyboardInterrupt

    @contextmanager
    def _signals_as_items(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM wait in the queue like everything else that happens.

        Raised wherever the thread happens to be, KeyboardInterrupt can leave a lock of the thread
        pool taken for ever: `threading.Condition.__enter__` is no atomic step.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        ours = [number for number, was in before.items() if was not in {signal.SIG_IGN, None}]
        for number in ours:
            signal.signal(number, self._note_signal)
        try:
            yield
        finally:
            for number in ours:
                signal.signal(number, before[number])

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._interrupted = True
        self._told.put(None)

    def _start(self, pool: ThreadPoolExecutor) -> None:
        """Start what fits, first come first; a task that does not fit lets others pass."""
        waiting = []
        free = 0 if self.stopped.is_set() else self._limits.get(JOBS, 1)
        while self._ready and self._used[JOBS] < free:
            number, name = heapq.heappop(self._ready)
            task = self._tasks[name]
            if self._fits(task):
                self._used.update({JOBS: 1, **task.demands})
                self._running.add(name)
                pool.submit(self._call, task)
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

    def _next(self) -> tuple[Task, BaseException | None]:
        """What came of the next task that ends; a signal is raised here and nowhere else."""
        told = self._told.get()
        if told is None:
            raise KeyboardInterrupt
        return told

    def _call(self, task: Task) -> None:
        error: BaseException | None = None
        try:
            task.call()
        except BaseException as raised:  # noqa: BLE001 - it is told to the thread that waits
            error = raised
        self._told.put((task, error))

    def _end(self, task: Task, error: BaseException | None) -> None:
        self._running.remove(task.name)
        self._used.subtract({JOBS: 1, **task.demands})
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
        """End what runs, and start nothing more."""
        self.stopped.set()
        self._cancel()

    def _drain(self) -> None:
        """Wait until all that runs has ended."""
        while self._running:
            told = self._told.get()
            if told is not None:
                self._running.discard(told[0].name)
