"""The load generator: a process of its own that asks at one concurrency and watches itself.

`python -m lmi_compile.bench.load` reads one JSON object from standard input (`Load`) and writes
one (`run`'s result) to standard output. Each of `concurrency` workers asks, waits for the whole
answer and asks again (a closed loop), first for `warmup_seconds`, then through the window that is
measured. Tokens are counted when they arrive, whoever's request they belong to, so that neither
the beginning nor the end of the window favours long or short answers.
"""

import itertools
import json
import random
import resource
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from lmi_compile.client.invoking import request_body
from lmi_compile.client.pieces import documents, piece_of
from lmi_compile.client.target import Target
from lmi_compile.client.transport import Refused, Transport, Unreachable

BATCHES: Final = 10
_TICK_SECONDS: Final = 0.01
_GAPS_KEPT: Final = 20_000
_PAUSE_AFTER_ERROR: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked for.

    Attributes:
        target: where; not an artifact.
        prompts: inputs, taken in turn.
        parameters: of generation.
        concurrency: requests under way at once.
        warmup_seconds: before the window.
        seconds: length of the window.
    """

    target: Target
    prompts: tuple[str, ...]
    parameters: dict[str, Any]
    concurrency: int
    warmup_seconds: float
    seconds: float


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What all workers saw, in seconds since the start."""

    requests: list[tuple[float, float, float, int]] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    gaps_seen: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    lags: list[float] = field(default_factory=list)


class Generator:
    """Runs one load; every worker is a thread with a connection of its own."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._tally = _Tally()
        self._lock = threading.Lock()
        self._random = random.Random(0)  # noqa: S311 - which gaps are kept, no secret
        self._next = iter(self._numbers())
        self._start = 0.0

    def _numbers(self) -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    def run(self) -> dict[str, Any]:
        """Put the load on; gives the raw figures."""
        load = self._load
        self._start = time.perf_counter()
        begin, end = load.warmup_seconds, load.warmup_seconds + load.seconds
        workers = [
            threading.Thread(target=self._work, args=(begin, end)) for _ in range(load.concurrency)
        ]
        ticker = threading.Thread(target=self._tick, args=(begin, end))
        for thread in (*workers, ticker):
            thread.start()
        time.sleep(begin)
        cpu = _cpu_seconds()
        time.sleep(max(0.0, end - self._now()))
        cpu = _cpu_seconds() - cpu
        for thread in (*workers, ticker):
            thread.join()
        return self._result(cpu)

    def _now(self) -> float:
        return time.perf_counter() - self._start

    def _work(self, begin: float, end: float) -> None:
        transport = self._load.target.open(stream=True)
        try:
            while (started := self._now()) < end:
                self._ask(transport, started, begin, end)
        finally:
            transport.close()

    def _ask(self, transport: Transport, started: float, begin: float, end: float) -> None:
        load = self._load
        with self._lock:
            number = next(self._next)
        prompt = load.prompts[number % len(load.prompts)]
        chat = load.target.where.rstrip("/").endswith("/chat/completions")
        body = request_body(prompt, load.parameters, stream=True, chat=chat)
        arrivals: list[float] = []
        error = None
        try:
            for document in documents(transport.ask(body)):
                piece = piece_of(document)
                error = error or piece.error
                arrivals += [self._now()] * piece.tokens
        except Refused as refused:
            error = f"HTTP {refused.status}"
        except Unreachable as gone:
            error = str(gone).partition(":")[0]
        if error is None and not arrivals:
            error = "an answer without a token"
        self._note(started, arrivals, error, (begin, end))
        if error is not None:
            time.sleep(_PAUSE_AFTER_ERROR)  # a server that refuses at once is not hammered

    def _note(
        self, started: float, arrivals: list[float], error: str | None, window: tuple[float, float]
    ) -> None:
        begin, end = window
        with self._lock:
            tally = self._tally
            tally.arrivals += [at - begin for at in arrivals if begin <= at < end]
            if not begin <= started < end:
                return
            if error is not None:
                tally.errors[error] = tally.errors.get(error, 0) + 1
                return
            first, last = arrivals[0] - started, arrivals[-1] - started
            tally.requests.append((started - begin, first, last, len(arrivals)))
            for gap in (b - a for a, b in itertools.pairwise(arrivals)):
                self._keep(gap)

    def _keep(self, gap: float) -> None:
        """Keep every gap, or a fair sample of them once there are many."""
        tally = self._tally
        tally.gaps_seen += 1
        if len(tally.gaps) < _GAPS_KEPT:
            tally.gaps.append(gap)
        elif (place := self._random.randrange(tally.gaps_seen)) < _GAPS_KEPT:
            tally.gaps[place] = gap

    def _tick(self, begin: float, end: float) -> None:
        """How late this process wakes: what the machine and Python's lock add to every time."""
        while (before := self._now()) < end:
            time.sleep(_TICK_SECONDS)
            if before >= begin:
                self._tally.lags.append(self._now() - before - _TICK_SECONDS)

    def _result(self, cpu: float) -> dict[str, Any]:
        tally, seconds = self._tally, self._load.seconds
        batches = [0] * BATCHES
        for at in tally.arrivals:
            batches[min(BATCHES - 1, int(at / seconds * BATCHES))] += 1
        lags = sorted(tally.lags) or [0.0]
        return {
            "concurrency": self._load.concurrency,
            "seconds": seconds,
            "requests": [[round(value, 6) for value in one] for one in tally.requests],
            "gaps": [round(gap, 6) for gap in tally.gaps],
            "gaps_seen": tally.gaps_seen,
            "batches": batches,
            "errors": tally.errors,
            "generator": {
                "cpu_share": round(cpu / seconds, 4),
                "late_p50": round(lags[len(lags) // 2], 6),
                "late_p99": round(lags[int(len(lags) * 0.99)], 6),
            },
        }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Read a load, put it on, write what came of it."""
    asked = json.load(sys.stdin)
    target = Target(**asked.pop("target"))
    prompts = tuple(asked.pop("prompts"))
    sys.setswitchinterval(0.001)  # many waiting threads: let the one whose token came run soon
    made = Generator(Load(target=target, prompts=prompts, **asked)).run()
    json.dump(made, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
