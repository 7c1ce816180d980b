"""Continuous batching: requests join and leave a running decode between two steps.

One thread owns the graphs. Each turn it admits waiting requests into free slots, at least one and
as many more as a number of prompt tokens allows: a step costs the same for two rows as for all, so
slots should fill at once, and those who are being served should not wait long for it. Then it
decodes one token for every slot that is taken, each at its own position. A request that is alone
takes the graph for one. Rows do not meet in any operation and each has its own draws, so neighbours
change a request's numbers by rounding only: the two graphs add in another order.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import torch

from .generate import Generation, Token, Writer, first_logits
from .request import Request
from .service import Service

# Of prompts that are read in one turn, while more fit: about four steps' time.
_PROMPT_TOKENS = 128
# Told of each token as it comes; with the last one, of the whole. Called by the decode thread.
Listener = Callable[[Token, Generation | None], None]


@dataclass(frozen=True)
class _Waiting:
    request: Request
    ids: list[int]
    promise: "Future[Generation]"
    listener: Listener | None


@dataclass(frozen=True)
class _Seat:
    """A request that has a slot."""

    writer: Writer
    promise: "Future[Generation]"
    listener: Listener | None

    def take(self, logits: torch.Tensor) -> None:
        """The next token, for the writer and for who listens."""
        self.writer.take(logits)
        if self.listener is not None:
            self.listener(self.writer.last, self.writer.done if self.writer.ended else None)


class Batcher:
    """Serves requests together, up to as many as the decode graph has rows.

    Attributes:
        service: The model.
    """

    def __init__(self, service: Service) -> None:
        """Starts the thread, which ends with the process."""
        self.service = service
        self._waiting: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        self._seats: dict[int, _Seat] = {}
        threading.Thread(target=self._run, name="decode", daemon=True).start()

    def submit(
        self, request: Request, ids: list[int], listener: Listener | None = None
    ) -> "Future[Generation]":
        """The continuation, later; cancelling the promise frees its slot.

        Args:
            request: As the service accepted it.
            ids: Its prompt's tokens.
            listener: Told of each token.
        """
        promise: Future[Generation] = Future()
        self._waiting.put(_Waiting(request, ids, promise, listener))
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
        """Seats waiting requests; waits for one when nobody is being served."""
        read = 0
        while len(self._seats) < self.service.graphs.batch and read < _PROMPT_TOKENS:
            try:
                waiting = self._waiting.get(block=not self._seats and not read)
            except queue.Empty:
                return
            if not waiting.promise.cancelled():
                read += len(waiting.ids)
                self._seat(waiting)

    def _seat(self, waiting: _Waiting) -> None:
        slot = min(set(range(self.service.graphs.batch)) - set(self._seats))
        try:
            writer = self.service.writer(waiting.request, waiting.ids)
            seat = _Seat(writer, waiting.promise, waiting.listener)
            seat.take(first_logits(self.service.graphs, waiting.ids, slot))
        except Exception as error:  # noqa: BLE001 - the request fails, its neighbours do not
            _break(waiting.promise, error)
            return
        self._seats[slot] = seat
        self._leave()

    def _step(self) -> None:
        """One token for every seat; free rows compute a token that nobody reads."""
        if not self._seats:
            return
        graphs = self.service.graphs
        if len(self._seats) == 1:
            ((slot, seat),) = self._seats.items()
            seat.take(graphs.decode(seat.writer.last.id, seat.writer.position, slot))
        else:
            tokens, positions = [0] * graphs.batch, [0] * graphs.batch
            for slot, seat in self._seats.items():
                tokens[slot], positions[slot] = seat.writer.last.id, seat.writer.position
            logits = graphs.step(tokens, positions)
            for slot, seat in self._seats.items():
                seat.take(logits[slot])
        self._leave()

    def _leave(self) -> None:
        for slot, seat in list(self._seats.items()):
            if seat.promise.cancelled():
                del self._seats[slot]
            elif seat.writer.ended:
                del self._seats[slot]
                if seat.promise.set_running_or_notify_cancel():
                    seat.promise.set_result(seat.writer.done)


def _break(promise: "Future[Generation]", error: BaseException) -> None:
    if promise.set_running_or_notify_cancel():
        promise.set_exception(error)
