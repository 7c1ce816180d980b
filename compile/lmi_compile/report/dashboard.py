"""The dashboard: a folder of static pages over the history that a registry keeps.

`index.html`, `logs/*.txt` and `verdicts/*.html` ask nothing of the network: they can be opened from
a disk, or be put behind any web server.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: TID253 - named only by the verb
from markupsafe import Markup

from lmi_artifacts.errors import ArtifactsError
from lmi_artifacts.files import replace_file
from lmi_artifacts.registry import Registry
from lmi_artifacts.statement import VERDICT
from lmi_compile.matrix.history import changed_fields, read_log
from lmi_compile.report.board import Board, Line, Point, board
from lmi_compile.report.page import page
from lmi_compile.report.records import Record
from lmi_verify.errors import VerifyError
from lmi_verify.verdict import from_json

_POINTS = 30
_TONES = {"built": "ok", "cached": "ok", "quarantined": "hm", "cancelled": "hm",
          "interrupted": "hm", "unverified": "hm"}  # fmt: skip
_MARKS = {"built": "✓", "cached": "✓", "quarantined": "‖", "cancelled": "-",
          "interrupted": "-", "unverified": "?"}  # fmt: skip
_SMALL = 1e-3
_MINUTE, _HOUR = 60, 3600


def write_dashboard(registry: Registry, runs: Sequence[Record], folder: Path) -> Path:
    """Write the pages.

    Args:
        registry: whose history it is; logs, plans and verdicts are read from it.
        runs: newest first.
        folder: made where it is not there; pages of the same name are replaced.

    Returns:
        The path of `index.html`.

    Raises:
        OSError: the folder cannot be written.
    """
    shown = board(runs)
    logs = {line.name: _write_log(registry, line, folder) for line in shown.trouble}
    verdicts = {line.name: _write_verdict(registry, line, folder) for line in shown.lines}
    changes = {line.name: _changes(registry, line) for line in shown.trouble}
    index = folder / "index.html"
    _write(index, render(shown, logs=logs, verdicts=verdicts, changes=changes))
    return index


def render(
    shown: Board,
    *,
    logs: Mapping[str, str],
    verdicts: Mapping[str, str],
    changes: Mapping[str, tuple[str, ...] | None],
) -> str:
    """The main page; links are relative, empty where there is nothing to link to."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "bytes": size, "day": _day, "figure": _figure}
    return environment.get_template("dashboard.html.j2").render(
        board=shown,
        newest=shown.nights[0] if shown.nights else None,
        tone=lambda state: _TONES.get(state, "no"),
        mark=lambda state: _MARKS.get(state, "✗"),
        trend=trend,
        recent=lambda line: line.points[-_POINTS:],
        nightly=shown.nights[:_POINTS],
        logs=logs,
        verdicts=verdicts,
        changes=changes,
    )


def trend(points: Sequence[Point], value: Callable[[Point], float] | str) -> Markup:
    """A line of the values above zero, oldest first; nothing where there are fewer than two."""
    read = (lambda point: float(getattr(point, value))) if isinstance(value, str) else value
    values = [found for found in map(read, points) if found > 0]
    if len(values) < 2:  # noqa: PLR2004 - a line has two ends
        return Markup("")
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = 96 / (len(values) - 1)
    places = [
        (
            round(2 + number * step, 1),
            round(20 - 16 * (found - low) / span, 1) if high > low else 12,
        )
        for number, found in enumerate(values)
    ]
    path = " ".join(f"{x},{y}" for x, y in places)
    x, y = places[-1]
    return Markup(  # noqa: S704 - numbers of ours, and nothing else
        f'<svg class="trend" viewBox="0 0 100 24" aria-hidden="true"><polyline points="{path}"/>'
        f'<circle cx="{x}" cy="{y}" r="2.4"/></svg>'
    )


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"


def size(count: float) -> str:
    """Bytes as people read them, in powers of ten."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def _day(stamp: str) -> str:
    return stamp.replace("T", " ").removesuffix("Z")[:16]


def _figure(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.2e}" if 0 < abs(value) < _SMALL else f"{value:.4g}"


def _write_log(registry: Registry, line: Line, folder: Path) -> str:
    log = read_log(registry, line.run, line.name)
    if not log:
        return ""
    where = f"logs/{line.run}-{line.name}.txt"
    _write(folder / where, log.decode(errors="replace"))
    return where


def _write_verdict(registry: Registry, line: Line, folder: Path) -> str:
    """The page of its newest artifact's verdict; nothing where that cannot be read any more."""
    if not line.artifact:
        return ""
    try:
        said = registry.statements(registry.resolve(line.artifact))
        verdict = next(one.predicate for one in reversed(said) if one.predicate_type == VERDICT)
        text = page(from_json(dict(verdict)), line.artifact)
    except (ArtifactsError, VerifyError, StopIteration):
        return ""
    where = f"verdicts/{line.name}.html"
    _write(folder / where, text)
    return where


def _changes(registry: Registry, line: Line) -> tuple[str, ...] | None:
    broke = line.broke
    if broke is None or not broke.green or not broke.red or broke.green == broke.red:
        return ()
    return changed_fields(registry, broke.green, broke.red)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode())
