"""How inputs of a step reach a node of a Ray cluster, and how outputs and log come back."""

import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Protocol

from lmi_artifacts.digest import JSONValue
from lmi_compile.depot import Depot
from lmi_compile.errors import Transient
from lmi_compile.executors.ray_task import MountedTask, StoredTask, Task
from lmi_compile.place import expected_of
from lmi_compile.settings import Settings
from lmi_compile.step import Step
from lmi_compile.workspace import Staging, key_of

Inputs = Mapping[str, Path]


class Way(Protocol):
    """Of one try of one step."""

    @property
    def began(self) -> bool:
        """Whether the step is known to have begun."""

    def made(self) -> bool:
        """Whether somebody has made the outputs before; then they are in their place."""

    def task(self, step: Step, inputs: Inputs, settings: Settings) -> Task:
        """What the node is told."""

    def look(self) -> None:
        """Pass on what is new in the log."""

    def ended(self, answer: Mapping[str, JSONValue]) -> None:
        """The log is all there."""

    def take(self) -> None:
        """Put the outputs in their place.

        Raises:
            CompileError: they are not to be had.
        """


@dataclass(slots=True)
class Mounted:
    """Every node sees the cache: a try has a directory of its own in the step's staging."""

    staging: Staging
    on_line: Callable[[str], None]
    _place: Staging = field(init=False)
    _at: int = 0
    _rest: bytes = b""

    def __post_init__(self) -> None:
        self._place = Staging.at(self.staging.root / f"try-{uuid.uuid4().hex[:12]}")

    @property
    def began(self) -> bool:
        """Whether its log is there."""
        return self._place.log.exists()

    def made(self) -> bool:
        """The cache has been looked at."""
        return False

    def task(self, step: Step, inputs: Inputs, settings: Settings) -> Task:
        """Run it in that directory."""
        return MountedTask(
            step=step,
            inputs=inputs,
            root=self._place.root,
            expected=expected_of(step),
            settings=on_node(settings),
        )

    def look(self) -> None:
        """Read on where the last look ended."""
        if not self.began:
            return
        with self._place.log.open("rb") as log:
            log.seek(self._at)
            new = log.read()
        self._at += len(new)
        with self.staging.log.open("ab") as kept:
            kept.write(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for line in lines:
            self.on_line(line.decode(errors="replace").rstrip())

    def ended(self, answer: Mapping[str, JSONValue]) -> None:
        """It has been read."""
        del answer

    def take(self) -> None:
        """Rename them."""
        self._place.out.replace(self.staging.out)
        shutil.rmtree(self._place.root, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Stored:
    """Nodes reach one registry and have caches of their own; the log comes with the answer."""

    depot: Depot
    sharing: Lock
    staging: Staging
    on_line: Callable[[str], None]
    began: bool = False

    def made(self) -> bool:
        """Look into the registry, where a driver that died had them put."""
        return self.depot.get(self.staging.key, self.staging.out)

    def task(self, step: Step, inputs: Inputs, settings: Settings) -> Task:
        """Run it there; what it needs is in the registry from now on."""
        keys = {name: key_of(path) for name, path in inputs.items()}
        with self.sharing:  # two steps may need the same
            for name, key in keys.items():
                if not self.depot.has(key):
                    self.depot.put(key, inputs[name])
        return StoredTask(
            step=step,
            inputs=keys,
            key=self.staging.key,
            store=str(settings.ray_store),
            expected=expected_of(step),
            settings=on_node(settings),
        )

    def look(self) -> None:
        """Nothing comes before the end."""

    def ended(self, answer: Mapping[str, JSONValue]) -> None:
        """Keep what came and pass it on."""
        log = str(answer["log"])
        self.staging.log.write_text(log, encoding="utf-8")
        for line in log.splitlines():
            self.on_line(line)

    def take(self) -> None:
        """Fetch them.

        Raises:
            Transient: they have not all arrived.
        """
        if not self.made():
            what = f"the step's outputs are not whole in {self.depot.url}"
            raise Transient(what, fix="run the same command again")


def way_of(settings: Settings) -> Callable[[Staging, Callable[[str], None]], Way]:
    """What makes the way of a try.

    Raises:
        CompileError: the registry that the settings name cannot be opened.
    """
    if settings.ray_store is None:
        return Mounted
    depot, sharing = Depot(settings.ray_store), Lock()
    return lambda staging, on_line: Stored(depot, sharing, staging, on_line)


def on_node(settings: Settings) -> Settings:
    """What a node runs the step with."""
    return replace(settings, executor=settings.executor.partition("+")[2] or "local")
