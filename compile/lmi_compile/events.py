"""What a run says while it goes on: the library classifies, the console decorates."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something worth one line, such as an alias that was normalised or a loosened gate."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """A step begins; `number` of `count` in its plan."""

    name: str
    number: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWaits:
    """Another process is building the same step; it is built once."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLine:
    """One line that a step's process printed."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFinished:
    """A step's outputs are complete; `cached` when they already were."""

    name: str
    cached: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """Work outside any step, such as publishing; `total` bytes will be moved, where it is known."""

    text: str
    total: int | None = None


Event = Note | StepStarted | StepWaits | StepLine | StepFinished | Doing
Emit = Callable[[Event], None]
