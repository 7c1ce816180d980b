"""Continuous batching: requests join and leave a running decode between two steps.

One thread owns the graphs. Each turn it admits at most one waiting request into a free slot (a
prefill takes as long as many steps, and those who are being served should not wait for several),
then decodes one token for every slot that is taken, each at its own position. A request's tokens
do not depend on its neighbours: rows do not meet in any operation, and each has its own draws.
"""

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from .generate import Writer, first_logits
from .request import Request
from .service import Service, answer_of

Answer = dict[str, Any]


@dataclass(frozen=True)
class _Waiting:
    request: Request
    ids: list[int]
    promise: "Future[Answer]"


@dataclass(frozen=True)
class _Seat:
    """A request that has a slot."""

    request: Request
    writer: Writer
    promise: "Future[Answer]"


class Batcher:
    """Serves requests together, up to as many as the decode graph has rows."""

    def __init__(self, service: Service) -> None:
        """Starts the thread, which ends with the process."""
        self._service = service
        self._waiting: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        self._seats: dict[int, _Seat] = {}
        threading.Thread(target=self._run, name="decode", daemon=True).start()

    def submit(self, body: bytes) -> "Future[Answer]":
        """The answer to a request's body, later; cancelling the promise frees its slot.

        Raises:
            BadRequest: At once, when the request is at fault.
        """
        request, ids = self._service.read(body)
        promise: Future[Answer] = Future()
        self._waiting.put(_Waiting(request, ids, promise))
        return promise

    def _run(self) -> None:
        while True:
            try:
                self._admit()
                self._step()
            except BaseException as error:  # noqa: BLE001 - a promise must never be left open
                for seat in self._seats.values():
                    _break(seat.promise, error)
                self._seats.clear()

    def _admit(self) -> None:
        """Seats one waiting request; waits for one when nobody is being served."""
        free = set(range(self._service.graphs.batch)) - set(self._seats)
        if not free:
            return
        try:
            waiting = self._waiting.get(block=not self._seats)
        except queue.Empty:
            return
        if waiting.promise.cancelled():
            return
        slot = min(free)
        service, parameters = self._service, waiting.request.parameters
        try:
            writer = Writer(service.tokenizer, len(waiting.ids), parameters, service.eos_token_ids)
            writer.take(first_logits(service.graphs, waiting.ids, slot))
        except Exception as error:  # noqa: BLE001 - the request fails, its neighbours do not
            _break(waiting.promise, error)
            return
        self._seats[slot] = _Seat(waiting.request, writer, waiting.promise)
        self._leave()

    def _step(self) -> None:
        """One token for every seat; free rows compute a token that nobody reads."""
        if not self._seats:
            return
        graphs = self._service.graphs
        tokens, positions = [0] * graphs.batch, [0] * graphs.batch
        for slot, seat in self._seats.items():
            tokens[slot], positions[slot] = seat.writer.token, seat.writer.position
        logits = graphs.step(tokens, positions)
        for slot, seat in list(self._seats.items()):
            seat.writer.take(logits[slot])
        self._leave()

    def _leave(self) -> None:
        for slot, seat in list(self._seats.items()):
            if seat.promise.cancelled():
                del self._seats[slot]
            elif seat.writer.ended:
                del self._seats[slot]
                if seat.promise.set_running_or_notify_cancel():
                    seat.promise.set_result(answer_of(seat.request, seat.writer.done))


def _break(promise: "Future[Answer]", error: BaseException) -> None:
    if promise.set_running_or_notify_cancel():
        promise.set_exception(error)
