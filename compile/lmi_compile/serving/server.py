"""The listening side: sockets, signals, clients that take too long, and the drain."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn  # noqa: TID253 - `serve` alone imports this module
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle  # noqa: TID253 - the same

from lmi_compile.errors import EnvironmentFault
from lmi_compile.serving.app import make_app
from lmi_compile.serving.engine import Engine
from lmi_compile.serving.limits import Limits
from lmi_compile.serving.metrics import Metrics
from lmi_compile.serving.process import Model, WorkerProcess
from lmi_compile.serving.template import ChatTemplate

_BACKLOG = 2048
_HEAD_BYTES = 64 << 10
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, before anything is loaded.

    Raises:
        EnvironmentFault: The port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        what = f"cannot listen on {host}:{port}"
        raise EnvironmentFault(
            what, error.strerror or str(error), "choose another --port"
        ) from error
    listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return listener


def serve(
    tree: Path,
    listener: socket.socket,
    limits: Limits,
    *,
    on_line: Callable[[str], None],
    on_ready: Callable[[Model], None],
) -> None:
    """Serves a packaged tree until SIGTERM or SIGINT, then lets what runs come to its end.

    Args:
        tree: Verified.
        listener: From `listen`.
        limits: What is let in.
        on_line: Called with each line of the worker's log.
        on_ready: Called once when the model is loaded.

    Raises:
        ArtifactRefused: The tree is none that can be served like this.
        EnvironmentFault: The model cannot be loaded here.
    """
    worker = WorkerProcess(tree, limits.loading, on_line)
    template = None if worker.one_pass else ChatTemplate(tree)
    metrics = Metrics()
    worker.on_restart = metrics.restarts.inc
    engine = Engine(worker, limits, metrics)
    asyncio.run(_serve(engine, worker, template, listener, on_ready))


async def _serve(
    engine: Engine,
    worker: WorkerProcess,
    template: ChatTemplate | None,
    listener: socket.socket,
    on_ready: Callable[[Model], None],
) -> None:
    limits = engine.limits
    config = uvicorn.Config(
        make_app(engine, template),
        http=type("Patient", (_Patient,), {"patience": limits.patience}),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_keep_alive=int(limits.patience) or 1,
        timeout_graceful_shutdown=int(limits.drain),
        h11_max_incomplete_event_size=_HEAD_BYTES,
    )
    server = _Server(config)
    with server.capture_signals():
        loading = asyncio.ensure_future(worker.start())
        try:
            await server.unless_told_to_stop(loading)
            if loading.done() and not loading.cancelled():
                loading.result()
                on_ready(engine.model)
                await server.serve(sockets=[listener])
        finally:
            loading.cancel()
            await worker.stop()


class _Server(uvicorn.Server):
    """uvicorn with one handler for the whole life, the loading of the model included."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stop = asyncio.Event()
        self._held = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT begin the drain; a second one ends it."""
        if self._held:
            yield
            return
        loop = asyncio.get_running_loop()
        self._held = True
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def unless_told_to_stop(self, work: "asyncio.Future[Any]") -> None:
        """Waits for `work`, or for a signal."""
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()

    def _told(self, number: signal.Signals) -> None:
        self._stop.set()
        self.handle_exit(number, None)


class _Patient(H11Protocol):
    """Uvicorn's protocol, with a limit on how long a request's head may take to come."""

    patience: float
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle  # None until the first request
        if cycle is not None and not cycle.response_complete:
            self._wait_no_longer()
        elif self._waiting is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_longer()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.patience, self._too_slow)

    def _wait_no_longer(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
            self.transport.close()
