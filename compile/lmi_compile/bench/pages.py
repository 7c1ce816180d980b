"""A run for people: CSV, a picture, and one HTML page that needs nothing beside it."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jinja2  # noqa: TID253 - only a run that writes pages imports this module
import matplotlib as mpl  # noqa: TID253 - as above
from matplotlib.axes import Axes  # noqa: TID253 - as above
from matplotlib.figure import Figure  # noqa: TID253 - as above

_TEMPLATE: Final = Path(__file__).with_name("report.html.j2")
_INK, _MUTED, _LINE, _SECOND, _GRID = "#1b2430", "#667085", "#2563eb", "#d97706", "#e4e7ec"
_TIMES: Final = (
    ("time_to_first_token", "time to first token"),
    ("inter_token", "between tokens"),
    ("latency_per_token", "latency per token"),
    ("latency", "whole answer"),
)
_STYLE: Final = {
    "font.family": "sans-serif", "font.size": 9.5, "axes.edgecolor": _GRID, "text.color": _INK,
    "axes.labelcolor": _MUTED, "xtick.color": _MUTED, "ytick.color": _MUTED,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": _GRID,
    "axes.axisbelow": True, "svg.fonttype": "none", "svg.hashsalt": "lmi-compile",
}  # fmt: skip
Draw = Callable[[Axes, Mapping[str, Any]], None]


def write_pages(
    report: Mapping[str, Any], folder: Path, comparison: Mapping[str, Any] | None = None
) -> tuple[Path, ...]:
    """Write `bench.csv`, `bench.png` and `bench.html`.

    Raises:
        OSError: the folder cannot be written.
    """
    paths = tuple(folder / f"bench.{kind}" for kind in ("csv", "png", "html"))
    paths[0].write_text(csv_text(report), encoding="utf-8")
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 7.6), layout="constrained")
        for axes, draw in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
            draw(axes, report)
        figure.suptitle(str(report["asked"]["subject"]), fontsize=11, color=_INK)
        figure.savefig(paths[1], dpi=130, metadata={"Software": None})
    paths[2].write_text(page(report, comparison), encoding="utf-8")
    return paths


def page(report: Mapping[str, Any], comparison: Mapping[str, Any] | None = None) -> str:
    """The HTML page of a run, or of a comparison with the run before it."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"ms": _ms, "interval": _interval, "number": _number}
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        report=report,
        comparison=comparison,
        charts=_charts(report),
        times=_TIMES,
        best=_best(report),
    )


def csv_text(report: Mapping[str, Any]) -> str:
    """One row for each level: seconds and tokens, each timed figure with its interval."""
    rows = [_flat(level) for level in report["levels"]]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["concurrency"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _flat(level: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in level.items():
        if key == "errors":
            found["errors"] = sum(value.values())
        elif isinstance(value, Mapping):
            found |= _flat(value, f"{name}{key}_")
        else:
            found[f"{name}{key}".removesuffix("_value")] = value
    return found


def _charts(report: Mapping[str, Any]) -> list[str]:
    """Each panel as SVG, so that a narrow screen can put them below one another."""
    charts = []
    with mpl.rc_context(_STYLE):
        for draw in _PANELS:
            figure = Figure(figsize=(4.8, 3.3), layout="constrained")
            draw(figure.subplots(), report)
            out = io.StringIO()
            figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
            text = out.getvalue()
            charts.append(text[text.index("<svg") :])
    return charts


def _points(report: Mapping[str, Any], *path: str) -> tuple[list[int], list[dict[str, Any]]]:
    at, found = [], []
    for level in report["levels"]:
        value: Any = level
        for name in path:
            value = None if value is None else value[name]
        if value is not None:
            at.append(int(level["concurrency"]))
            found.append(value)
    return at, found


def _curve(axes: Axes, found: tuple[list[int], list[dict[str, Any]]], **style: Any) -> None:  # noqa: ANN401 - matplotlib's own words
    factor = style.pop("factor", 1.0)
    at, figures = found
    values = [one["value"] * factor for one in figures]
    axes.plot(at, values, marker="o", markersize=4, linewidth=1.8, **style)
    bounded = [
        (x, f["low"], f["high"]) for x, f in zip(at, figures, strict=True) if f["low"] and f["high"]
    ]
    if bounded:
        xs, lows, highs = zip(*bounded, strict=True)
        low, high = [v * factor for v in lows], [v * factor for v in highs]
        axes.fill_between(xs, low, high, alpha=0.15, linewidth=0, color=style["color"])


def _axes(axes: Axes, report: Mapping[str, Any], title: str) -> None:
    at = [int(level["concurrency"]) for level in report["levels"]]
    axes.set_xscale("log", base=2)
    axes.set_xticks(at, [str(one) for one in at])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("concurrent requests")
    axes.set_title(title, loc="left", fontsize=10, color=_INK)


def _throughput(axes: Axes, report: Mapping[str, Any]) -> None:
    found = _points(report, "tokens_per_second")
    _curve(axes, found, color=_LINE)
    _axes(axes, report, "Throughput, output tokens/s (band: 95 %)")
    if report["knee"] in found[0]:
        value = found[1][found[0].index(report["knee"])]["value"]
        axes.plot([report["knee"]], [value], "o", markersize=9, color=_SECOND)
        axes.annotate(
            f"knee: {report['knee']}", (report["knee"], value), textcoords="offset points",
            xytext=(0, -18), color=_SECOND, fontsize=9, ha="center",
        )  # fmt: skip


def _timed(name: str, title: str) -> Draw:
    def draw(axes: Axes, report: Mapping[str, Any]) -> None:
        for percent, color in (("p50", _LINE), ("p99", _SECOND)):
            found = _points(report, name, percent)
            _curve(axes, found, color=color, factor=1000.0, label=percent)
        _axes(axes, report, title)
        if axes.has_data():
            axes.legend(frameon=False, fontsize=9)

    return draw


_PANELS: Final[Sequence[Draw]] = (
    _throughput,
    _timed("time_to_first_token", "Time to first token, ms"),
    _timed("inter_token", "Between tokens, ms"),
    _timed("latency", "Whole answer, ms"),
)


def _best(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return max(
        report["levels"], key=lambda level: level["tokens_per_second"]["value"], default=None
    )


def _ms(figure: Mapping[str, float] | None) -> str:
    return "-" if figure is None else _number(figure["value"] * 1000)


def _interval(figure: Mapping[str, float | None] | None, factor: float = 1.0) -> str:
    low, high = (figure["low"], figure["high"]) if figure is not None else (None, None)
    if low is None or high is None:
        return ""
    return f"{_number(low * factor)} to {_number(high * factor)}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"  # noqa: PLR2004 - three digits
