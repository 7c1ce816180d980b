"""The bounded queue, and requests on their way through the worker."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmi_compile.serving.limits import Limits, Refused
from lmi_compile.serving.metrics import Clock, Metrics
from lmi_compile.serving.process import Model, WorkerProcess

Event = Mapping[str, Any]
_GONE: Event = {"error": {"code": 503, "error": "the model's process ended; try again"}}


@dataclass(slots=True, eq=False)
class _Ticket:
    """A request that was let in."""

    deadline: float
    clock: Clock = field(default_factory=Clock)
    told: "asyncio.Queue[Event]" = field(default_factory=asyncio.Queue)


class Engine:
    """Lets requests in, as many as may wait, and hands back what the worker tells of each."""

    def __init__(self, worker: WorkerProcess, limits: Limits, metrics: Metrics) -> None:
        self.limits = limits
        self.metrics = metrics
        self._worker = worker
        self._open: dict[int, _Ticket] = {}
        self._numbers = itertools.count(1)
        worker.on_told = self._told
        worker.on_end = self._ended

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._worker.ready

    @property
    def model(self) -> Model:
        """What is served."""
        return self._worker.model

    async def ask(self, asked: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        """What the worker tells of a request, up to `done`; leaving early cancels it.

        Args:
            asked: As the package's `pipe` or `one_pass_pipe` takes it, without the number.

        Raises:
            Refused: The request is at fault, there is no room, it took too long, or it failed.
        """
        number, ticket = self._admit()
        try:
            if not await self._worker.write({"id": number, **asked}):
                raise Refused(**_status(_GONE))
            while True:
                event = await self._next(ticket)
                if "error" in event or "done" in event:
                    self._close(number)
                if "error" in event:
                    raise Refused(**_status(event))
                self.metrics.told(event, ticket.clock)
                yield event
                if "done" in event:
                    return
        finally:
            if self._close(number):
                self.metrics.cancelled.inc()
                self._worker.write_soon({"id": number, "cancel": True})

    def _admit(self) -> tuple[int, _Ticket]:
        if not self.ready:
            raise Refused(503, "the model is not loaded; try again")
        room = self.model.max_batch_size + self.limits.queue
        if len(self._open) >= room:
            self.metrics.turned_away.inc()
            raise Refused(503, f"{room} requests are being served or wait; try again later")
        ticket = _Ticket(asyncio.get_running_loop().time() + self.limits.seconds)
        number = next(self._numbers)
        self._open[number] = ticket
        self.metrics.inside.set(len(self._open))
        return number, ticket

    async def _next(self, ticket: _Ticket) -> Event:
        try:
            async with asyncio.timeout_at(ticket.deadline):
                return await ticket.told.get()
        except TimeoutError as error:
            most = f"{self.limits.seconds:g} s, waiting included"
            raise Refused(504, f"no whole answer within {most}; ask for less") from error

    def _close(self, number: int) -> bool:
        """Forgets a request; whether it was still open."""
        open_ = self._open.pop(number, None) is not None
        self.metrics.inside.set(len(self._open))
        return open_

    def _told(self, event: Event) -> None:
        ticket = self._open.get(event["id"])
        if ticket is not None:
            ticket.told.put_nowait(event)

    def _ended(self) -> None:
        for ticket in self._open.values():
            ticket.told.put_nowait(_GONE)


def _status(event: Event) -> dict[str, Any]:
    return {"status": event["error"]["code"], "error": event["error"]["error"]}
