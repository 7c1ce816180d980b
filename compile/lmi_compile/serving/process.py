"""The packaged runtime in a process of its own.

The tree brings its own worker (`lmi_aoti_runtime.pipe`, which says what goes over the pipe). A
process apart leaves the event loop free while a step runs, and leaves the server standing when a
compiled library ends its process; then the worker is started anew.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmi_artifacts.errors import ArtifactRefused
from lmi_compile.errors import EnvironmentFault

_RUNTIME = "lmi_aoti_runtime"
_TEXTS, _ONE_PASS = "pipe", "one_pass_pipe"
_PROTOCOL = 1
_LINE_BYTES = 1 << 26
_KEPT_LINES = 20
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What the worker said about itself when it was ready.

    Attributes:
        name: Of the package.
        max_batch_size: So many requests, or items of one, run together.
        max_seq_len: Tokens of a prompt and its continuation; None of a model of one pass.
        takes: What a request may hold, in words.
        threads: Of the compiled graphs.
    """

    name: str
    max_batch_size: int
    max_seq_len: int | None
    takes: str
    threads: int


class WorkerProcess:
    """Starts the worker, writes to it, says what it told, starts it again when it ended.

    Attributes:
        one_pass: Whether the model answers in one pass, instead of writing texts.
        on_told: Called with each thing it tells about a request.
        on_end: Called when it ended, and with it all it was doing.
        on_restart: Called when it is back.
        on_line: Called with each line that it logs.
    """

    def __init__(self, tree: Path, loading_seconds: float, on_line: Callable[[str], None]) -> None:
        """For the packaged tree at `tree`.

        Raises:
            ArtifactRefused: It is not a tree that can be served like this.
        """
        self._module = _module(tree)
        self.one_pass = self._module == _ONE_PASS
        self.on_told: Callable[[Mapping[str, Any]], None] = _nothing
        self.on_end: Callable[[], None] = _nothing
        self.on_restart: Callable[[], None] = _nothing
        self.on_line = on_line
        self._tree = tree
        self._loading_seconds = loading_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._model: Model | None = None
        self._last_words: deque[str] = deque(maxlen=_KEPT_LINES)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """Whether it takes requests."""
        return self._process is not None

    @property
    def model(self) -> Model:
        """What it serves, known after `start`."""
        if self._model is None:
            raise RuntimeError("the worker has not been started")
        return self._model

    async def start(self) -> None:
        """Starts it, waits until it is ready, and keeps it running from then on.

        Raises:
            EnvironmentFault: The tree cannot be served here, and why.
        """
        process = await self._start()
        self._tasks.append(asyncio.create_task(self._keep(process)))

    async def stop(self) -> None:
        """Ends it at once."""
        process = self._process
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if process is not None:
            await _kill(process)

    async def write(self, asked: Mapping[str, Any]) -> bool:
        """Asks something of it; False when it is not there."""
        if not self.write_soon(asked) or self._process is None or self._process.stdin is None:
            return False
        with contextlib.suppress(ConnectionError):
            await self._process.stdin.drain()
        return True

    def write_soon(self, asked: Mapping[str, Any]) -> bool:
        """The same without waiting until it has been read."""
        if self._process is None or self._process.stdin is None:
            return False
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        return True

    async def _start(self) -> asyncio.subprocess.Process:
        self._last_words.clear()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"{_RUNTIME}.{self._module}",
            cwd=self._tree,
            env={**os.environ, "PYTHONPATH": str(self._tree), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            start_new_session=True,  # a terminal's Ctrl-C is for the server alone
        )
        hearing = asyncio.create_task(self._hear(process))
        self._tasks.append(hearing)
        hearing.add_done_callback(self._tasks.remove)
        try:
            async with asyncio.timeout(self._loading_seconds):
                first = await _line(process)
        except TimeoutError as error:
            await _kill(process)
            what = f"the model did not load within {self._loading_seconds:g} s"
            raise EnvironmentFault(what, "", "allow more with --loading-seconds") from error
        except BaseException:
            await _kill(process)
            raise
        self._model = await self._welcome(process, first, hearing)
        self._process = process
        return process

    async def _welcome(
        self,
        process: asyncio.subprocess.Process,
        first: Mapping[str, Any] | None,
        hearing: "asyncio.Task[None]",
    ) -> Model:
        """What the first line says; EnvironmentFault when it is no welcome."""
        ready = None if first is None else first.get("ready")
        if ready is not None and ready["protocol"] == _PROTOCOL:
            return _model(ready)
        if first is None:
            await hearing
        await _kill(process)
        if first is None:
            code, words = process.returncode, "\n".join(self._last_words)
            raise EnvironmentFault(f"the model's process ended with code {code}", words)
        if ready is not None:
            what = f"the package speaks protocol {ready['protocol']}, this server {_PROTOCOL}"
            raise EnvironmentFault(
                what, "", "package the model again, or serve it with its release"
            )
        raise EnvironmentFault("this machine cannot serve the package", first["refused"])

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        """Hands on what the worker tells; starts it anew whenever it ends."""
        while True:
            while (told := await _line(process)) is not None:
                self.on_told(told)
            self._process = None
            await process.wait()
            self.on_line(f"the model's process ended with code {process.returncode}")
            self.on_end()
            process = await self._start_again()

    async def _start_again(self) -> asyncio.subprocess.Process:
        pause = _FIRST_PAUSE
        while True:
            try:
                process = await self._start()
            except EnvironmentFault as error:
                self.on_line(f"{error}; trying again in {pause:g} s")
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self.on_restart()
                return process

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        """Its log, line by line, until it ends."""
        while line := await _stream(process.stderr).readline():
            text = line.decode("utf-8", "replace").rstrip()
            self._last_words.append(text)
            self.on_line(text)


def _model(ready: Mapping[str, Any]) -> Model:
    limits = ready["limits"]
    most, picture = limits.get("max_input_len"), limits.get("picture")
    return Model(
        name=ready["name"],
        max_batch_size=limits["max_batch_size"],
        max_seq_len=limits.get("max_seq_len"),
        takes=f"texts up to {most} tokens" if picture is None else f"pictures {picture}",
        threads=ready["threads"]["count"],
    )


def _module(tree: Path) -> str:
    """The worker that the tree brings."""
    for module in (_TEXTS, _ONE_PASS):
        if (tree / _RUNTIME / f"{module}.py").is_file():
            return module
    if (tree / "runtime.json").is_file() and (tree / _RUNTIME).is_dir():
        problem = "it was packaged before `serve` could serve it; build it again"
    else:
        problem = "`serve` runs packages of the aoti backend; a container serves the others"
    raise ArtifactRefused(str(tree), (problem,))


def _nothing(*_told: object) -> None:
    """Until somebody wants to know."""


async def _line(process: asyncio.subprocess.Process) -> Mapping[str, Any] | None:
    """The next thing the worker tells; None when it ended."""
    line = await _stream(process.stdout).readline()
    if not line.endswith(b"\n"):
        return None
    told: Mapping[str, Any] = json.loads(line)
    return told


def _stream(reader: asyncio.StreamReader | None) -> asyncio.StreamReader:
    if reader is None:
        raise RuntimeError("the worker was started without its pipes")
    return reader


async def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
