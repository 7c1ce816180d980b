"""The container executor: a toolchain's steps run in its pinned image and see nothing else.

Steps of the host (`where: host`) stay on the host. The others see their inputs, read-only, their
output directory and a scratch directory, each under the path that it has here, so that the same
command line means the same as with the local executor. They run without a network, without
capabilities, on a read-only root, and as root only where the image can do nothing else.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from threading import Event, Lock, Timer
from typing import Any

import docker  # noqa: TID253 - imported when a container is asked for

from lmi_artifacts.digest import JSONValue
from lmi_compile.backends.aoti.runtime.threads import decide
from lmi_compile.errors import CompileError, EnvironmentFault, ToolFailed
from lmi_compile.events import Emit, Note
from lmi_compile.executors.container_place import Limits, create_options, given_back, user_for
from lmi_compile.executors.ending import check_outputs, failure, keep_log, out_of_time
from lmi_compile.executors.engine import (
    address,
    connect,
    digests_of,
    engine_faults,
    find_image,
)
from lmi_compile.executors.leash import leashed
from lmi_compile.executors.local import run_step
from lmi_compile.executors.request import command, environment
from lmi_compile.executors.running import Running
from lmi_compile.place import expected_of
from lmi_compile.plan import Plan
from lmi_compile.step import Step
from lmi_compile.workspace import Staging
from lmi_recipes.toolchain import Image

_KILLED = 137
_REMOVAL_SECONDS = 30.0
_LOOK_SECONDS = 0.1
_NOT_FOUND = 127  # the engine's own first process says so


@dataclass(slots=True, kw_only=True)
class Containers:
    """The executor.

    Attributes:
        image: for steps whose toolchain names no image, or another place where it is.
        pull: fetch an image that the engine lacks.
        mounts: further folders of this machine that every step may read.
        offline: steps of the host may not use the network.
        limits: what one container may take, where its step does not say.
        emit: told what is worth a line.
        running: lets another thread end its containers.
    """

    image: str | None = None
    pull: bool = False
    mounts: tuple[Path, ...] = ()
    offline: bool = False
    limits: Limits = field(default_factory=Limits)
    emit: Emit = lambda _: None
    running: Running = field(default_factory=Running)
    _lock: Lock = field(default_factory=Lock)
    _client: Any = None
    _found: dict[Image, Any] = field(default_factory=dict)

    def prepare(self, plan: Plan) -> None:
        """Hold that the engine answers and has the image of every step that it will run.

        Raises:
            EnvironmentFault: it does not.
        """
        for planned in plan.steps:
            if planned.step.where != "host":
                self._image_of(planned.step)

    def __call__(
        self,
        step: Step,
        inputs: Mapping[str, Path],
        staging: Staging,
        on_line: Callable[[str], None],
        *,
        expected: Mapping[str, JSONValue] | None = None,
    ) -> Mapping[str, JSONValue]:
        """Run `step` in its image, or on the host where it belongs there.

        `expected` is what a call's place must be like, where another machine planned it.
        """
        if step.where == "host":
            return run_step(
                step,
                inputs,
                staging,
                on_line,
                offline=self.offline,
                expected=expected,
                running=self.running,
            )
        image = self._image_of(step)
        user = user_for(step, image)
        name = f"lmi-compile-{uuid.uuid4().hex}"
        ground = expected or expected_of(step)
        argv = command(step, inputs, staging, python="python3", expected=ground)
        options = create_options(step, inputs, staging, self.mounts, self.limits)
        options |= {
            "entrypoint": argv[:1],
            "command": argv[1:],
            "environment": environment(step, inputs, staging, threads=decide().count)
            | options.pop("paths")
            | {"HOME": str(staging.tmp)},
            "user": f"{user[0]}:{user[1]}",
        }
        with (
            engine_faults(step.name),
            given_back(staging, inputs, user),
            leashed("container", f"{address()}#{name}"),
            self._container(name, image, options) as container,
            self.running.held(step.name, lambda: _remove(self._engine(), container.id)),
        ):
            _follow(container, step, staging, on_line)
        check_outputs(step, staging)
        return {"executor": "container", "image": str(image.id), "digests": [*digests_of(image)]}

    @contextmanager
    def _container(self, name: str, image: Any, options: Mapping[str, Any]) -> Iterator[Any]:
        """A container that is gone afterwards, however this ends."""
        client = self._engine()
        try:
            yield client.containers.create(image.id, name=name, **options)
        finally:
            _remove(client, name)

    def _engine(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = connect()
            return self._client

    def _image_of(self, step: Step) -> Any:
        wanted = self._wanted(step)
        client = self._engine()
        with self._lock:
            if wanted not in self._found:
                self._found[wanted] = found = find_image(client, wanted, pull=self.pull)
                if wanted.digest is None:
                    text = f"image {wanted.reference} is unpinned; it is {digests_of(found)[0]}"
                    self.emit(Note(text=text))
            return self._found[wanted]

    def _wanted(self, step: Step) -> Image:
        """The toolchain's image; --image says where it is, the toolchain's digest still holds."""
        own = step.image
        if self.image is None:
            if own is None:
                what = f"step {step.name}: its toolchain names no image"
                raise EnvironmentFault(what, fix="name one with --image, or --executor local")
            return own
        reference, _, digest = self.image.partition("@")
        pinned = own.digest if own is not None else None
        if pinned and digest and pinned != digest:
            what = f"--image {self.image} is not the image that the toolchain pins"
            raise EnvironmentFault(what, f"it pins {pinned}", "leave the digest to the toolchain")
        root = own is not None and own.root
        return Image(reference=reference, digest=pinned or digest or None, root=root)


def _follow(container: Any, step: Step, staging: Staging, on_line: Callable[[str], None]) -> None:
    """Start it, pass its lines on, and say how it ended if it did not end well."""
    output = container.attach(stdout=True, stderr=True, stream=True, logs=False)
    container.start()
    seconds = step.resources.timeout_seconds
    rang = Event()

    def ring() -> None:
        rang.set()
        with suppress(docker.errors.APIError):
            container.kill()

    alarm = Timer(seconds or 0.0, ring)
    alarm.daemon = True
    if seconds:
        alarm.start()
    try:
        last = keep_log(_lines(output), staging, on_line)
        code = int(container.wait()["StatusCode"])
    finally:
        alarm.cancel()
        output.close()
        output._response.close()  # noqa: SLF001 - close() alone leaves the socket to the collector
    if rang.is_set():
        raise out_of_time(step, last)
    if code != 0:
        raise _explained(container, step, code, staging, last)


def _remove(client: Any, name: str) -> None:
    """Remove it, running or not; another thread may be at it."""
    until = time.monotonic() + _REMOVAL_SECONDS
    while time.monotonic() < until:
        try:
            client.api.remove_container(name, v=True, force=True)
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if error.status_code != HTTPStatus.CONFLICT:
                raise
            time.sleep(_LOOK_SECONDS)


def _explained(
    container: Any, step: Step, code: int, staging: Staging, last: list[str]
) -> CompileError:
    container.reload()
    if container.attrs["State"]["OOMKilled"]:
        limit = container.attrs["HostConfig"]["Memory"]
        text = f"its limit of {limit / (1 << 30):.2f} GiB" if limit else "this machine's memory"
        what = f"step {step.name} ran out of memory: {text} (exit {_KILLED})"
        fix = "run it on a machine with more memory, or build with smaller shapes"
        return ToolFailed(what, "\n".join(last), fix)
    if code == _NOT_FOUND and last and "exec" in last[-1]:
        what = f"step {step.name}: its program is not in the image"
        return EnvironmentFault(what, last[-1], "use the toolchain's own image")
    return failure(step, code, staging, last)


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines of a stream that comes in pieces."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest
