"""What a dashboard shows, worked out from the history. Pure: runs in, a board out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lmi_compile.report.records import (
    Record,
    builds_of,
    counts_of,
    error_of,
    figures_of,
    seconds_of,
    size_of,
    text_of,
)

GREEN = ("built", "cached")
_SHOWN = (
    "name", "state", "reason", "toolchain", "target", "dtype", "quantization", "decision", "proof",
)  # fmt: skip
_NO_VERDICT = ("cancelled", "interrupted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One build in one run."""

    run: str
    started: str
    state: str
    seconds: float
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Broke:
    """When a build that is not green stopped being so.

    Attributes:
        since: the first run of the red ones in a row.
        run: that run's id.
        green: the plan key when it was last green; empty if it never was.
        red: the plan key since.
        last_green: when it was last green; empty if it never was.
    """

    since: str
    run: str
    green: str
    red: str
    last_green: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One build over time.

    Attributes:
        build: what came of it in the newest run that had it.
        run: that run's id.
        stale: the newest run did not have it.
        points: oldest first.
        figures: (metric, measured, limit) of its newest verdict.
        seconds: of the newest run in which it was really built; 0 if it never was.
        size: of its newest artifact that a run made.
        artifact: the newest one.
        broke: for what is not green.
    """

    build: Record
    run: str
    stale: bool
    points: tuple[Point, ...]
    figures: tuple[tuple[str, float | None, float | None], ...]
    seconds: float
    size: int
    artifact: str
    broke: Broke | None

    @property
    def name(self) -> str:
        """Of the build."""
        return text_of(self.build, "name")

    @property
    def state(self) -> str:
        """Of the newest run that had it."""
        return text_of(self.build, "state")

    @property
    def standing(self) -> str:
        """Its state; what was built and could not be judged is not shown as good."""
        unjudged = text_of(self.build, "decision") == "UNVERIFIED"
        return "unverified" if unjudged and self.state in GREEN else self.state

    @property
    def error(self) -> dict[str, str]:
        """What it failed with; every part is there, empty where nothing is known."""
        return {**dict.fromkeys(("kind", "what", "why", "fix", "step"), ""), **error_of(self.build)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the matrix: one model in one form, on every target that it is built for."""

    model: str
    form: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """One run, in a line."""

    id: str
    started: str
    seconds: float
    executor: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """All of it."""

    lines: tuple[Line, ...]
    rows: tuple[Row, ...]
    nights: tuple[Night, ...]

    @property
    def trouble(self) -> tuple[Line, ...]:
        """What is not green, quarantined last."""
        found = [line for line in self.lines if line.state not in GREEN]
        return tuple(sorted(found, key=lambda line: line.state == "quarantined"))


def board(runs: Sequence[Record]) -> Board:
    """Work it out.

    Args:
        runs: newest first.
    """
    lines = tuple(_line(name, runs) for name in _names(runs))
    return Board(lines=lines, rows=_rows(lines), nights=tuple(map(_night, runs)))


def _names(runs: Sequence[Record]) -> list[str]:
    """Every build there ever was, in the newest run's order and then by age."""
    found: dict[str, None] = {}
    for run in runs:
        found |= dict.fromkeys(text_of(build, "name") for build in builds_of(run))
    return list(found)


def _line(name: str, runs: Sequence[Record]) -> Line:
    met = list(_met(name, runs))
    run, newest = met[0]
    built = [build for _, build in met if text_of(build, "state") == "built"]
    judged = next((build for _, build in met if figures_of(build)), newest)
    made = next((build for _, build in met if text_of(build, "artifact")), newest)
    return Line(
        build={**dict.fromkeys(_SHOWN), **newest},
        run=text_of(run, "id"),
        stale=run is not runs[0],
        points=tuple(_point(run, build) for run, build in reversed(met)),
        figures=tuple((metric, *pair) for metric, pair in figures_of(judged).items()),
        seconds=next(map(seconds_of, built), 0.0),
        size=next((size for size in map(size_of, built) if size), 0),
        artifact=text_of(made, "artifact"),
        broke=_broke(met),
    )


def _met(name: str, runs: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
    for run in runs:
        for build in builds_of(run):
            if text_of(build, "name") == name:
                yield run, build


def _broke(met: Sequence[tuple[Record, Record]]) -> Broke | None:
    """From the newest run back to the last green one, past what says nothing."""
    red: tuple[Record, Record] | None = None
    for run, build in met:
        state = text_of(build, "state")
        if state in GREEN:
            return _between(red, run, build) if red else None
        if state not in _NO_VERDICT:
            red = run, build
    return _between(red, None, None) if red else None


def _between(red: tuple[Record, Record], run: Record | None, green: Record | None) -> Broke:
    return Broke(
        since=text_of(red[0], "started"),
        run=text_of(red[0], "id"),
        red=text_of(red[1], "plan_key"),
        green=text_of(green or {}, "plan_key"),
        last_green=text_of(run or {}, "started"),
    )


def _point(run: Record, build: Record) -> Point:
    return Point(
        run=text_of(run, "id"),
        started=text_of(run, "started"),
        state=text_of(build, "state"),
        seconds=seconds_of(build),
        size=size_of(build),
    )


def _rows(lines: Sequence[Line]) -> tuple[Row, ...]:
    grouped: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        grouped.setdefault((_model(line.build), _form(line.build)), []).append(line)
    return tuple(
        Row(model=model, form=form, lines=tuple(sorted(own, key=lambda one: one.name)))
        for (model, form), own in sorted(grouped.items())
    )


def _model(build: Record) -> str:
    model = text_of(build, "model").rstrip("/")
    return model.rpartition("/")[2].partition("#")[0] or text_of(build, "name")


def _form(build: Record) -> str:
    method = text_of(build, "quantization")
    parts = [text_of(build, "dtype"), "" if method == "none" else method, text_of(build, "backend")]
    return " · ".join(part for part in parts if part)


def _night(run: Record) -> Night:
    seconds = run.get("seconds")
    return Night(
        id=text_of(run, "id"),
        started=text_of(run, "started"),
        seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
        executor=text_of(run, "executor"),
        counts=counts_of(run),
    )
