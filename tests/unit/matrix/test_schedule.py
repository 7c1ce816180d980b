"""Tasks in threads: order, bounds, failures, stopping."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping

import pytest

from lmi_compile.errors import OurBug, ToolFailed
from lmi_compile.matrix.schedule import Ended, Scheduler, Task

_LONG = 120.0  # seconds, for what happens at once on an idle machine


class Book:
    """What ran, in order, and how many at once."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.most: dict[str, int] = {}
        self.ended: list[Ended] = []
        self._now: dict[str, int] = {}
        self._lock = threading.Lock()

    def task(
        self,
        name: str,
        *needs: str,
        until: threading.Event | threading.Barrier | None = None,
        fails: bool = False,
        demands: Mapping[str, int] | None = None,
    ) -> Task:
        wanted = dict(demands or {})

        def call() -> None:
            with self._lock:
                self.began.append(name)
                for pool, amount in {"jobs": 1, **wanted}.items():
                    self._now[pool] = self._now.get(pool, 0) + amount
                    self.most[pool] = max(self.most.get(pool, 0), self._now[pool])
            if until is not None:
                until.wait(_LONG)
            with self._lock:
                for pool, amount in {"jobs": 1, **wanted}.items():
                    self._now[pool] -= amount
            if fails:
                raise ToolFailed(f"{name} fails")

        return Task(name=name, call=call, needs=needs, demands=wanted)

    def note(self, ended: Ended) -> bool:
        self.ended.append(ended)
        return False

    def run(
        self, *tasks: Task, on_end: Callable[[Ended], bool] | None = None, **limits: int
    ) -> None:
        Scheduler(tasks, {"jobs": 2, **limits}, on_end or self.note, lambda: None).run()


def test_needs_come_first_and_everything_runs_once() -> None:
    book = Book()
    book.run(book.task("a"), book.task("b", "a"), book.task("c", "a"), book.task("d", "b", "c"))
    assert sorted(book.began) == ["a", "b", "c", "d"]
    assert (book.began[0], book.began[-1]) == ("a", "d")
    assert all(ended.error is None for ended in book.ended)


def test_no_more_jobs_than_asked_for_and_no_fewer() -> None:
    book = Book()
    together = threading.Barrier(3)  # nobody goes on before three have begun
    book.run(*(book.task(str(n), until=together) for n in range(9)), jobs=3)
    assert book.most["jobs"] == 3


def test_a_resource_bounds_its_own_tasks_and_lets_others_pass() -> None:
    book = Book()
    passed = threading.Event()
    devices = [book.task(f"device{n}", until=passed, demands={"device": 1}) for n in range(3)]
    host = Task(name="host", call=passed.set)  # the first device waits for it
    book.run(*devices, host, jobs=3, device=1)
    assert book.most["device"] == 1
    assert passed.is_set()


def test_what_is_above_a_limit_runs_alone() -> None:
    book = Book()
    book.run(book.task("big", demands={"memory": 100}), memory=10)
    assert book.began == ["big"]


def test_a_failure_ends_what_needs_it_and_nothing_else() -> None:
    book = Book()
    book.run(book.task("a", fails=True), book.task("b", "a"), book.task("c", "b"), book.task("d"))
    assert sorted(book.began) == ["a", "d"]
    blamed = {ended.task.name: ended.blamed for ended in book.ended}
    assert blamed == {"a": "", "b": "a", "c": "a", "d": ""}


def test_stopping_starts_nothing_more_and_ends_what_runs() -> None:
    book, cancelled = Book(), threading.Event()

    def stop(ended: Ended) -> bool:
        book.note(ended)
        return ended.error is not None

    waiting = Task(name="waits", call=lambda: cancelled.wait(_LONG) or None)
    tasks = [waiting, book.task("a", fails=True), book.task("b")]
    Scheduler(tasks, {"jobs": 2}, stop, cancelled.set).run()
    assert book.began == ["a"]
    assert cancelled.is_set()


def test_a_circle_is_our_bug() -> None:
    book = Book()
    with pytest.raises(OurBug):
        book.run(book.task("a", "b"), book.task("b", "a"))


def test_its_own_overhead_is_small() -> None:
    book = Book()
    began = time.thread_time()
    book.run(*(book.task(str(n)) for n in range(500)))
    assert (time.thread_time() - began) / 500 < 0.005


_INTERRUPTED = """
import os, signal, sys
from lmi_compile.matrix.schedule import Scheduler, Task
signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command does
for round in range(100):
    def strike():
        os.kill(os.getpid(), signal.SIGTERM)
    calls = [strike if n == round % 9 else lambda: None for n in range(9)]
    tasks = [Task(name=str(n), call=call) for n, call in enumerate(calls)]
    cancelled = []
    scheduler = Scheduler(tasks, {"jobs": 3}, lambda ended: False, lambda: cancelled.append(1))
    try:
        scheduler.run()
    except KeyboardInterrupt:
        assert scheduler.stopped.is_set() == bool(cancelled)
    else:
        sys.exit(f"round {round}: the signal was lost")
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
sys.exit(7)
"""


def test_a_signal_at_any_task_is_raised_and_the_handler_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED], check=False, capture_output=True, timeout=240
    )
    assert done.returncode == 7, done.stderr
